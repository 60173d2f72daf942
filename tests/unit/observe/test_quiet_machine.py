"""Waiting until this machine is quiet: how long, for what, and what is said meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import chain, repeat

import pytest

from lab.observe.quiet import MAX_WAIT_S, POLL_S, QUIET_S, CpuMeter, CpuUse, QuietMachine

LOOKS = round(QUIET_S / POLL_S)


class Machine:
    """A clock that only waiting moves, and a machine of which each look tells a share in use."""

    def __init__(self, shares: Iterator[float]) -> None:
        self.t = 0.0
        self.shares = shares
        self.said: list[str] = []
        self.quiet = QuietMachine(lambda: self.look, lambda: self.t, self.sleep)

    def sleep(self, seconds: float) -> None:
        self.t += seconds

    def look(self) -> CpuUse:
        return CpuUse(next(self.shares), {"chrome": 0.45})

    def wait(self) -> tuple[bool, float]:
        began = self.t
        return self.quiet.wait(self.said.append), self.t - began


def test_a_quiet_machine_is_seen_to_be_so_within_seconds() -> None:
    machine = Machine(repeat(0.05))
    assert machine.wait() == (True, QUIET_S)
    assert machine.wait() == (True, QUIET_S)


def test_it_waits_until_little_was_in_use_for_some_seconds_and_says_why() -> None:
    machine = Machine(chain(repeat(0.93, 20), repeat(0.05)))
    quiet, waited = machine.wait()
    assert quiet
    assert 20 * POLL_S < waited <= 20 * POLL_S + QUIET_S
    assert machine.said[0] == "93 % of its CPU is in use (chrome 45 %)"


def test_a_short_peak_does_not_begin_the_wait_anew() -> None:
    machine = Machine(chain(repeat(0.05, 2), [0.9], repeat(0.05)))
    assert machine.wait() == (True, QUIET_S)


def test_a_wait_ends_and_the_next_is_short_until_it_has_been_quiet() -> None:
    busy = round(MAX_WAIT_S / POLL_S) + LOOKS
    machine = Machine(chain(repeat(0.9, busy), repeat(0.1, LOOKS), repeat(0.9)))
    assert machine.wait() == (False, MAX_WAIT_S)
    assert machine.wait() == (False, QUIET_S)
    assert machine.wait() == (True, QUIET_S)
    assert machine.wait() == (False, MAX_WAIT_S)


def test_only_the_largest_programs_are_named() -> None:
    programs = {"a": 0.3, "b": 0.2, "c": 0.1, "d": 0.09, "idle": 0.01}
    assert CpuUse(0.7, programs).text() == "70 % of its CPU is in use (a 30 %, b 20 %, c 10 %)"
    assert CpuUse(0.02, {"idle": 0.01}).text() == "2 % of its CPU is in use"


def test_an_interruption_ends_the_wait_at_once() -> None:
    def interrupted(_busy: str) -> None:
        raise KeyboardInterrupt

    machine = Machine(repeat(0.9))
    wait: Callable[[Callable[[str], None]], bool] = machine.quiet.wait
    with pytest.raises(KeyboardInterrupt):
        wait(interrupted)
    assert machine.t == POLL_S


def test_the_meter_names_who_uses_the_cpu() -> None:
    read = CpuMeter()
    began = os.times().user
    while os.times().user < began + 0.1:
        pass
    use = read()
    assert 0 <= use.share <= 1
    assert max(use.programs.values()) > 0
    assert all(0 < share <= 1.5 for share in use.programs.values())
