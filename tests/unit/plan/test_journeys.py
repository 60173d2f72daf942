"""What a mix changes in what is said, and chosen, before anything is started."""

from __future__ import annotations

from typing import Any

import pytest

from lab.capacity import search_for, trial_of
from lab.errors import SpecError
from lab.model.experiment import Cell
from lab.model.journeys import Journey
from lab.model.metrics import with_journey
from lab.model.physics import attempt_s, request_s, service_s
from lab.model.verdict import Outcome, Verdict
from lab.plan.effect import refuse_equal, settings_without_effect
from lab.plan.estimate import estimate, max_requests, too_few
from lab.plan.speed import TYPICAL, Expected, choose_speed
from tests.unit.judge.observations import cell

CLOSED: dict[str, Any] = {"users": 10, "window": "60 s", "audio": "200 KB"}
HALF = {"upload": "50 %", "progress": "50 %"}


def mixed(*criteria: str, mix: dict[str, str] | None = None, **settings: Any) -> Cell:
    load = CLOSED | ({"mix": mix} if mix else {}) | settings.pop("load", {})
    return cell(*criteria, load=load, faults=("gcs-latency", "db-distance"), **settings)


def test_a_mix_of_uploads_alone_is_what_is_planned_without_one() -> None:
    only = mixed(mix={"upload": "100 %"})
    assert choose_speed(only, TYPICAL) == choose_speed(mixed(), TYPICAL)
    assert Expected(only, TYPICAL).rate == Expected(mixed(), TYPICAL).rate
    assert estimate([only]) == estimate([mixed()])
    assert attempt_s(only) == service_s(only)


@pytest.mark.parametrize(
    ("journey", "seconds"),
    [
        (Journey.UPLOAD, 3.675),
        (Journey.ASSESS, 2.175),
        (Journey.CONVERT, 0.075),
        (Journey.PROGRESS, 0.075),
        (Journey.HEALTH, 0.0),
    ],
)
def test_a_request_takes_what_it_calls(journey: Journey, seconds: float) -> None:
    assert request_s(mixed(db_rtt="25 ms", pool_pre_ping="off"), journey) == pytest.approx(seconds)


def test_those_who_only_read_come_again_sooner() -> None:
    alone, beside = (Expected(mixed(mix=mix), TYPICAL) for mix in (None, HALF))
    assert beside.rate > 1.5 * alone.rate
    reads = Expected(mixed(mix={"progress": "100 %"}), TYPICAL)
    assert reads.rate > 5 * alone.rate


def test_conversion_is_work_that_lowers_the_speed() -> None:
    """More so of large files, of which a read has none."""
    reads, conversions = (
        mixed(mix={name: "100 %"}, load={"users": 5, "audio": "900 KB"}, db_rtt="500 ms")
        for name in ("progress", "convert")
    )
    assert choose_speed(conversions, TYPICAL).speed < choose_speed(reads, TYPICAL).speed


def test_a_bound_on_what_is_quick_keeps_the_speed_low() -> None:
    loose, tight = (
        choose_speed(mixed(f"p95(progress) < {bound}", mix=HALF), TYPICAL)
        for bound in ("30 s", "500 ms")
    )
    assert tight.speed < loose.speed
    assert "p95(progress) < 500 ms would be" in tight.reason


def test_what_may_be_too_few_is_counted_by_journey() -> None:
    mix = {"upload": "99 %", "progress": "1 %"}
    of = mixed("p95(progress) < 1 s", "p95 < 10 s", "error_rate(health) < 5 %", mix=mix)
    of = of.model_copy(update={"load": of.load.model_copy(update={"health_every": 10.0})})
    assert max_requests(of, Journey.HEALTH) == 6
    few = max_requests(of, Journey.PROGRESS)
    assert too_few(of) == [
        f"a: p95(progress) < 1 s cannot be shown to hold: about {few} progress requests count at"
        " most, and it takes 59 with none beyond the bound",
        "a: error_rate(health) < 5 % cannot be shown to hold: about 6 health probes count at most,"
        " and it takes 59 with none beyond the bound",
    ]


@pytest.mark.parametrize("load", [{"users": 10}, {"rate": "5/s"}, {"burst": 30}])
def test_every_form_of_load_can_be_mixed(load: dict[str, Any]) -> None:
    mix = {"assess": "40 %", "convert": "30 %", "progress": "30 %"}
    of = cell("p95(assess) < 1 s", load=load | {"mix": mix}, faults=("db-distance",))
    assert estimate([of]) > 0
    assert choose_speed(of, TYPICAL).speed >= 1
    assert max_requests(of, Journey.ASSESS) > 0


def test_a_knob_is_felt_by_those_who_use_it() -> None:
    threads = ("speech_threads", "audio_threads", "convert_call")
    alone = settings_without_effect(threads, mixed())
    assert [line.split()[0] for line in alone] == [
        "audio_threads",
        "speech_threads",
        "convert_call",
    ]
    mix = {"assess": "50 %", "convert": "50 %"}
    assert settings_without_effect(threads, mixed(mix=mix)) == []
    refuse_equal([mixed(mix=mix, speech_threads=n) for n in (5, 20)])
    with pytest.raises(SpecError):
        refuse_equal([mixed(speech_threads=n) for n in (5, 20)])


def test_a_search_asks_for_so_many_that_the_rarest_journey_has_enough() -> None:
    usual = search_for(mixed("p95 < 10 s", "p95(progress) < 1 s", mix=HALF))
    rare = search_for(
        mixed("p95 < 10 s", "p95(progress) < 1 s", mix={"upload": "90 %", "progress": "10 %"})
    )
    assert (usual.samples, rare.samples) == (80, 400)
    assert search_for(mixed("p95 < 10 s")).samples == 40


def test_a_trial_counts_all_that_users_sent_and_each_criterion_its_own() -> None:
    of = mixed("p95(progress) < 1 s", mix=HALF)
    metrics = {"attempts": 30.0, with_journey("attempts", Journey.PROGRESS): 50.0}
    verdict = Verdict(
        cell="a", outcome=Outcome.HELD, reasons=(), metrics=metrics, findings=(), injected=()
    )
    assert trial_of(of, verdict).sent == 80
