"""What is predicted of a cell: thresholds, what fails first, and what is said beside."""

from __future__ import annotations

from math import inf
from typing import Any

import numpy as np
import pytest

from lab.capacity import operational
from lab.capacity.curve import above, threshold, violates, worth
from lab.capacity.model import simulate
from lab.capacity.predict import METASTABLE, differences, figures_of, predict, several
from lab.model.criterion import Criterion
from lab.model.prediction import PredictedFigures, Prediction
from tests.fakes.cells import LOAD, make_cell
from tests.unit.capacity.networks import BLOCKING, network
from tests.unit.capacity.test_network import DATABASE, STORAGE

P95 = Criterion.parse("p95 < 10 s")
ERRORS = Criterion.parse("error_rate < 5 %")
CRITERIA = (str(P95), str(ERRORS))


def predicted(settings: dict[str, Any] | None = None, **more: Any) -> Prediction:
    given = {"criteria": CRITERIA, **more}
    instances = given.pop("instances", 1)
    cell = make_cell(settings, faults=(STORAGE, DATABASE), **given)
    return predict(cell, instances=instances)


def test_a_threshold_is_where_the_last_in_a_fixed_queue_is_late() -> None:
    # Four threads of exactly 3 s: with 12 users each turn takes 9 s, with 14 users 10.5 s; with 13
    # it takes 9.75 s in the mean, and how the threads' calls lie decides.
    assert threshold(network(ramp=3.0), P95, 100) in (12, 13)


def test_a_threshold_may_be_none_or_beyond_what_is_tried() -> None:
    assert threshold(network(storage=(11.0, 11.0)), P95, 100) == 0
    assert threshold(network(), P95, 5) == 5
    assert threshold(network(oversize=0.2), ERRORS, 100) == 0


def test_only_a_share_that_users_raise_has_a_threshold() -> None:
    assert violates(Criterion.parse("throughput > 2/s")) is None
    assert violates(Criterion.parse("p95 > 2 s")) is None
    assert violates(Criterion.parse("p95_all < 2 s")) is not None


def test_a_minute_is_worth_more_by_the_chance_of_another_storage_time() -> None:
    net = network(BLOCKING, storage=(2.0, 5.0), threads=6)
    found = worth(net, 14, 10.0)
    assert found is not None
    assert found.z > 1.5 * found.late
    assert found.forgets <= 40


def test_nothing_is_worth_anything_where_nothing_is_late() -> None:
    assert worth(network(), 4, 10.0) is None


def test_the_chance_of_a_longer_storage_time() -> None:
    net = network(storage=(2.0, 5.0))
    assert above(net, np.array([1.0, 3.5, 6.0])).tolist() == [1.0, 0.5, 0.0]
    measured = network(storage=np.array([2.0, 3.0, 4.0, 5.0]))
    assert above(measured, np.array([2.5, 5.0])).tolist() == [0.75, 0.0]


def test_figures_are_the_judges() -> None:
    seen = simulate(network(ramp=3.0), 6, seed=1, warmup=10.0, window=60.0, follow=True)
    found = figures_of(seen, 4.0)
    assert found.throughput == pytest.approx(4 / 3, rel=0.01)
    assert found.p50 == pytest.approx(4.5, abs=1.5)
    assert found.error_rate == 0
    assert found.late is not None


def test_the_six_ways_of_the_report_break_where_they_were_measured_to() -> None:
    """Those intervals were certain: 2..3, 13..15, 25..27 with one worker."""
    load = {**LOAD, "audio": "50 KB"}
    intervals = {"blocking": (2, 3), "to_thread": (13, 15), "executor": (25, 27)}
    for call, (holds, breaks) in intervals.items():
        found = predicted({"gcs_call": call, "gcs_threads": 11}, load=load)
        assert found.crossed_first == str(P95)
        assert holds <= found.thresholds[0].holds_at < breaks


def test_what_uploads_wait_for_is_the_limit() -> None:
    crowd = {**LOAD, "users": 20}
    assert predicted(load=crowd).limit == "event_loop"
    assert predicted({"gcs_call": "to_thread"}, load=crowd).limit == "default_executor"
    held = {"gcs_call": "executor", "db_call": "threadpool", "db_session": "hold"}
    small = {"pool_size": 3, "max_overflow": 0, "pool_timeout": "60 s"}
    assert predicted({**held, **small}, load=crowd).limit == "pool"
    assert predicted({"gcs_call": "executor"}, load={**LOAD, "users": 4}).limit == "none"


def test_one_that_breaks_with_a_single_user_is_an_answer() -> None:
    found = predicted(load={**LOAD, "audio": "50 KB - 2 MB"})
    errors = found.thresholds[1]
    assert (errors.holds_at, errors.breaks_at) == (0, 1)
    assert found.crossed_first == str(ERRORS)
    assert found.first_failure.startswith("body_limit, from the first user on: 18 %")


def test_a_metastable_split_is_said_to_be_one() -> None:
    assert METASTABLE in predicted({"workers": 2}).notes
    assert METASTABLE not in predicted({"workers": 2, "gcs_call": "to_thread"}).notes
    assert METASTABLE not in predicted({"workers": 2, "balance": "least_conn"}).notes


def test_what_is_not_known_is_said() -> None:
    found = predicted(load={"burst": 5})
    assert "has no number of users" in found.unknown
    assert found.figures is None


def test_beyond_this_machine_is_calculated() -> None:
    settings = {"gcs_call": "executor", "db_call": "threadpool"}
    found = predicted(settings, load={**LOAD, "users": 4000}, instances=200)
    assert found.first_failure.startswith("database_slots, from the first user on")
    assert found.limit == "database_slots"
    assert found.figures is None
    plenty = predicted({**settings, "db_cap": 500}, load={**LOAD, "users": 100}, instances=10)
    assert plenty.figures is not None
    assert plenty.figures.throughput == pytest.approx(100 / 3.7, rel=0.05)


def test_instances_share_one_database() -> None:
    whole = several(network({"slots": 25}), 50)
    assert whole.workers == 50
    assert whole.database.slots == 25
    failing = operational.failures(whole, inf, 0.05)
    assert failing[0].resource == "database_slots"


def test_what_fails_first_comes_first() -> None:
    failing = operational.failures(network(), 10.0, 0.05)
    users = [one.users for one in failing]
    assert users == sorted(users)
    assert failing[0].users == pytest.approx(8.5 * 4 / 3)
    assert "10 s or longer" in failing[0].how


def test_a_pool_keeps_what_it_once_needed() -> None:
    blocking = network(BLOCKING, workers=3)
    assert operational.opened(blocking, 1000) == 3
    threads = network({**BLOCKING, "threads": 40}, workers=1, threads=100)
    assert operational.opened(threads, 1) == 1
    assert 5 < operational.opened(threads, 100) <= 20


@pytest.mark.parametrize(
    ("throughput", "p95", "apart"),
    [(1.02, 10.5, []), (1.04, 10.0, ["throughput"]), (1.0, 11.0, ["p95"]), (0.0, None, None)],
)
def test_figures_that_are_far_apart_are_told(
    throughput: float, p95: float | None, apart: list[str] | None
) -> None:
    rest: dict[str, Any] = {"p50": 5.0, "p99": 12.0, "error_rate": 0.0}
    told = PredictedFigures(throughput=1.0, p95=10.0, **rest)
    seen = PredictedFigures(throughput=throughput, p95=p95, **rest)
    found = [one.metric for one in differences(told, seen)]
    assert found == (["throughput", "p95"] if apart is None else apart)
