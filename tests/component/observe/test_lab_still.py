"""The watch notices that the lab itself stood still, and reads how far the clocks are apart."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise

import pytest

from lab.model.clock import STILL_S, wall_offset
from lab.observe.watch import Stills, Watch
from tests.live import wait_until

WATCHING = """
import json, os, sys, time
from lab.observe.watch import Stills, Watch

with Watch(lambda *_: [], dict, dict) as watch:
    if sys.argv[1] == "loaded":
        watch.generator(os.getpid())
    print("watching", flush=True)
    sys.stdin.readline()
    time.sleep(0.3)
print(json.dumps({part: why for part, (_, why) in watch.seen.down.items()}))
"""


@pytest.mark.parametrize(
    ("frozen_s", "load", "noticed"),
    [(0.5, "loaded", False), (STILL_S + 0.5, "loaded", True), (STILL_S + 0.5, "not yet", False)],
)
def test_a_lab_that_stood_still_under_a_load_says_so(
    frozen_s: float, load: str, noticed: bool
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WATCHING, load],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "watching\n"
        time.sleep(0.3)
        process.send_signal(signal.SIGSTOP)
        time.sleep(frozen_s)
        process.send_signal(signal.SIGCONT)
        down, _ = process.communicate("on\n", timeout=20)
    told = json.loads(down)
    assert set(told) == ({"lab"} if noticed else set())
    if noticed:
        assert told["lab"].startswith("it stood still for ")
        assert told["lab"].endswith(" s of wall time")
        assert float(told["lab"].split()[4]) == pytest.approx(frozen_s, abs=1.0)


@pytest.mark.parametrize(
    ("moments", "told"),
    [
        ([0.0, 0.3, 0.6, 0.9, 1.2, 1.5, 1.8, 2.1], ""),  # late, as on a busy machine
        ([0.0, 1.4], ""),
        ([0.0, 1.6], "it stood still for 1.6 s of wall time"),
        ([0.0, 0.7, 0.8, 1.5], ""),
        ([0.0, 0.7, 0.8, 1.5, 1.6, 2.3], "it stood still 3 times, for 2.1 s of wall time"),
        ([0.0, 1.3, 9.0, 9.1], "it stood still 2 times, for 9.0 s of wall time"),
        ([0.0, 1.3, *(1.4 + 0.1 * n for n in range(100)), 12.6], ""),  # the first is long ago
    ],
)
def test_times_in_which_the_lab_stood_still_count_together_for_a_while(
    moments: list[float], told: str
) -> None:
    stills = Stills()
    said = [stills.add(last, now) for last, now in pairwise(moments)]
    assert max(said, key=len) == told


def test_the_machines_readings_say_how_far_its_clocks_are_apart() -> None:
    with Watch(lambda *_: [], dict, dict) as watch:
        wait_until(lambda: len(watch.seen.machine) > 1)
    for reading in watch.seen.machine:
        assert reading.clock_offset == pytest.approx(wall_offset(), abs=0.05)
        assert reading.at <= time.monotonic()
        assert reading.cores == os.cpu_count()
        assert 0 < reading.usage["lab"].cpu_s <= sum(os.times()[:2])
