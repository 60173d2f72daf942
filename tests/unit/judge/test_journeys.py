"""A cell whose users do more than upload: each journey has its own figures, and uploads theirs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from lab.judge import Trial, judge
from lab.judge.agreement import disagreements
from lab.judge.costs import cost_of
from lab.judge.metrics import measure_all
from lab.judge.sequential import certain
from lab.judge.timeline import timeline
from lab.model.criterion import Criterion
from lab.model.evidence import Cause, Evidence, LoadDone, Sample
from lab.model.experiment import Cell
from lab.model.extent import Extent
from lab.model.journeys import Journey
from lab.model.metrics import with_percentiles
from lab.model.run import LoadSoFar
from tests.unit.judge.observations import (
    WINDOW,
    armed,
    at_rest,
    audit,
    cell,
    observation,
    record,
    sample,
    samples,
    worker,
)
from tests.unit.judge.test_bottleneck import TIMES, limit, lived, uploads

MIX = {"upload": "60 %", "assess": "20 %", "convert": "10 %", "progress": "10 %"}
LOAD: dict[str, Any] = {"users": 5, "mix": MIX, "health_every": "10 s"}
UPLOADS = samples(100, failed=10)


def asked(journey: str, count: int, latency: float = 0.1, **more: Any) -> list[Sample]:
    """That many successes of a journey, evenly over fifty seconds of the window."""
    made = {"journey": journey, "bytes": 0, **more}
    return [sample(WINDOW[0] + 50 * i / count, latency, **made) for i in range(count)]


def mixed(*criteria: str, load: dict[str, Any] | None = None, **settings: Any) -> Cell:
    return cell(*criteria, load=load or LOAD, **settings)


OTHERS = [
    *asked("progress", 190, 0.1),
    *asked("progress", 10, 1.5, error=Cause.POOL_TIMEOUT, status=503),
    *asked("health", 6, 0.02),
    *asked(
        "assess", 60, 2.5, stages={"auth": 0.05, "speech_queue": 0.3, "speech": 2.0, "write": 0.1}
    ),
]


def test_figures_without_a_journey_are_of_uploads_whatever_else_was_asked_for() -> None:
    alone = Trial(cell(), observation(UPLOADS)).metrics
    beside = measure_all(Trial(mixed(), observation([*UPLOADS, *OTHERS])))
    plain = {name for name in beside if "(" not in name}
    of_others = with_percentiles("speech_queue", "speech_latency")
    assert alone == {name: beside[name] for name in plain - {*of_others}}
    assert plain >= {*of_others}
    assert beside.keys() > alone.keys()


def test_each_journey_has_figures_of_its_own() -> None:
    found = measure_all(Trial(mixed(), observation([*UPLOADS, *OTHERS])))
    assert found["attempts(progress)"] == 200
    assert found["succeeded(progress)"] == 190
    assert found["error_rate(progress)"] == 0.05
    assert found["errors.pool_timeout(progress)"] == 10
    assert found["throughput(progress)"] == pytest.approx(190 / 60)
    assert found["p50(progress)"] == found["p99(progress)"] == 0.1
    assert found["status.200(progress)"] == 190
    assert found["status.503(progress)"] == 10
    assert "status.503(assess)" not in found
    assert found["attempts(health)"] == 6
    assert found["auth(assess)"] == 0.05
    assert found["write(assess)"] == 0.1
    assert "auth(health)" not in found
    assert "attempts(convert)" not in found  # none was sent: nothing is known, not zero


def test_how_late_the_generator_was_is_of_all_that_it_sent() -> None:
    late = [s.model_copy(update={"planned_at": s.sent_at - 2.0}) for s in asked("health", 40)]
    trial = Trial(mixed(), observation([*samples(100), *late]))
    assert trial.metrics["lateness"] == 2.0


@pytest.mark.parametrize(
    ("threads", "workers", "bound"),
    [(20, 1, 10.0), (20, 2, 20.0), (3, 1, 1.5), (200, 1, 57.142857)],
)
def test_assessments_are_bound_by_the_speech_threads_or_what_else_is_scarcer(
    threads: int, workers: int, bound: float
) -> None:
    """Twenty threads of 2 s each; with 200 of them the loop, which each has for 0.15 s, or where
    calls leave it, the pool's 20 connections, for 0.35 s."""
    stages = {"auth": 0.2, "speech": 2.0, "write": 0.15}
    of = mixed(speech_threads=threads, workers=workers, db_call="threadpool")
    trial = Trial(of, observation(asked("assess", 60, 2.5, stages=stages)))
    assert measure_all(trial)["capacity(assess)"] == pytest.approx(bound)


