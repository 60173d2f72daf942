"""One clock for all evidence, and how moments of the other come to it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from lab.model.clock import clock_name, foreign_clock, format_still, from_wall, wall_offset


def test_a_moment_of_the_wall_clock_is_converted_as_of_now() -> None:
    assert from_wall(time.time()) == pytest.approx(time.monotonic(), abs=0.05)
    assert from_wall(time.time() - 3600) == pytest.approx(time.monotonic() - 3600, abs=0.05)


def test_a_pause_between_the_two_clocks_is_not_taken_for_their_difference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moments = iter([10.0, 13.0, 13.0, 13.0002])  # the first pair was torn apart for 3 s
    walls = iter([1012.9, 1013.0001])
    monkeypatch.setattr(time, "monotonic", lambda: next(moments))
    monkeypatch.setattr(time, "time", lambda: next(walls))
    assert wall_offset() == pytest.approx(1000.0, abs=0.001)


def test_the_closest_pair_counts_where_all_were_torn(monkeypatch: pytest.MonkeyPatch) -> None:
    def steps() -> Iterator[float]:
        at = 0.0
        for width in (0.5, 0.01, *[0.5] * 8):
            yield at
            yield at + width
            at += width

    moments = steps()
    monkeypatch.setattr(time, "monotonic", lambda: next(moments))
    walls = iter([1000.4, 1000.505, *[1009.0] * 8])
    monkeypatch.setattr(time, "time", lambda: next(walls))
    assert wall_offset() == pytest.approx(1000.0, abs=0.001)


def test_every_process_of_a_machine_names_the_same_clock() -> None:
    code = "from lab.model.clock import clock_name; print(clock_name())"
    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert other == clock_name() != ""
    assert foreign_clock(other) is None
    assert foreign_clock(None) is None
    assert "another clock" in (foreign_clock("of another boot time:[7]") or "")


@pytest.mark.parametrize(
    ("seconds", "speed", "text"),
    [
        (3.04, 1, "3.0 s"),
        (48.6, 6, "8.1 s of wall time (48.6 s in real time)"),
    ],
)
def test_a_standstill_is_told_in_both_times_where_they_differ(
    seconds: float, speed: float, text: str
) -> None:
    assert format_still(seconds, speed) == text
