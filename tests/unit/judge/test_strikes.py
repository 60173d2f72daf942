from __future__ import annotations

import pytest

from lab.judge.injection import strike_checks
from lab.judge.validity import prolonged
from lab.model.evidence import ProcessFaultRecord
from tests.unit.judge.observations import at_rest, cell, observation, strike

RESTART = strike(35.0, 35.8, fault="db-restart", part="postgres", action="restart")


@pytest.mark.parametrize(
    ("line", "ok", "measured", "reason"),
    [
        (strike(), True, 6.5, "backend was killed at 25.0 s and served again at 31.5 s"),
        (strike(26.2, 27.0), True, 0.8, "backend was killed at 26.2 s and served again at 27.0 s"),
        (strike(until=None), False, None, "backend was killed at 25.0 s and did not come back"),
        (None, False, None, "the strike backend-kill did not happen"),
        (RESTART, False, None, "the strike backend-kill did not happen"),
        (
            strike(75.0, 80.0),
            False,
            5.0,
            "backend was killed at 75.0 s, after the window's end (75 s)",
        ),
    ],
)
def test_a_planned_strike_is_held_against_what_happened(
    line: ProcessFaultRecord | None, ok: bool, measured: float | None, reason: str
) -> None:
    seen = observation(evidence=[*at_rest(), *([line] if line else [])])
    [check] = strike_checks(cell(faults=["backend-kill"]), seen)
    assert (check.ok, check.measured, check.reason) == (ok, measured, reason)
    assert (check.name, check.expected) == ("backend-kill", "backend killed at 25 s, for 5 s")


def test_each_strike_has_its_own_check_in_the_order_of_the_faults() -> None:
    of = cell(faults=["db-restart", "gcs-latency", "backend-kill"])
    checks = list(strike_checks(of, observation(evidence=[strike(), RESTART])))
    assert [(check.name, check.ok) for check in checks] == [
        ("db-restart", True),
        ("backend-kill", True),
    ]
    assert checks[0].expected == "postgres restarted at 35 s"


def test_a_cell_without_strikes_has_none() -> None:
    assert list(strike_checks(cell(faults=["gcs-latency"]), observation())) == []


@pytest.mark.parametrize(
    ("speed", "until", "reason"),
    [
        (1, 99.0, None),
        (4, 33.9, None),  # 3.9 s more than planned, 2.9 s of them not real
        (
            4,
            34.1,
            "at speed 4 backend was away 3.1 s longer than it would be, in a window of 60 s"
            " (5% is allowed) - lower --speed",
        ),
        (4, 26.0, None),
        (4, None, None),
    ],
)
def test_a_part_that_speed_keeps_away_for_longer_is_a_reason(
    speed: float, until: float | None, reason: str | None
) -> None:
    of = cell(faults=["backend-kill"], speed=speed)
    found = list(prolonged(of, observation(evidence=[strike(until=until)])))
    assert found == ([reason] if reason else [])
    assert list(prolonged(of, observation(evidence=[]))) == []