@pytest.mark.parametrize(
    ("settings", "bound"),
    [({}, 20.0), ({"audio_threads": 4}, 8.0), ({"convert_call": "blocking"}, 1 / 0.55)],
)
def test_conversions_are_bound_by_the_audio_threads_or_the_loop(
    settings: dict[str, Any], bound: float
) -> None:
    stages = {"auth": 0.05, "convert_queue": 1.0, "convert": 0.5}
    trial = Trial(mixed(**settings), observation(asked("convert", 60, 1.6, stages=stages)))
    found = measure_all(trial)
    assert found["capacity(convert)"] == pytest.approx(bound)
    rate = found["throughput(convert)"]
    assert found["utilisation(convert)"] == pytest.approx(rate / bound, abs=1e-6)


@pytest.mark.parametrize(
    ("criterion", "outcome", "reason"),
    [
        ("p95(progress) < 1 s", "met", "p95(progress) 100 ms (<= 100 ms at 95 %) against < 1 s"),
        (
            "p95(progress) < 50 ms",
            "missed",
            "p95(progress) 100 ms (>= 100 ms at 95 %) against < 50",
        ),
        (
            "p95(health) < 1 s",
            "undecided",
            "6 health probes are too few, 59 straight successes would",
        ),
        ("error_rate(progress) < 1 %", "missed", "against < 1 %: pool_timeout 10"),
        ("attempts(assess) >= 60", "met", "attempts(assess) 60 against >= 60"),
        ("throughput(convert) > 1/s", "undecided", "throughput(convert): nothing was measured"),
        (
            "errors.pool_timeout(progress) == 0",
            "missed",
            "errors.pool_timeout(progress) 10 against",
        ),
        ("error_rate < 50 %", "met", "error_rate 10.0 %"),
    ],
)
def test_a_criterion_is_decided_by_the_samples_of_its_journey(
    criterion: str, outcome: str, reason: str
) -> None:
    [finding] = judge(mixed(criterion), observation([*UPLOADS, *OTHERS])).findings
    assert (finding.criterion, finding.outcome) == (criterion, outcome)
    assert reason in finding.reason


def test_a_probe_that_was_given_up_took_at_least_as_long_as_it_was_waited_for() -> None:
    given_up = asked("health", 100, 10.0, error=Cause.CLIENT_TIMEOUT, status=0)
    [finding] = judge(mixed("p95_all(health) < 5 s"), observation([*UPLOADS, *given_up])).findings
    assert (finding.outcome, finding.value) == ("missed", 10.0)


# What limited it.

SPEECH = {"auth": 0.05, "speech_queue": 9.0, "speech": 2.0, "write": 0.1}
CONVERTED = {"auth": 0.05, "convert_queue": 2.9, "convert": 0.05}


def test_the_speech_threads_limit_assessments() -> None:
    seen = observation(
        [*uploads(100), *asked("assess", 100, 11.2, stages=SPEECH)],
        lived(speech_busy=20, speech_queued=15, inside=30),
    )
    found = limit(mixed("p95(assess) < 5 s", "p95 < 10 s"), seen)
    assert found.resource == "speech_threads"
    assert found.evidence.startswith(
        "speech threads 100 % busy, 20 threads, assessments queued 100 % of the time; what 100"
        " assessments were late for: speech threads 100 %"
    )


def test_assessments_that_nobody_keeps_waiting_are_as_slow_as_speech_is() -> None:
    stages = {"auth": 0.05, "speech": 6.0, "write": 0.1}
    seen = observation([*uploads(100), *asked("assess", 100, 6.2, stages=stages)], lived())
    found = limit(mixed("p95(assess) < 5 s"), seen)
    assert found.resource == "speech"


