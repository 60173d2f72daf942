from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from lab.judge import guard, measure
from lab.judge.injection import checks
from lab.model.evidence import Cause, Evidence, Injected, LoadDone, Observation, PartDown
from lab.model.experiment import Cell
from tests.unit.judge.observations import (
    WINDOW,
    at_rest,
    audit,
    cell,
    machine,
    observation,
    sample,
    samples,
    strike,
    worker,
)


def reasons(of: Cell, seen: Observation) -> list[str]:
    metrics = measure(of, seen)
    return guard(of, seen, metrics, checks(of, seen, metrics))


def busy(share: float = 0.3, generator: float = 0.1) -> list[Evidence]:
    return [machine(t, share, generator=t * generator) for t in WINDOW]


def working(cores: float, speed: float) -> list[Evidence]:
    return [worker(t, cpu_s=t * cores / speed) for t in WINDOW]


def test_a_sound_trial_gives_no_reason() -> None:
    assert reasons(cell(faults=["gcs-latency", "db-distance"]), observation(samples(60))) == []


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (
            [PartDown(t=31.2, part="postgres", why="signal 9")],
            "postgres was down at 31.2 s: signal",
        ),
        (
            [LoadDone(t=80, window=WINDOW, generator_exit=1)],
            "the load generator ended with exit code 1",
        ),
        (busy(generator=0.9), "the load generator used 0.90 of its one core - lower the users or"),
        (
            busy(share=0.91),
            "this machine's CPU was 91% in use - stop other programs or lower --spe",
        ),
        (
            [audit(lost=["a", "b"])],
            "2 uploads were answered 200 but are not there: a defect of the",
        ),
        (
            [Injected(t=0, proxy="gcs", enabled=False, toxics=[])],
            "injected and measured differ: proxy gcs should be armed with nothing, but read back",
        ),
    ],
)
def test_each_fault_of_the_lab_is_a_reason(lines: Sequence[Evidence], reason: str) -> None:
    kinds = {type(line) for line in lines}
    others = [line for line in at_rest() if type(line) not in kinds]
    (found,) = reasons(cell(), observation(samples(60), [*others, *lines]))
    assert found.startswith(reason)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([], "injected and measured differ: the strike backend-kill did not happen"),
        (
            [strike(until=None)],
            "injected and measured differ: backend was killed at 25.0 s and did not come back",
        ),
        ([strike()], None),
    ],
)
def test_a_strike_that_is_missing_is_a_reason(lines: list[Evidence], reason: str | None) -> None:
    seen = observation(samples(60), [*at_rest(), *lines])
    assert reasons(cell(faults=["backend-kill"]), seen) == ([reason] if reason else [])


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        ("load", "the load never finished"),
        ("worker", "no worker was read, so its CPU and pool are unknown"),
        ("machine", "the machine was not read, so the lab's own CPU is unknown"),
        ("audit", "there was no audit, so lost uploads cannot be ruled out"),
    ],
)
def test_evidence_that_is_missing_is_a_reason(missing: str, reason: str) -> None:
    rest = [line for line in at_rest() if line.kind != missing]
    assert reasons(cell(), observation(samples(60), rest)) == [reason]


@pytest.mark.parametrize(
    ("late", "latency", "invalid"), [(0.2, 1, False), (0.3, 1, True), (0.8, 60, False)]
)
def test_a_late_generator_is_a_reason_unless_latency_dwarfs_it(
    late: float, latency: float, invalid: bool
) -> None:
    uploads = [sample(20, latency, planned_at=20 - late) for _ in range(60)]
    found = reasons(cell(), observation(uploads))
    assert any("sent 0.30 s late" in reason for reason in found) == invalid


def test_an_answer_500_without_a_cause_is_a_reason_also_outside_the_window() -> None:
    uploads = [*samples(60), sample(1, error=Cause.INTERNAL_ERROR)]
    assert reasons(cell(), observation(uploads)) == [
        "1 answers were 500 without a cause: a defect of the replica"
    ]


@pytest.mark.parametrize(
    ("settings", "invalid"),
    [
        ({"speed": 25}, False),
        ({"speed": 26}, True),
        ({"speed": 50, "db_rtt": "0 s"}, False),
        ({"speed": 50, "db_rtt": "50 ms"}, False),
    ],
)
def test_a_delay_below_what_timers_keep_is_a_reason(
    settings: dict[str, Any], invalid: bool
) -> None:
    rest = [line for line in at_rest() if line.kind not in ("worker", "machine")]
    lines = [*rest, *working(0, 1), *busy(generator=0.0)]
    found = reasons(cell(faults=["db-distance"], **settings), observation(evidence=lines))
    assert found == (
        [
            "at speed 26 db-distance delays by 0.96 ms of wall time, which timers do not keep"
            " - lower --speed"
        ]
        if invalid
        else []
    )
