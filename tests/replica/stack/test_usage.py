"""CPU and memory of a part's processes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lab.model.evidence import Usage
from lab.model.replica import PARTS
from lab.stack.process import ProcessUsage
from tests.live import Live

BURN = "import sys, time\nwhile time.process_time() < 0.1: pass\nprint('burnt', flush=True)\n"


def test_cpu_of_a_process_that_ended_still_counts() -> None:
    burning = [
        subprocess.Popen(
            [sys.executable, "-c", f"{BURN}sys.stdin.read()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    usage = ProcessUsage({"backend": lambda: [process.pid for process in burning], "idle": list})
    for process in burning:
        assert process.stdout
        process.stdout.readline()
    both = usage()
    assert both["backend"].cpu_s >= 2 * 0.09  # the kernel counts in hundredths
    assert both["idle"] == Usage(cpu_s=0.0, memory=0)
    assert both["backend"].memory > 0
    burning[0].communicate()
    assert usage()["backend"].cpu_s >= both["backend"].cpu_s
    burning[1].communicate()
    assert usage()["backend"].cpu_s >= both["backend"].cpu_s


@pytest.mark.replica
def test_the_usage_of_every_part_is_read(live: Live) -> None:
    usage = live({"workers": 2}).usage()
    assert set(usage) == set(PARTS["vm"])
    assert usage["backend"].cpu_s > 0
    assert all(used.memory > 0 and used.throttled_s is None for used in usage.values())