@pytest.mark.parametrize("gcs_call", ["executor", "audio_pool"])
def test_the_audio_threads_limit_conversions_and_uploads_that_share_them(gcs_call: str) -> None:
    shares = gcs_call == "audio_pool"
    gauges = {"audio_busy": 2, "threads_busy": 8} if shares else {"audio_busy": 10}
    seen = observation(
        [*uploads(100), *asked("convert", 100, 3.0, stages=CONVERTED)],
        lived(audio_queued=9, inside=30, **gauges),
    )
    found = limit(mixed("p95(convert) < 1 s", "p95 < 10 s", gcs_call=gcs_call), seen)
    assert found.resource == "audio_threads"
    if shares:
        assert found.evidence.startswith(
            "audio threads 100 % busy, 10 threads, uploads and conversions, which share them,"
            " queued 100 % of the time, storage calls had 80 % of what was in use"
        )
    else:
        assert found.evidence.startswith("audio threads 100 % busy, 10 threads, conversions queued")


def test_uploads_that_wait_for_threads_which_conversions_have_wait_for_the_audio_threads() -> None:
    seen = observation(
        uploads(100, 20.0), lived(audio_busy=7, threads_busy=3, threads_queued=12, inside=30)
    )
    assert limit(mixed(gcs_call="audio_pool"), seen).resource == "audio_threads"


def test_those_who_only_read_wait_for_a_loop_that_storage_blocks() -> None:
    seen = observation(
        [*uploads(100), *asked("progress", 100, 9.0, stages={"auth": 0.05, "read": 0.05})],
        lived(busy=0.99, inflight=1, inside=8, loop_lag=3.0, threads_busy=1),
    )
    found = limit(mixed("p95(progress) < 1 s", "p95 < 10 s", gcs_call="blocking"), seen)
    assert found.resource == "event_loop"
    assert "what 100 progress requests were late for: event loop" in found.evidence


@pytest.mark.parametrize(
    "criterion", ["error_rate(assess) < 5 %", "errors.speech_error(assess) == 0"]
)
def test_assessments_that_speech_fails_are_limited_by_speech(criterion: str) -> None:
    failed = asked("assess", 40, 0.2, error=Cause.SPEECH_ERROR, stages={"auth": 0.05})
    seen = observation([*uploads(100), *asked("assess", 60, 2.2), *failed], lived())
    found = limit(mixed(criterion, "p95 < 10 s"), seen)
    assert found.resource == "speech"
    assert found.evidence.startswith("speech failed 40 of 100 assessments")


def test_answers_of_a_journey_are_limited_by_what_made_them() -> None:
    failed = asked("assess", 40, 0.2, error=Cause.SPEECH_ERROR, stages={"auth": 0.05})
    seen = observation([*uploads(100), *asked("assess", 60, 2.2), *failed], lived())
    asks = mixed("status.503(assess) < 10")
    assert [(f.outcome, f.value) for f in judge(asks, seen).findings] == [("missed", 40)]
    assert limit(asks, seen).resource == "speech"


@pytest.mark.parametrize("journey", ["assess", "convert"])
def test_files_that_are_no_audio_are_the_clients_and_no_resource_made_them_fail(
    journey: str,
) -> None:
    failed = asked(journey, 40, 0.1, error=Cause.BAD_AUDIO, status=422, stages={"auth": 0.05})
    seen = observation([*uploads(100), *asked(journey, 60, 2.2), *failed], lived())
    found = limit(mixed(f"error_rate({journey}) < 5 %"), seen)
    assert (found.resource, "; bad_audio 40" in found.evidence) == ("none", True)


@pytest.mark.parametrize(
    ("criterion", "resource"),
    [
        ("speech_queue_p95 < 1 s", "speech_threads"),
        ("speech_latency < 1 s", "speech"),
        ("convert_queue < 1 s", "audio_threads"),
        ("convert_time_p99 < 10 ms", "cpu"),
        ("read_p50 < 10 ms", "database"),
    ],
)
def test_a_stage_that_is_too_long_names_the_resource_whose_it_is(
    criterion: str, resource: str
) -> None:
    seen = observation(
        [
            *uploads(100),
            *asked("assess", 100, 11.2, stages=SPEECH),
            *asked("convert", 100, 3.0, stages=CONVERTED),
            *asked("progress", 100, 0.2, stages={"auth": 0.05, "read": 0.1}),
        ],
        lived(audio_busy=10, audio_queued=9, speech_busy=20, speech_queued=15, inside=40),
    )
    assert limit(mixed(criterion), seen).resource == resource


