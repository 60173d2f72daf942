"""A cell with some knobs changed, and whether that moved what was missed."""

from __future__ import annotations

from typing import Any

import pytest

from lab.diagnosis.trials import (
    Impossible,
    changed,
    effect_of,
    is_outdone,
    relaxation_of,
    relaxed_settings,
)
from lab.model.criterion import Criterion
from lab.model.experiment import Cell
from lab.model.relaxation import grouped
from lab.model.verdict import Outcome, Resource, Spread
from tests.fakes import make_cell
from tests.unit.diagnosis.results import ERRORS, KNOWN, P95, result

MISSED = [Criterion.parse(P95)]
UNKNOWN: dict[str, Spread] = {}

RELAXED: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("event_loop", {}, {"gcs_call": "executor", "gcs_threads": 50, "db_call": "threadpool",
                        "anyio_threads": 50}, "vm"),
    ("event_loop", {"gcs_call": "executor", "db_call": "threadpool", "gcs_threads": 11},
     {"workers": 2, "gcs_threads": 6, "audio_threads": 5, "speech_threads": 10, "pool_size": 5,
      "max_overflow": 5}, "vm"),
    ("default_executor", {"gcs_call": "to_thread"}, {"gcs_call": "executor", "gcs_threads": 12},
     "vm"),
    ("own_threads", {"gcs_call": "executor"}, {"gcs_threads": 40}, "vm"),
    ("own_threads", {"gcs_call": "audio_pool"}, {"audio_threads": 20}, "vm"),
    ("speech_threads", {}, {"speech_threads": 40}, "vm"),
    ("audio_threads", {}, {"audio_threads": 20}, "vm"),
    ("anyio_threads", {}, {"anyio_threads": 80}, "vm"),
    ("pool", {"max_overflow": 0}, {"pool_size": 20}, "vm"),
    ("pool_leak", {"leak": "pool"}, {"leak": "off"}, "vm"),
    ("database_slots", {}, {"db_cap": 50}, "vm"),
    ("pooler", {"pooler": "transaction", "pooler_size": 5}, {"pooler_size": 10}, "vm"),
    ("body_limit", {}, {"nginx_body": "off"}, "vm"),
    ("nginx_connections", {}, {"nginx_connections": 2048}, "vm"),
    ("proxy_timeout", {}, {"nginx_read_timeout": "off"}, "vm"),
    ("rate_limit", {"upload_rate_limit": "10/min"},
     {"global_rate_limit": "off", "upload_rate_limit": "off"}, "vm"),
    ("backpressure", {"max_inflight_uploads": 20}, {"max_inflight_uploads": "off"}, "vm"),
    ("instance_queue", {}, {"cloudrun_max_instances": 2}, "cloudrun"),
    ("memory", {}, {"cloudrun_memory": "512 MiB"}, "cloudrun"),
    ("memory", {"vm_memory": "1 GiB"}, {"vm_memory": "2 GiB"}, "vm"),
    ("health_probe", {"health_probe": "10 s"}, {"health_probe": "off"}, "vm"),
    ("cpu", {}, {"cloudrun_cpus": 1.0}, "cloudrun"),
    ("worker_split", {"workers": 2}, {"balance": "least_conn"}, "vm"),
    ("storage", {}, {"gcs_latency": "1 s - 2.5 s"}, "vm"),
    ("database", {}, {"db_rtt": "12.5 ms"}, "vm"),
    ("speech", {}, {"speech_latency": "500 ms - 1.5 s"}, "vm"),
]  # fmt: skip


def cell(settings: dict[str, Any], target: Any = "vm") -> Cell:
    load = {"users": 50, "ramp": "0 s", "warmup": "10 s", "window": "60 s"}
    return make_cell(settings, load=load, target=target)


