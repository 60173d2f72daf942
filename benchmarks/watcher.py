"""What the live page costs: CPU and memory of its process, while a run is written and looked at.

A run of many cells is written as a lab and its replica write one: uploads as they end, each
worker's reading ten times a second, the generator's status five times a second. `lab watch` serves
it, and so many browsers listen. Of each way: the process's CPU as a share of one core over the
time, its largest memory, and how long after an upload had ended the page told of it.

Usage: python -m benchmarks.watcher [--seconds 30] [--json]
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import psutil
import requests

from lab.model.experiment import Cell
from lab.stack import ports
from lab.store import RunFolder
from tests.fakes import make_cell, sample_run
from tests.fakes.live_run import STOOD, LiveTrial

RATE = 23.0
"""Uploads that end in a wall second: what the matrix has at its most, at its usual speed."""
READINGS_S, STATUS_S = 0.1, 0.2
SPEED = 8.0
MOST_CPU, MOST_BYTES = 0.02, 120e6
"""What the page may cost: a share of a core, and bytes."""

WAYS = (("nobody looks", 12, 1, 0), ("one browser", 12, 4, 1), ("two browsers", 12, 4, 2))
WIDE = ("100 cells, one browser", 100, 4, 1)
"""Name, cells, workers, browsers."""


@dataclass(frozen=True)
class Cost:
    """Of one way: CPU as a share of a core, bytes of memory, seconds until an upload is shown."""

    way: str
    cpu: float
    memory: float
    delay_s: float | None

    @property
    def kept(self) -> bool:
        """Whether it is within what the page may cost."""
        return self.cpu < MOST_CPU and self.memory < MOST_BYTES


def main() -> int:
    """Print the table, or JSON; 1 where the page costs more than it may."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print figures as JSON")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each way")
    flags = parser.parse_args()
    costs = [measure(*way, flags.seconds) for way in (*WAYS, WIDE)]
    if flags.json:
        print(json.dumps({"watcher": [asdict(cost) for cost in costs]}, indent=2))
    else:
        print_table(costs)
    return int(not all(cost.kept for cost in costs))


def print_table(costs: Sequence[Cost]) -> None:
    """A row a way."""
    print(f"{'':24}{'CPU of a core':>16}{'memory':>12}{'shown after':>14}")
    for cost in costs:
        delay = "-" if cost.delay_s is None else f"{cost.delay_s:.2f} s"
        print(f"{cost.way:24}{cost.cpu:>15.2%} {cost.memory / 1e6:>8.0f} MB{delay:>14}")


def measure(way: str, cells: int, workers: int, browsers: int, seconds: float) -> Cost:
    """The cost of a page, after a while in which it starts and catches up."""
    with tempfile.TemporaryDirectory(prefix="lab-watcher-") as folder:
        results = Path(folder) / "results"
        run = sample_run.create(results, [cell(number, workers) for number in range(cells)])
        for done in run.cells()[: cells - 1]:
            sample_run.measure(run, done)
        with run.lock(), serving(results) as (address, process):
            heard, going_on = Heard(), threading.Event()
            listening = [Browser(address, heard) for _ in range(browsers)]
            writer = threading.Thread(
                target=write, args=(run, run.cells()[-1], Path(folder) / "replica", going_on, heard)
            )
            writer.start()
            time.sleep(3)
            begun, before = time.monotonic(), cpu_s(process)
            peak = 0.0
            while time.monotonic() < begun + seconds:
                peak = max(peak, process.memory_info().rss)
                time.sleep(0.5)
            used, took = cpu_s(process) - before, time.monotonic() - begun
            going_on.set()
            writer.join()
        for browser in listening:
            browser.thread.join(10)
    delay = median(heard.delays) if heard.delays else None
    return Cost(way, used / took, peak, delay)


def cell(number: int, workers: int) -> Cell:
    """A cell whose load goes on for longer than the benchmark does."""
    settings = {"workers": workers, "gcs_call": "executor", "speed": SPEED}
    load = {"users": 85, "ramp": "5 s", "warmup": "10 s", "window": "30 min"}
    return make_cell(settings, cell_id=f"workers={workers},number={number}", load=load)