def test_what_uploads_missed_comes_first_and_the_others_are_told_beside_it() -> None:
    seen = observation(
        [*uploads(100, 20.0), *asked("assess", 100, 11.2, stages=SPEECH)],
        lived(threads_busy=8, threads_queued=12, speech_busy=20, speech_queued=15, inside=40),
    )
    found = limit(mixed("p95(assess) < 5 s", "p95 < 10 s", gcs_threads=8), seen)
    assert found.resource == "own_threads"
    assert "; assessments: speech_threads, speech threads 100 % busy" in found.evidence


def test_journeys_that_wait_for_different_things_have_no_one_limit() -> None:
    seen = observation(
        [
            *uploads(100),
            *asked("assess", 100, 11.2, stages=SPEECH),
            *asked("convert", 100, 3.0, stages=CONVERTED),
        ],
        lived(audio_busy=10, audio_queued=9, speech_busy=20, speech_queued=15, inside=40),
    )
    found = limit(mixed("p95(assess) < 5 s", "p95(convert) < 1 s"), seen)
    assert found.resource == "unclear"
    assert found.evidence.startswith("2 journeys differ: assessments: speech_threads, speech thr")
    assert "; conversions: audio_threads, audio threads 100 % busy" in found.evidence


def test_where_users_only_upload_no_other_journeys_threads_are_looked_at() -> None:
    found = limit(cell(), observation(uploads(100, 20.0), lived(threads_busy=20, threads_queued=9)))
    looked_at = {str(one.resource) for one in found.candidates}
    assert not looked_at & {"speech", "speech_threads", "audio_threads"}


# A load without uploads.

READS: dict[str, Any] = {"users": 5, "mix": {"progress": "100 %"}}


def test_a_load_without_uploads_is_judged_by_what_it_has() -> None:
    verdict = judge(mixed("p95(progress) < 1 s", load=READS), observation(asked("progress", 100)))
    assert (verdict.outcome, verdict.reasons[0][:24]) == ("held", "p95(progress) 100 ms (<=")
    assert verdict.metrics["attempts(progress)"] == 100
    assert verdict.metrics.keys().isdisjoint({"attempts", "p95", "throughput"})
    assert verdict.limit is not None


def test_where_nothing_was_sent_it_is_called_by_its_name() -> None:
    verdict = judge(mixed("p95(progress) < 1 s", load=READS), observation())
    assert verdict.outcome == "undecided"
    assert verdict.reasons[0] == "no progress request was sent in the window"


def test_failures_are_called_by_what_failed() -> None:
    failed = asked("progress", 100, error=Cause.DB_REFUSED, status=503)
    verdict = judge(mixed("attempts(progress) > 1", load=READS), observation(failed))
    assert "progress requests failed: db_refused 100" in verdict.reasons


# Evidence that belongs together.


def told(sent: Iterable[Sample], *lines: Evidence) -> list[str]:
    found = [LoadDone(t=80, window=WINDOW, generator_exit=0), *lines]
    return list(disagreements(Trial(mixed(), observation(sent, found))))


def test_only_uploads_are_in_the_bucket() -> None:
    stored = [sample(20.0, recording="r1", request="0-1")]
    assessed = [sample(21.0, recording="a1", request="0-2", journey="assess")]
    rows = (record("0-1"), record("0-2", journey="assess"))
    assert told([*stored, *assessed], audit(rows=1, objects=1), *rows) == []
    [reason] = told([*stored, *assessed], audit(rows=2, objects=2), *rows)
    assert reason.startswith("1 uploads were answered 200 by the samples, but 2 by the audit")


def test_a_success_is_recorded_as_the_journey_that_it_was() -> None:
    sent = [
        sample(20.0 + n, request=f"0-{n}", journey="assess", recording=f"a{n}") for n in range(3)
    ]
    rows = [record(f"0-{n}", journey="assess") for n in range(3)]
    assert told(sent, audit(), *rows) == []
    [reason] = told(sent, audit(), *rows[1:])
    assert reason.startswith("1 assessments were answered 200, but no worker recorded that (0-0 is")
    [other] = told(sent, audit(), *rows[1:], record("0-0", journey="convert"))
    assert other == reason
    probes = [sample(20.0, request="health-1", journey="health")]
    assert told(probes, audit()) == []  # what no worker records cannot be missing


