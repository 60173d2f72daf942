"""From one cell to the next, and a matrix's wall time against the load it offers.

Two ratios of one run, both on the embedded stack with its own Toxiproxy:

    next cell / cold start   moving on by `apply`, against closing the stack and a new one,
                             in pairs, for a change of nothing, of nginx and of the backend
    wall / load              a matrix of four cells: wall time of the whole run, divided by
                             the sum of its loads' durations

Usage: python -m benchmarks.cells [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from lab.model.experiment import Cell
from lab.model.knobs import Knobs
from lab.model.load import ClosedLoad, end_of
from lab.stack.embedded import EmbeddedStack

PAIRS = 2
SPEED = 5
CHANGES: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "nothing": ({}, {}),
    "nginx": ({"nginx": "as-found"}, {"nginx": "recommended"}),
    "backend": ({"pool_size": 5}, {"pool_size": 10}),
}
LOAD = ClosedLoad.model_validate(
    {"users": 10, "ramp": "2 s", "warmup": "5 s", "window": "40 s", "audio": "50 KB"}
)
SPEC = f"""
experiment: bench
about: what a run of short cells takes beside its load
knobs: {{gcs_call: executor, speed: {SPEED}}}
matrix: {{pool_size: [5, 6, 7, 8]}}
load: {{users: 10, ramp: 2 s, warmup: 5 s, window: 40 s, audio: 50 KB}}
criteria: [error_rate < 5 %]
"""


@dataclass(frozen=True)
class Row:
    """One comparison: seconds of both sides (medians) and their ratio."""

    what: str
    ours_s: float
    other_s: float
    ratio: float

    def __str__(self) -> str:
        return (
            f"{self.what:<28} {self.ours_s:7.2f} s  {self.other_s:7.2f} s  ratio {self.ratio:.2f}"
        )


def _cell(settings: dict[str, object]) -> Cell:
    return Cell(
        id="bench",
        axes={},
        knobs=Knobs().with_settings(settings),
        load=LOAD,
        faults=(),
        criteria=(),
        seed=1,
    )


def timed(what: Callable[[], object]) -> float:
    """Wall seconds of a call."""
    start = time.perf_counter()
    what()
    return time.perf_counter() - start


def moving(results: Path) -> list[Row]:
    """Moving on to a changed cell, against a whole new replica, in pairs."""
    rows = []
    for name, (before, after) in CHANGES.items():
        ours, other = [], []
        for _ in range(PAIRS):
            stack = EmbeddedStack(results, "embedded")
            try:
                stack.apply(_cell(before))
                ours.append(timed(lambda: stack.apply(_cell(after))))  # noqa: B023 - called at once
            finally:
                closing = timed(stack.close)
            cold = EmbeddedStack(results, "embedded")
            try:
                other.append(closing + timed(lambda: cold.apply(_cell(after))))  # noqa: B023
            finally:
                cold.close()
        mine, theirs = statistics.median(ours), statistics.median(other)
        rows.append(Row(f"next cell, {name} changed", mine, theirs, mine / theirs))
    return rows


def matrix(results: Path) -> Row:
    """Wall time of a run of four cells, against the sum of its loads' durations."""
    spec = results / "bench.yaml"
    spec.write_text(SPEC)
    command = [sys.executable, "-m", "lab", "run", str(spec), "--results", str(results)]
    command += ["--stack", "embedded", "--retries", "0"]

    def run() -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    wall = timed(run)
    load = 4 * end_of(LOAD) / SPEED
    return Row("matrix of 4 cells, wall / load", wall, load, wall / load)


def main() -> None:
    """Measure and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    as_json = parser.parse_args().json
    with tempfile.TemporaryDirectory() as name:
        rows = [*moving(Path(name)), matrix(Path(name))]
    if as_json:
        found = {"benchmark": "cells", "cpus": os.cpu_count(), "rows": list(map(asdict, rows))}
        print(json.dumps(found))
    else:
        print(*rows, sep="\n")


if __name__ == "__main__":
    main()
