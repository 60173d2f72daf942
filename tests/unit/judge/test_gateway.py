"""Metrics of Cloud Run's instances and of its queue."""

from __future__ import annotations

from typing import Any

import pytest

from lab.judge.metrics import measure
from lab.judge.trial import Trial
from lab.model.evidence import Evidence, Sample
from lab.model.experiment import Cell
from tests.unit.judge.observations import (
    MIB,
    STAGES,
    at_rest,
    burst,
    cell,
    front,
    instance,
    observation,
    on_cloudrun,
    one_instance,
    refused,
    request,
    sample,
    usage,
)


def measured(*lines: Evidence, of: Cell | None = None, uploads: list[Sample] | None = None) -> Any:
    rest = [line for line in at_rest() if line.kind != "worker"]
    seen = observation(burst() if uploads is None else uploads, [*rest, *lines])
    return measure(Trial(of or on_cloudrun(), seen))


def test_a_burst_from_zero_is_told_whole() -> None:
    found = measured(*one_instance())
    assert {name: found[name] for name in found if name in EXPECTED} == EXPECTED


EXPECTED = {
    "succeeded": 3,
    "errors.no_instance": 2,
    "cold_starts": 1,
    "cold_start_s": 2.0,
    "cold_start_made": 0.5,
    "cold_start_max": 2.0,
    "cold_uploads": 3,
    "instances": 1,
    "oom_kills": 0,
    "memory_instance": 90 * MIB,
    "queue_depth": 5,
    "queue_wait": 6.0,
    "queue_wait_p95": 10.0,
    "queue_wait_refused": 10.0,
    "throttled_backend": 0.1,
}


def test_one_cold_start_lies_with_the_first_upload_and_the_second_is_warm() -> None:
    uploads = [
        sample(0.0, 6.0, stages={"queue": 2.0, "cold": 2.0, **STAGES}),
        sample(6.0, 4.0, stages={"queue": 0.0, **STAGES}),
    ]
    found = measured(*one_instance(), uploads=uploads)
    assert (found["cold_starts"], found["cold_start_s"], found["cold_uploads"]) == (1, 2.0, 1)
    assert found["queue_wait"] == 1.0


def test_starts_before_the_load_are_warm_and_those_of_failed_starts_have_no_time() -> None:
    lines: list[Evidence] = [
        instance(-5.0, "starting"),
        instance(-3.0, "ready", start_s=2.0),
        instance(1.0, "starting", instance="instance-2"),
        instance(4.0, "ready", start_s=3.0, instance="instance-2"),
        instance(4.0, "starting", instance="instance-3"),
        instance(5.0, "oom", during="starting", peak_bytes=300.0, instance="instance-3"),
        front(-3.0, ready=1),
        front(4.5, ready=2, starting=1),
    ]
    found = measured(*lines)
    assert (found["cold_starts"], found["cold_start_s"], found["cold_start_max"]) == (2, 3, 3)
    assert (found["instances"], found["oom_kills"], found["memory_instance"]) == (3, 1, 300)


def test_a_cell_in_which_no_instance_started_says_so_and_nothing_of_a_start() -> None:
    found = measured(front(0.0, queue=2), uploads=[refused(), refused()])
    assert (found["cold_starts"], found["instances"], found["oom_kills"]) == (0, 0, 0)
    assert (found["errors.no_instance"], found["queue_wait_refused"]) == (2, 10.0)
    told = ("cold_start_s", "memory_instance", "queue_wait", "throttled_backend", "capacity")
    assert not [name for name in told if name in found]


def test_the_queue_that_stood_when_the_window_began_counts() -> None:
    of = cell(target="cloudrun", load={"users": 5})
    found = measured(front(1.0, queue=30), front(2.0, queue=7), front(90.0, queue=20), of=of)
    assert found["queue_depth"] == 7


def test_throttling_is_of_the_time_that_instances_lived() -> None:
    lives = [
        *(usage(t, throttled_s=t / 2) for t in (0.0, 4.0, 8.0)),
        *(usage(t, throttled_s=0.0, instance="instance-2") for t in (4.0, 8.0)),
        usage(20.0, throttled_s=20.0),  # after the last answer
    ]
    assert measured(front(0.0, ready=1), *lives)["throttled_backend"] == round(4 / 12, 6)


@pytest.mark.parametrize(
    ("settings", "ready", "held", "law"),
    [
        ({}, 1, 4.0, 1 / 4),
        ({"cloudrun_max_instances": 3}, 3, 4.0, 3 / 4),
        ({"cloudrun_max_instances": 3}, 2, 4.0, 2 / 4),
        ({"gcs_call": "blocking", "cloudrun_concurrency": 80}, 1, 100.0, 1 / 3.675),
        ({"gcs_call": "to_thread", "cloudrun_concurrency": 80}, 1, 40.0, 5 / 3.5),
        ({"gcs_threads": 100, "cloudrun_concurrency": 80}, 1, 10.0, 1 / 0.175),
        ({"gcs_threads": 100, "cloudrun_concurrency": 8}, 1, 10.0, 8 / 10),
    ],
    ids=str,
)
def test_capacity_is_places_times_ready_instances_by_the_time_held_or_less(
    settings: dict[str, Any], ready: int, held: float, law: float
) -> None:
    """At 1 CPU, where the platform allows a concurrency above 1."""
    lines: list[Evidence] = [
        front(-1.0, ready=ready),
        request(9.0 + held, "request_end", took=held, how="answered"),
    ]
    found = measured(*lines, of=on_cloudrun(cloudrun_cpus=1, **settings))
    assert found["capacity"] == pytest.approx(law, abs=1e-6)
    assert found["utilisation"] == pytest.approx(found["throughput"] / law, abs=1e-4)


@pytest.mark.parametrize(("ended", "counts"), [(13.5, True), (14.5, True), (19.0, False)])
def test_a_place_counts_where_it_was_taken(ended: float, counts: bool) -> None:
    """The front notes the end of the last request when its user has its answer already."""
    lines: list[Evidence] = [
        front(0.0, ready=1),
        request(ended, "request_end", took=4.0, how="answered"),
    ]
    assert ("capacity" in measured(*lines)) is counts


def test_an_instance_that_was_not_there_yet_carries_nothing() -> None:
    """Three uploads of 4 s in the 12 s for which the instance was ready, out of 14 s."""
    found = measured(*one_instance())
    assert found["capacity"] == pytest.approx(12 / 14 / 4, abs=1e-6)
    assert found["utilisation"] == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("how", ["broken", "left", "too_large"])
def test_a_place_held_by_what_was_not_answered_says_nothing_of_the_law(how: str) -> None:
    lines: list[Evidence] = [front(0.0, ready=1), request(9.0, "request_end", took=1.0, how=how)]
    assert "capacity" not in measured(*lines)


def test_a_part_of_a_trial_has_its_own_kills_and_the_queue_that_stood_when_it_began() -> None:
    lines: list[Evidence] = [
        front(1.0, queue=7),
        front(40.0, queue=9),
        instance(5.0, "oom"),
        instance(42.0, "oom"),
    ]
    of = cell(target="cloudrun", load={"stages": [{"users": 1, "over": "0 s", "hold": "60 s"}]})
    part = Trial(of, observation([sample(30.0)], lines)).restricted((30.0, 39.0))
    found = part.metrics
    assert (found["oom_kills"], found["queue_depth"]) == (0, 7)