def test_what_an_upload_costs_is_not_learned_where_users_do_other_things() -> None:
    with_readings = [*lived(), *at_rest()]
    assert cost_of(Trial(cell(), observation(samples(100), with_readings))) is not None
    assert cost_of(Trial(mixed(), observation(samples(100), with_readings))) is None


# Over time, and before its time.


def test_a_criterion_is_crossed_by_the_journey_that_it_is_of() -> None:
    late = [s.model_copy(update={"latency_s": 5.0}) for s in asked("progress", 100)]
    seen = observation([*samples(100), *late])
    [crossing] = timeline(Trial(mixed("p95(progress) < 1 s", "p95 < 10 s"), seen)).crossings
    assert crossing.criterion == "p95(progress) < 1 s"
    assert crossing.value == 5.0


def test_failures_and_rates_over_time_are_the_uploads() -> None:
    failed = asked("progress", 100, error=Cause.DB_REFUSED, status=503)
    found = timeline(Trial(mixed(), observation([*samples(100), *failed])))
    assert found.failures == ()
    alone = timeline(Trial(cell(), observation(samples(100))))
    assert found.series is not None
    assert alone.series is not None
    assert found.series.sent == alone.series.sent


def test_a_stage_keeps_what_its_criteria_are_of() -> None:
    load = {"stages": [{"users": 5, "hold": "75 s"}], "mix": MIX}
    trial = Trial(mixed("p95(progress) < 1 s", load=load), observation([*samples(100), *OTHERS]))
    [stage] = timeline(trial).stages
    assert stage.metrics["p95(progress)"] == 0.1
    assert stage.metrics["attempts"] == 100
    assert stage.outcome == "held"


def test_a_claim_is_certain_by_its_journey_alone() -> None:
    """Three hundred quick reads, whatever uploads do; of those under way only reads count."""
    reads = asked("progress", 400, 0.1)
    slow = [sample(15 + n / 10, 60.0) for n in range(300)]
    of, claim = mixed("p95(progress) < 1 s"), Criterion.parse("p95(progress) < 1 s")
    found = certain(claim, of, LoadSoFar(70.0, [*reads, *slow], [60.0] * 50))
    assert found is not None
    assert found.outcome == "met"
    assert found.uploads == 400
    waiting = LoadSoFar(70.0, reads, [], {Journey.PROGRESS: [16.0] * 300})
    assert certain(claim, of, waiting) is None
    assert certain(Criterion.parse("p95 < 10 s"), of, LoadSoFar(70.0, reads, [])) is None


def test_a_burst_lasts_until_its_last_user_is_answered_however_long_health_is_asked_for() -> None:
    load = {"burst": 3, "mix": MIX, "health_every": "1 s"}
    sent = [sample(0.0, 4.0), sample(0.0, 6.0, journey="progress")]
    trial = Trial(mixed(load=load), observation([*sent, *asked("health", 9)]))
    assert trial.window == (0.0, 6.0)
    assert trial.of(Journey.HEALTH).metrics["attempts"] == 9


def test_probes_are_no_users_and_no_damage() -> None:
    of = mixed()
    problem = Extent(of).no_line_of_load()
    probe = sample(20.0, 0.1, user=5, journey="health", bytes=0)
    assert problem(1, probe) == ""
    assert problem(2, sample(20.0, user=6)) == "user 6, and there are 6"
    none = Extent(cell()).no_line_of_load()
    assert none(1, probe) == "user 5, and there are 5"


def test_a_mix_is_held_to_what_is_injected_as_uploads_are() -> None:
    """Storage's delay is that of uploads alone."""
    of = mixed("p95 < 10 s", faults=("gcs-latency",), db_rtt="25 ms")
    verdict = judge(of, observation([*samples(100), *OTHERS], [*at_rest(), *armed(of)]))
    storage = [check for check in verdict.injected if "gcs" in check.name]
    assert storage
    assert all(check.ok is not False for check in storage), storage


def test_a_worker_reading_of_an_earlier_lab_says_nothing_of_speech() -> None:
    old = [worker(t, speech_busy=None, audio_busy=None) for t in TIMES]
    seen = observation(uploads(100), [*old, *lived()[len(old) :]])
    found = limit(mixed("p95 < 10 s"), seen)
    assert not {str(c.resource) for c in found.candidates} & {"speech_threads", "audio_threads"}
