"""What it costs to look, four times a second, whether every process of a replica runs.

On each stack that can be had here, two workers and ten clients of Postgres: the CPU of one poll
of all parts, as a share of a core at the observer's pace, beside the same by psutil: the parts'
processes found anew and each asked for its state. Both take turns in one run.

Usage: python -m benchmarks.supervision [--rounds N] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from lab.errors import LabError
from lab.observe.watch import PARTS_S
from lab.stack.base import Stack
from lab.stack.compose import engine
from lab.stack.compose.stack import ComposeStack
from lab.stack.embedded import EmbeddedStack
from tests.fakes import make_cell
from tests.live import uploads

ROUNDS = 10
POLLS = 20
CELL = make_cell({"speed": 20, "workers": 2, "global_rate_limit": "off"})


@dataclass(frozen=True)
class Row:
    """One stack: percent of a core of both (medians), and how many times less the lab takes."""

    stack: str
    lab_percent: float
    psutil_percent: float
    times: float

    def __str__(self) -> str:
        percent = f"{self.lab_percent:6.2f} %  {self.psutil_percent:6.2f} %"
        return f"{self.stack:<10} {percent}  {self.times:6.1f} x less"


def percent_of_a_core(look: Callable[[], object]) -> float:
    """What this thread computes in a look, were there one in each of the observer's intervals."""
    began = time.thread_time()
    for _ in range(POLLS):
        look()
    return 100 * (time.thread_time() - began) / POLLS / PARTS_S


def mains(stack: Stack) -> list[int]:
    """The process that each part descends from."""
    if isinstance(stack, ComposeStack):
        containers = stack.project.containers().values()
        return [int(container.attrs["State"]["Pid"]) for container in containers]
    if isinstance(stack, EmbeddedStack):
        return [part.pids()[0] for part in stack.parts]
    raise TypeError(f"a stack of no known kind: {stack}")


def look_by_psutil(parts: list[int]) -> int:
    """The state, start and title of every process of the parts; how many there are."""
    seen = 0
    for main in map(psutil.Process, parts):
        for process in (main, *main.children(recursive=True)):
            with process.oneshot():
                process.status(), process.create_time(), process.cmdline()
            seen += 1
    return seen


def measure(stack: Stack, rounds: int) -> Row:
    """Both ways by turns, on a replica that serves."""
    uploads(stack.apply(CELL).url, 10)  # each takes a backend of Postgres'
    parts = mains(stack)
    ours, psutils = [], []
    for _ in range(rounds):
        ours.append(percent_of_a_core(stack.down_parts))
        psutils.append(percent_of_a_core(lambda: look_by_psutil(parts)))
    times = statistics.median(b / a for a, b in zip(ours, psutils, strict=True))
    kind = "compose" if isinstance(stack, ComposeStack) else "embedded"
    return Row(kind, statistics.median(ours), statistics.median(psutils), times)


def main() -> int:
    """Measure each stack that can be had here, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="turns of each way")
    parser.add_argument("--json", action="store_true", help="print JSON")
    flags = parser.parse_args()
    rows = []
    for kind in (EmbeddedStack, ComposeStack):
        with tempfile.TemporaryDirectory() as name:
            try:
                if kind is ComposeStack:
                    engine.connect().close()
                stack: Stack = kind(Path(name))
            except LabError as error:
                print(error, file=sys.stderr)
                continue
            try:
                rows.append(measure(stack, flags.rounds))
            finally:
                stack.close()
    if flags.json:
        found = {"benchmark": "supervision", "cpus": os.cpu_count()}
        print(json.dumps({**found, "rows": list(map(asdict, rows))}))
    else:
        print(f"{'':<10} {'lab':>8}  {'psutil':>8}", *rows, sep="\n")
    return 0 if rows else 1


if __name__ == "__main__":
    sys.exit(main())