@pytest.mark.parametrize(("resource", "settings", "more", "target"), RELAXED)
def test_there_is_more_of_a_resource_and_of_nothing_else(
    resource: str, settings: dict[str, Any], more: dict[str, Any], target: str
) -> None:
    assert relaxed_settings(cell(settings, target), [Resource(resource)]) == more


def test_every_relaxation_is_in_the_table_and_all_but_the_kernels_queue_have_one() -> None:
    assert {Resource(row[0]) for row in RELAXED} == {r for r in Resource if relaxation_of(r)}
    assert relaxation_of(Resource.ACCEPT_QUEUE) is None


REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    ("accept_queue", {}, "vm", "nobody can give it more"),
    ("own_threads", {}, "vm", "this cell has nothing of it to be given more of"),
    ("pool", {"pool_class": "NullPool"}, "vm", "this cell has nothing of it to be given more of"),
    ("worker_split", {}, "vm", "this cell has nothing of it to be given more of"),
    ("instance_queue", {}, "vm", "this cell has nothing of it to be given more of"),
    ("pool", {"pool_size": 150}, "vm", "pool_size has no more: "),
]


@pytest.mark.parametrize(("resource", "settings", "target", "why"), REFUSED)
def test_what_there_is_no_more_of_is_said(
    resource: str, settings: dict[str, Any], target: str, why: str
) -> None:
    refused = relaxed_settings(cell(settings, target), [Resource(resource)])
    assert isinstance(refused, Impossible)
    assert refused.why.startswith(why)


def test_a_trial_is_its_cell_measured_whole_with_the_knobs_changed() -> None:
    before = cell({}).model_copy(update={"stop_when_decided": True, "axes": {"workers": "1"}})
    trial = changed(before, "relaxed", "pool", {"pool_size": 20})
    assert isinstance(trial, Cell)
    assert (trial.id, trial.axes) == ("cell,relaxed=pool", {"workers": "1", "relaxed": "pool"})
    assert (trial.knobs.pool_size, trial.stop_when_decided) == (20, False)
    assert trial.seed == before.seed


def test_knobs_that_contradict_each_other_are_refused_with_the_reason() -> None:
    trial = changed(cell({}, "cloudrun"), "relaxed", "x", {"cloudrun_concurrency": 20})
    assert isinstance(trial, Impossible)
    assert "forces cloudrun_concurrency 1" in trial.why


EFFECTS = [
    (result(8.0), "moved"),  # met
    (result(15.0), "moved"),  # a quarter less
    (result(19.0), "unmoved"),  # less than a tenth
    (result(20.5), "unmoved"),
    (result(30.0), "unmoved"),
    (result(15.0, spreads={"p95": Spread(error=0.3, batches=5)}), "unclear"),
    (result(20.0, spreads={"p95": Spread(error=0.3, batches=5)}), "unclear"),
    (result(15.0, rate=4.0, spreads={"throughput": KNOWN}), "moved"),  # by the rate
    (result(15.0, rate=2.0, spreads={"throughput": KNOWN}), "unmoved"),
    (result(15.0, spreads=UNKNOWN), "unclear"),
    (result(8.0, verdict=Outcome.INVALID), "unmeasured"),
]


@pytest.mark.parametrize(("trial", "effect"), EFFECTS)
def test_what_a_change_did_to_what_was_missed(trial: Any, effect: str) -> None:
    assert effect_of(MISSED, trial, result()).effect == effect


def test_failures_are_held_by_their_difference() -> None:
    known = Spread(error=0.02, batches=10, effective=400)

    def failing(share: float) -> Any:
        told = [(P95, "met", 8.0), (ERRORS, "missed", share)]
        made = result(8.0, outcomes=told, spreads={"error_rate": known})
        return made.model_copy(update={"metrics": {**made.metrics, "error_rate": share}})

    missed = [Criterion.parse(ERRORS)]
    assert effect_of(missed, failing(0.2), failing(0.5)).effect == "moved"
    assert effect_of(missed, failing(0.5), failing(0.5)).effect == "unmoved"


