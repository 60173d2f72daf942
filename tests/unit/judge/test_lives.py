"""What ends an instance: a result of the platform's, or a reason why a cell shows nothing."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from lab.judge import judge
from lab.model.evidence import Evidence
from lab.model.verdict import Outcome
from tests.unit.judge.observations import (
    at_rest,
    burst,
    front,
    instance,
    observation,
    on_cloudrun,
    one_instance,
    refused,
    strike,
    worker,
)

SOUND = [*at_rest(), *one_instance()]
NO_WORKER = [line for line in at_rest() if line.kind != "worker"]


def reasons(evidence: Sequence[Evidence], faults: Sequence[str] = ()) -> tuple[str, ...]:
    """Why such a burst is invalid; nothing where it is not."""
    of = on_cloudrun("errors.no_instance <= 5", faults=faults)
    verdict = judge(of, observation(burst(), evidence))
    return verdict.reasons if verdict.outcome is Outcome.INVALID else ()


def test_a_sound_front_gives_no_reason() -> None:
    assert reasons(SOUND) == ()


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (
            [instance(240.0, "start_failed", why="it did not listen within 240 s")],
            "instance-1 did not start: it did not listen within 240 s (at 240.0 s)",
        ),
        (
            [
                instance(1.0, "died", why="exit code 3", during="starting"),
                instance(1.0, "start_failed", why="it ended before it listened: exit code 3"),
                instance(
                    3.0,
                    "start_failed",
                    instance="instance-2",
                    why="it ended before it listened: exit code 3",
                ),
            ],
            "instance-1, and 1 more did not start: it ended before it listened: exit code 3"
            " (at 1.0 s)",
        ),
        (
            [instance(9.0, "stuck", why="SIGKILL did not end it")],
            "instance-1 could not be ruled: SIGKILL did not end it (at 9.0 s)",
        ),
        (
            [instance(9.0, "died", why="exit code 1", during="ready")],
            "instance-1 died: exit code 1 (at 9.0 s)",
        ),
    ],
)
def test_what_is_no_result_is_a_reason(lines: Sequence[Evidence], reason: str) -> None:
    assert reason in reasons([*SOUND, *lines])


@pytest.mark.parametrize(
    "lines",
    [
        [instance(9.0, "oom", why="out of memory", during="ready")],
        [
            instance(1.0, "oom", why="out of memory", during="starting"),
            instance(1.0, "start_failed", why="it ended before it listened: out of memory"),
        ],
        [instance(9.0, "stopped", why="exit code 0", during="stopping")],
    ],
)
def test_a_kill_for_memory_is_a_result_also_in_a_start_up(lines: Sequence[Evidence]) -> None:
    assert reasons([*SOUND, *lines]) == ()


def test_a_death_that_was_planned_is_no_reason() -> None:
    lines = [instance(10.0, "died", why="killed by signal 9", during="ready")]
    assert reasons([*SOUND, strike(10.0, 13.0), *lines], faults=["backend-kill"]) == ()


def test_where_no_instance_was_ever_ready_no_worker_is_missed() -> None:
    of = on_cloudrun("errors.no_instance <= 5")
    seen = observation([refused()] * 5, [*NO_WORKER, front(0.0, queue=5), front(0.2, starting=1)])
    assert judge(of, seen).outcome is Outcome.HELD


@pytest.mark.parametrize(
    ("evidence", "reason"),
    [
        (at_rest(), "the front was not read, so its queue and instances are unknown"),
        ([*NO_WORKER, *one_instance()], "no worker was read, so its CPU and pool are unknown"),
        ([*NO_WORKER], "the front was not read, so its queue and instances are unknown"),
        ([*NO_WORKER, worker(1.0)], "the front was not read, so its queue and instances are"),
    ],
)
def test_without_the_fronts_log_nothing_is_known(evidence: Sequence[Evidence], reason: str) -> None:
    (first, *_) = reasons(evidence)
    assert first.startswith(reason)
