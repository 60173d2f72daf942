"""Where the time went: of every stage a mean and percentiles, held against what was drawn."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import chain
from math import ceil
from statistics import fmean
from typing import Any

import pytest

from lab.judge.criteria import OF_SUCCESSES, decide
from lab.judge.metrics import measure, measure_all
from lab.judge.stages import STAGE_OF, WAITS, timings
from lab.judge.trial import Trial
from lab.judge.unseen import between
from lab.model.evidence import Cause, Evidence, Sample
from lab.model.journeys import Journey
from lab.model.metrics import BY_NAME, STAGES, StageRow, home_of, with_percentiles
from tests.unit.judge.observations import (
    cell,
    cut_off,
    observation,
    record,
    sample,
    samples,
)

DRAWN = random.Random(7)
NAMES = ("pool_wait", "auth", "release", "gcs_queue", "gcs", "pool_wait2", "write", "queue")
OF_OTHERS = {
    Journey.ASSESS: ("speech_queue", "speech"),
    Journey.CONVERT: ("convert_queue", "convert"),
    Journey.PROGRESS: ("read",),
}
ALL = (*NAMES, *chain.from_iterable(OF_OTHERS.values()))
TIMES = [{name: DRAWN.uniform(0, 5) for name in ALL} for _ in range(137)]
FAILED = [{"pool_wait": DRAWN.uniform(5, 10)} for _ in range(41)]
HANDED = [DRAWN.uniform(0, 2) for _ in TIMES]
WAITED = [DRAWN.uniform(0, 9) for _ in TIMES]


def of_all(journey: Journey = Journey.UPLOAD) -> list[Sample]:
    """Uploads, or what else, with the times that were drawn, and some that gave up waiting for a
    connection."""
    own = (*NAMES, *OF_OTHERS.get(journey, ()))
    good = [
        sample(
            16 + n / 3,
            sum(times[name] for name in ("auth", "release", "gcs", "write")) + WAITED[n],
            stages={name: times[name] for name in own},
            request=f"r{n}",
            journey=journey,
        )
        for n, times in enumerate(TIMES)
    ]
    gave_up = [
        sample(17 + n, 10.0, Cause.POOL_TIMEOUT, stages=t, journey=journey)
        for n, t in enumerate(FAILED)
    ]
    return [*good, *gave_up]


def handed() -> list[Evidence]:
    return [record(f"r{n}", handed=20.0 - waited, arrived=20.0) for n, waited in enumerate(HANDED)]


def both(*names: str) -> list[float]:
    return [sum(times.get(name, 0.0) for name in names) for times in (*TIMES, *FAILED)]


BY_HAND: dict[str, Callable[[], list[float]]] = {
    "auth": lambda: [times["auth"] for times in TIMES],
    "release": lambda: [times["release"] for times in TIMES],
    "write": lambda: [times["write"] for times in TIMES],
    "gcs_latency": lambda: [times["gcs"] for times in TIMES],
    "gcs_queue": lambda: [times["gcs_queue"] for times in TIMES],
    "speech_queue": lambda: [times["speech_queue"] for times in TIMES],
    "speech_latency": lambda: [times["speech"] for times in TIMES],
    "convert_queue": lambda: [times["convert_queue"] for times in TIMES],
    "convert_time": lambda: [times["convert"] for times in TIMES],
    "read": lambda: [times["read"] for times in TIMES],
    "pool_wait": lambda: both("pool_wait", "pool_wait2"),
    "accept_wait": lambda: HANDED,
    "wait": lambda: WAITED,
    "queue_wait": lambda: [times["queue"] for times in TIMES],
}
"""The times of each stage, from what was drawn."""


def nth(times: list[float], percent: int) -> float:
    """By rank: so many of a hundred are no larger."""
    return sorted(times)[ceil(len(times) * percent / 100) - 1]


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_has_a_mean_and_percentiles(name: str) -> None:
    journey = home_of(name)
    seen = observation(of_all(journey), handed())
    found = measure(Trial(cell(target="cloudrun"), seen, journey=journey))
    times = BY_HAND[name]()
    assert found[name] == pytest.approx(fmean(times), abs=1e-6)
    for percent in (50, 95, 99):
        assert found[f"{name}_p{percent}"] == pytest.approx(nth(times, percent), abs=1e-6)


def test_of_a_stage_that_nobody_had_there_is_no_figure() -> None:
    found = measure(Trial(cell(), observation([sample(stages={"auth": 0.05})], [])))
    assert {*with_percentiles("auth")} <= set(found)
    assert not {*with_percentiles("write", "gcs_queue", "queue_wait", "accept_wait")} & set(found)


def test_a_stage_of_one_other_journey_is_of_that_one_without_a_word() -> None:
    load = {"users": 5, "mix": {"upload": "50 %", "assess": "50 %"}}
    sent = [*of_all(), *(sample(stages={"speech": 2.0 + n}, journey="assess") for n in range(3))]
    found = measure_all(Trial(cell(load=load), observation(sent)))
    assert (found["speech_latency"], found["speech_latency_p99"]) == (3.0, 4.0)
    assert not [name for name in found if name.startswith(("speech_latency(", "read", "convert_t"))]


@pytest.mark.parametrize("journey", ["assess", "convert", "progress"])
def test_the_stages_of_several_journeys_have_percentiles_of_each(journey: str) -> None:
    load = {"users": 5, "mix": {"upload": "50 %", journey: "50 %"}}
    sent = [sample(stages={"auth": 0.1 + n / 10}, journey=journey) for n in range(3)]
    found = measure_all(Trial(cell(load=load), observation([*samples(100), *sent])))
    assert found[f"auth({journey})"] == found[f"auth_p50({journey})"] == pytest.approx(0.2)
    assert found[f"auth_p95({journey})"] == pytest.approx(0.3)
    assert found["auth_p95"] == 0.05


@pytest.mark.parametrize(
    ("criterion", "outcome", "reason"),
    [
        ("speech_queue_p95 < 10 s", "met", "speech_queue_p95 9.00 s against < 10 s"),
        ("speech_queue_p95(assess) < 5 s", "missed", "speech_queue_p95 9.00 s against < 5 s"),
        ("auth_p95(assess) < 0.2 s", "met", "auth_p95(assess) 50 ms against < 200 ms"),
        ("write_p50(assess) < 50 ms", "missed", "write_p50(assess) 100 ms against < 50 ms"),
        ("read < 1 s", "undecided", "read: nothing was measured to hold against < 1 s"),
    ],
)
def test_a_criterion_on_a_stage_is_decided_by_those_of_its_journey(
    criterion: str, outcome: str, reason: str
) -> None:
    load = {"users": 5, "mix": {"upload": "40 %", "assess": "40 %", "progress": "20 %"}}
    stages = {"auth": 0.05, "speech_queue": 9.0, "speech": 2.0, "write": 0.1}
    sent = [sample(16 + n / 9, 11.2, stages=stages, journey="assess") for n in range(99)]
    trial = Trial(cell(criterion, load=load), observation([*samples(100), *sent]))
    finding = decide(trial.cell.criteria[0], trial)
    assert (finding.outcome, finding.reason) == (outcome, reason)


def test_a_wait_of_another_journey_is_known_as_far_as_those_that_were_cut_off_tell() -> None:
    answered = [sample(stages={"speech_queue": 1.0}, journey="assess") for _ in range(60)]
    cut = [one.model_copy(update={"journey": Journey.ASSESS}) for one in cut_off(40)]
    told = [
        record(f"cut-{n}", None, journey="assess", spans=[("speech_queue", 20.0, 30.0)])
        for n in range(20)
    ]
    trial = Trial(cell(), observation([*answered, *cut], told), journey=Journey.ASSESS)
    known = between("speech_queue_p95", trial)
    assert known is not None
    assert (known.low, known.high) == (30.0, 60.0)


def test_a_row_makes_a_mean_and_its_percentiles_in_the_tables_order() -> None:
    row = StageRow("speech", "Server-Timing", "the call of speech recognition", timings=("speech",))
    assert [(each.name, each.help) for each in row.rows] == [
        ("speech", "mean of the call of speech recognition"),
        ("speech_p50", "median of the call of speech recognition"),
        ("speech_p95", "95th percentile of the call of speech recognition"),
        ("speech_p99", "99th percentile of the call of speech recognition"),
    ]
    names = list(BY_NAME)
    for name in STAGES:
        at = names.index(name)
        assert tuple(names[at : at + 4]) == with_percentiles(name)


def test_the_timings_of_a_stage_are_added_up_of_those_that_it_is_of() -> None:
    added = ("speech", "cold")
    sent = [
        sample(stages={"speech": 2.0, "cold": 0.5}),
        sample(stages={"cold": 1.0}),
        sample(stages={"auth": 7.0}),
        sample(stages={"speech": 8.0}, error=Cause.GCS_ERROR),
    ]
    trial = Trial(cell(), observation(sent))
    of_good = StageRow("speech", "Server-Timing", "the call", added)
    assert timings(of_good, trial) == [2.5, 1.0]
    of_all = StageRow("speech", "Server-Timing", "the call", added, of="all")
    assert timings(of_all, trial) == [2.5, 1.0, 8.0]


def test_what_is_done_and_what_is_waited_for_are_told_apart() -> None:
    done = {"auth": "auth", "release": "release", "write": "write", "gcs_latency": "gcs"}
    done |= {"speech_latency": "speech", "convert_time": "convert", "read": "read"}
    waited = {"pool_wait": ("pool_wait", "pool_wait2"), "gcs_queue": ("gcs_queue",)}
    waited |= {name: (name,) for name in ("speech_queue", "convert_queue")}
    assert STAGE_OF.items() >= done.items()
    assert WAITS.items() >= waited.items()
    assert not {*STAGE_OF, "wait", "accept_wait", "queue_wait"} & {*WAITS}
    assert {"auth_p99", "wait_p50", "queue_wait_p95", "gcs_latency"} <= OF_SUCCESSES
    assert not {"pool_wait_p95", "accept_wait_p95"} & OF_SUCCESSES


def spans(waited: float) -> dict[str, Any]:
    return {"spans": [("gcs_queue", 20.0, waited)], "arrived": 20.0}


@pytest.mark.parametrize("metric", ["gcs_queue", "gcs_queue_p50", "gcs_queue_p95"])
def test_a_percentile_of_waits_is_known_as_far_as_those_that_were_cut_off_tell(
    metric: str,
) -> None:
    answered = [sample(stages={"gcs_queue": 1.0 + n / 100}) for n in range(60)]
    told = [record(f"cut-{n}", None, **spans(20.0 + n)) for n in range(40)]
    known = between(metric, Trial(cell(), observation([*answered, *cut_off(40)], told)))
    low = sorted([1.0 + n / 100 for n in range(60)] + [20.0 + n for n in range(40)])
    high = sorted([1.0 + n / 100 for n in range(60)] + [60.0] * 40)
    ends = (
        (fmean(low), fmean(high))
        if metric == "gcs_queue"
        else (nth(low, int(metric[-2:])), nth(high, int(metric[-2:])))
    )
    assert known is not None
    assert (known.low, known.high) == pytest.approx(ends)


def test_who_never_came_to_a_worker_waited_between_nothing_and_all_of_its_life() -> None:
    came = [sample(request=f"r{n}") for n in range(60)]
    records = [record(f"r{n}", handed=19.0, arrived=20.0) for n in range(60)]
    lies = Trial(cell("accept_wait_p95 < 10 s"), observation([*came, *cut_off(40)], records))
    finding = decide(lies.cell.criteria[0], lies)
    assert (finding.outcome, finding.low, finding.high) == ("undecided", 1.0, 60.0)
