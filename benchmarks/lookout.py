"""What it costs a worker to look where its event loop stands, beside the same without.

A process as a worker is: asyncio's metered loop, as many threads as a worker has, the evidence
thread with its ten lines a second, and stacks as deep as a request's. Looking on and off take
turns, A B A B, while the loop waits for events, stands in a call, and computes. Of each turn: the
CPU of the evidence thread as a share of a core, and how many steps of work the loop made a second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from statistics import median
from typing import Any

from lab.services.backend.core.evidence import EvidenceWriter, MeteredLoop
from lab.services.backend.core.standing import Lookout
from lab.services.backend.core.uploads import UploadLog

TURN_S = 3.0
PAIRS = 4
THREADS = 40
"""Threads of a worker: its executors', anyio's, and its own."""
DEPTH = 60
"""Frames on the stack of a request: middleware, router, endpoint, client library."""

Figures = dict[str, float]
Work = Callable[[float], int]


def wait(_until: float) -> int:
    """Nothing: the loop goes back to its selector."""
    return 1


def stand(_until: float) -> int:
    """A call that lasts and computes nothing."""
    time.sleep(0.1)
    return 1


def compute(until: float) -> int:
    """Work of the loop's own, for a tenth of a second."""
    steps, end = 0, min(until, time.monotonic() + 0.1)
    while time.monotonic() < end:
        steps += 1
    return steps


LOADS: dict[str, tuple[Work, float]] = {
    "waits": (wait, 0.01),
    "stands in a call": (stand, 0.0),
    "computes": (compute, 0.0),
}
"""What the loop does, and for how long it sleeps between."""


def main() -> int:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print figures as JSON")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="turns of each way")
    flags = parser.parse_args()
    never = threading.Event()
    for _ in range(THREADS):
        threading.Thread(target=never.wait, daemon=True).start()
    figures = {name: measure(load, flags.pairs) for name, load in LOADS.items()}
    if flags.json:
        print(json.dumps({"lookout": figures}, indent=2))
    else:
        print_table(figures)
    return 0


def measure(load: tuple[Work, float], pairs: int) -> Figures:
    """Medians of a load's turns with looking and without, and the difference that it makes."""
    turns: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for _ in range(pairs):
        for on, of in turns.items():
            of.append(turn(load, looking=on))
    cpu, rate = ({on: median(one[at] for one in of) for on, of in turns.items()} for at in (0, 1))
    return {
        "with, % of a core": cpu[True] * 100,
        "without, % of a core": cpu[False] * 100,
        "looking, % of a core": (cpu[True] - cpu[False]) * 100,
        "work with / without": rate[True] / rate[False],
    }


def turn(load: tuple[Work, float], *, looking: bool) -> tuple[float, float]:
    """The evidence thread's share of a core, and steps of work a second, in one turn."""
    with asyncio.Runner(loop_factory=MeteredLoop) as runner:
        return runner.run(serve(*load, looking=looking))


async def serve(work: Work, pause: float, *, looking: bool) -> tuple[float, float]:
    """Be a worker's loop for one turn."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, MeteredLoop)
    lookout = Lookout(loop.meter, threading.get_ident()) if looking else None
    with tempfile.TemporaryDirectory() as folder:
        stood = lookout.seconds if lookout else dict
        writer = EvidenceWriter(Path(folder), lambda: {"stood": stood()}, UploadLog(), lookout)
        writer.start()
        [thread] = [one for one in threading.enumerate() if one.name == "evidence"]
        assert thread.ident is not None
        clock = time.pthread_getcpuclockid(thread.ident)
        steps, begun, used = 0, time.monotonic(), time.clock_gettime(clock)
        while (now := time.monotonic()) < begun + TURN_S:
            steps += await nested(DEPTH, lambda: work(begun + TURN_S))
            await asyncio.sleep(pause)
        used, took = time.clock_gettime(clock) - used, now - begun
        writer.close()
    return used / took, steps / took


def nested(depth: int, work: Callable[[], int]) -> Coroutine[Any, Any, int]:
    """Work as deep on the stack as a request's: half of it coroutines, half of it calls."""

    def call(left: int) -> int:
        return call(left - 1) if left else work()

    async def wrap(left: int) -> int:
        return await wrap(left - 1) if left else call(depth // 2)

    return wrap(depth // 2)


def print_table(figures: dict[str, Figures]) -> None:
    """A row for each load."""
    heads = list(next(iter(figures.values())))
    print(f"{'the event loop':20}" + "".join(f"{head:>24}" for head in heads))
    for name, of in figures.items():
        print(f"{name:20}" + "".join(f"{of[head]:24.3f}" for head in heads))


if __name__ == "__main__":
    sys.exit(main())