def failing(share: float, p95: float, rate: float, outcome: str = "missed") -> Any:
    """A cell that misses its criterion on failures, with p95 < 10 s met or not."""
    known = dict.fromkeys(("p95", "throughput"), KNOWN)
    known["error_rate"] = Spread(error=0.02, batches=10, effective=400)
    told = [(P95, "met" if p95 < 10 else "missed", p95), (ERRORS, outcome, share)]
    made = result(p95, rate=rate, outcomes=told, spreads=known)
    return made.model_copy(update={"metrics": {**made.metrics, "error_rate": share}})


@pytest.mark.parametrize(
    ("trial", "effect", "told"),
    [
        (failing(0.3, 8.0, 6.0), "moved", "error_rate -40.0 points ("),
        # every second one that is not refused waits: nobody is served more
        (
            failing(0.3, 40.0, 2.4),
            "unmoved",
            "fewer fail because fewer are served: throughput 0.4 x",
        ),
        # served as many as before: a gain, but one that others pay
        (failing(0.3, 40.0, 6.0), "moved", "at 95 %), at the price of p95 5 x ("),
        # none fails any more: what was missed is met, whatever it costs
        (failing(0.0, 40.0, 2.4, "met"), "moved", "is met, at the price of throughput 0.4 x ("),
    ],
)
def test_fewer_failures_are_a_gain_where_no_fewer_are_served(
    trial: Any, effect: str, told: str
) -> None:
    moved = effect_of([Criterion.parse(ERRORS)], trial, failing(0.7, 8.0, 6.0))
    assert moved.effect == effect
    assert told in moved.reason


@pytest.mark.parametrize(("rate", "effect"), [(2.0, "unmoved"), (3.0, "moved")])
def test_a_latency_of_who_was_left_moves_nothing(rate: float, effect: str) -> None:
    """More connections than Postgres grants: many are refused, and the others are soon served."""
    trial = result(5.0, rate=rate, outcomes=[(P95, "met", 5.0), (ERRORS, "missed", 0.4)])
    trial = trial.model_copy(update={"metrics": {**trial.metrics, "error_rate": 0.4}})
    moved = effect_of(MISSED, trial, result())
    assert moved.effect == effect
    assert moved.reason.startswith("throughput ")


def test_a_latency_counts_where_no_more_fail_than_before() -> None:
    failing = {"p95": 5.0, "throughput": 2.0, "error_rate": 0.4}
    trial = result(5.0).model_copy(update={"metrics": failing})
    before = result().model_copy(update={"metrics": {**failing, "p95": 20.0}})
    assert effect_of(MISSED, trial, before).reason == f"{P95} is met"


def test_knobs_that_say_nothing_alone_are_one_change() -> None:
    settings = {"gcs_call": "executor", "db_call": "threadpool", "gcs_threads": 9, "workers": 2}
    assert grouped(settings) == [
        {"gcs_call": "executor", "gcs_threads": 9},
        {"db_call": "threadpool"},
        {"workers": 2},
    ]


@pytest.mark.parametrize(
    ("errors", "is_so"),
    [
        # of shares: at most 11 points better, beside 40 at least
        ((1.0, 1.0, 0.5), True),
        # at most 31 points better
        ((1.0, 0.8, 0.5), False),
        # the other did nothing that is sure
        ((1.0, 1.0, 0.95), False),
    ],
)
def test_a_share_is_outdone_by_one_that_surely_fell_more_than_twice_as_far(
    errors: tuple[float, float, float], is_so: bool
) -> None:
    known = {"error_rate": Spread(error=0.02, batches=10, effective=60)}
    before, trial, by = (
        result(spreads=known).model_copy(update={"metrics": {"error_rate": share}})
        for share in errors
    )
    assert is_outdone([Criterion.parse(ERRORS)], trial, by, before) is is_so
