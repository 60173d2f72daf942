"""Where an upload's time goes, and how latencies are distributed."""

from __future__ import annotations

from itertools import pairwise
from math import fsum

import pytest

from lab.judge.distribution import boundaries, latencies
from lab.judge.time_spent import time_spent
from lab.judge.trial import Trial
from lab.model.evidence import Cause, Sample
from tests.unit.judge.observations import STAGES, cell, cut_off, observation, record, sample

WAITED = {**STAGES, "gcs_queue": 2.0}


def of(*uploads: Sample) -> Trial:
    return Trial(cell(), observation(uploads))


def seconds(trial: Trial, field: str) -> dict[str, float]:
    """By station, without those in which nobody was."""
    told = {one.station: getattr(one, field) for one in time_spent(trial)}
    return {station: value for station, value in told.items() if value}


def test_the_seconds_of_all_stations_add_up_to_the_latency() -> None:
    uploads = [sample(20.0 + n, 6.0 + n / 10, stages=WAITED) for n in range(20)]
    mean = fsum(seconds(of(*uploads), "mean").values())
    assert mean == pytest.approx(fsum(one.latency_s for one in uploads) / 20, abs=1e-4)


def test_work_is_laid_to_who_did_it_and_what_no_stage_tells_to_the_way() -> None:
    told = seconds(of(sample(20.0, 6.0, stages=WAITED)), "mean")
    assert told["storage"] == 3.5
    assert told["database"] == pytest.approx(0.05 + 0.025 + 0.1 + 0.003)  # checkouts waited for it
    assert told["threads"] == 2.0
    assert fsum(told.values()) == pytest.approx(6.0)


def test_as_slow_as_p95_are_those_beside_it() -> None:
    """Of a hundred, those from the 93rd to the 97th; the slowest of all are none of them."""
    uploads = [sample(20.0, float(n), stages={"gcs": float(n)}) for n in range(1, 101)]
    assert seconds(of(*uploads), "slow") == {"storage": 95.0}
    assert seconds(of(*uploads), "mean") == {"storage": 50.5}


@pytest.mark.parametrize("count", [1, 2, 7])
def test_of_few_the_one_at_p95_is_as_slow(count: int) -> None:
    uploads = [sample(20.0, n + 1.0, stages={"gcs": n + 1.0}) for n in range(count)]
    assert seconds(of(*uploads), "slow") == {"storage": float(count)}


def test_failures_are_told_apart_until_they_were_known() -> None:
    """The record of one that was cut off goes on after its client had left."""
    cut = cut_off(1, latency=10.0)
    spans = [("auth", 16.0, 0.5), ("gcs_queue", 16.5, 1.0), ("gcs", 17.5, 30.0)]
    late = record("cut-0", t=60.0, arrived=16.0, spans=spans)
    trial = Trial(cell(), observation([*cut, sample(20.0, 4.0, stages=STAGES)], [late]))
    failed = seconds(trial, "failed")
    assert fsum(failed.values()) == pytest.approx(10.0)
    assert failed["storage"] == 7.5  # from 17.5 s until 25 s, when its client left
    assert "storage" in seconds(trial, "mean")


def test_without_successes_there_is_no_mean_and_without_uploads_nothing() -> None:
    [*told] = time_spent(of(sample(20.0, 3.0, Cause.POOL_TIMEOUT, stages={"pool_wait": 3.0})))
    assert {(one.mean, one.slow) for one in told} == {(None, None)}
    assert time_spent(of()) == ()


# The distribution.


def test_every_upload_is_in_the_class_of_its_latency() -> None:
    uploads = [sample(20.0, 3.0), sample(20.0, 3.29), sample(20.0, 3.3), sample(20.0, 9.99)]
    uploads += [sample(20.0, 60.0, Cause.CLIENT_TIMEOUT)]
    told = latencies(of(*uploads))
    assert told is not None
    assert len(told.succeeded) == len(told.failed) == len(told.edges) - 1
    assert told.edges[:3] == [3.0, 3.3, 3.6]
    assert told.succeeded[:2] == [2, 1]
    assert (sum(told.succeeded), sum(told.failed)) == (4, 1)
    [timed_out] = [told.edges[n : n + 2] for n, count in enumerate(told.failed) if count]
    assert timed_out == [56.0, 62.0]


@pytest.mark.parametrize(
    ("fastest", "slowest", "first", "last"),
    [
        (2.0, 5.0, 2.0, 5.1),
        (0.0, 0.0, 0.001, 0.0011),
        (0.0004, 0.02, 0.001, 0.022),
        (9.1, 9.1, 9.1, 10.0),
        (9.99, 10.0, 9.1, 11.0),
        (0.3, 120.0, 0.3, 130.0),
    ],
)
def test_classes_reach_from_the_fastest_to_beyond_the_slowest(
    fastest: float, slowest: float, first: float, last: float
) -> None:
    edges = boundaries(fastest, slowest)
    assert (edges[0], edges[-1]) == (first, last)
    ratios = [after / before for before, after in pairwise(edges)]
    assert all(1.05 < ratio < 1.2 for ratio in ratios)


def test_nothing_sent_has_no_distribution() -> None:
    assert latencies(of()) is None