def cpu_s(process: psutil.Process) -> float:
    """Seconds of CPU that a process has used."""
    times = process.cpu_times()
    return float(times.user + times.system)


@contextmanager
def serving(results: Path) -> Iterator[tuple[str, psutil.Process]]:
    """``lab watch`` of these runs: its address and its process."""
    [port] = ports.free(1)
    command = ["-m", "lab", "watch", "--results", str(results), "--port", str(port)]
    with subprocess.Popen([sys.executable, *command], stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr
            found = re.search(r"http://\S+", process.stderr.readline())
            assert found, process.stderr.read()
            yield found[0], psutil.Process(process.pid)
        finally:
            process.terminate()


class Heard:
    """When each upload ended, and how long after it the page told of it."""

    def __init__(self) -> None:
        self.ended: dict[int, float] = {}
        self.delays: list[float] = []

    def told(self, failed: int) -> None:
        """The page tells of so many failures."""
        if at := self.ended.get(failed):
            self.delays.append(time.monotonic() - at)


class Browser:
    """Somebody who listens to the page's events, in a thread."""

    def __init__(self, address: str, heard: Heard) -> None:
        self._address, self._heard = address, heard
        self.thread = threading.Thread(target=self._listen, daemon=True)
        self.thread.start()

    def _listen(self) -> None:
        with requests.get(f"{self._address}/events", stream=True, timeout=60) as answer:
            for line in answer.iter_lines(chunk_size=1):
                if found := re.search(rb"(\d+) failed", line):
                    self._heard.told(int(found[1]))


def write(run: RunFolder, of: Cell, replica: Path, end: threading.Event, heard: Heard) -> None:
    """Write a trial as its parts do, until it is to end."""
    trial = LiveTrial(run, of, replica)
    trial.inject()
    trial.start()
    begun = time.monotonic()
    sent, failed, readings = 0, 0, 0
    while not end.wait(0.02):
        now = time.monotonic() - begun
        while sent < now * RATE:
            sent += 1
            failed += sent % 10 == 0
            error = "pool_timeout" if sent % 10 == 0 else None
            trial.answer(max(0.0, now * SPEED - 4), 3.9, error, worker=100 + sent % 4)
            if error:
                heard.ended[failed] = time.monotonic()
        while readings < now / READINGS_S:
            readings += 1
            for number in range(of.knobs.workers):
                trial.reading(now * SPEED, 100 + number, **reading(now, number))
            if readings % round(STATUS_S / READINGS_S) == 0:
                trial.status(sent + 85)


def reading(now: float, number: int) -> dict[str, object]:
    """As long as a worker's reading is, with figures that move."""
    counts = ("waiting", "threads_queued", "speech_busy", "speech_queued", "audio_busy")
    more = ("anyio_busy", "anyio_queued", "audio_queued", "gcs_failed", "gcs_retried")
    return {
        **dict.fromkeys(counts + more, 0),
        "clock": "b2b1d2f0-8a10-4a52-9a0a-0c0a0b0c0d0e:monotonic",
        "instance": "",
        "pool_size": 10,
        "checked_out": int(now * 7) % 20,
        "overflow": 3,
        "threads_busy": int(now * 3) % 11,
        "inflight": 21,
        "inside": 22,
        "loop_lag": 0.0012,
        "gcs_attempts": int(now * 6),
        "gcs_bytes": int(now * 1e6),
        "rss": 98_000_000 + number,
        "gcs_acknowledged_bytes": int(now * 1e6),
        "cpu_s": now / 4,
        "loop_busy_s": now / 3,
        "stood": {STOOD: now / 5, "database.py:143 connection": now / 50},
        "abandoned": 0,
        "threads": 61,
        "fds": 40,
        "threads_named": {"storage": 11, "AnyIO worker thread": 4},
    }


if __name__ == "__main__":
    sys.exit(main())
