from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.judge import Trial, judge, leaks
from lab.model.evidence import Cause, LoadDone, Observation, PartDown
from lab.model.verdict import Leak, Outcome, Verdict
from tests.unit.judge.observations import (
    at_rest,
    audit,
    cell,
    cut_off,
    observation,
    record,
    sample,
    samples,
)


@pytest.mark.parametrize(
    ("seen", "outcome", "first"),
    [
        (observation(samples(100)), "held", "p95 3.94 s (<= 3.98 s at 95 %) against < 10 s"),
        (
            observation(samples(139, failed=53)),
            "broke",
            "error_rate 38.1 % (>= 31.2 % at 95 %) against < 5 %: pool_timeout 53",
        ),
        (
            observation(samples(30)),
            "undecided",
            "p95 3.93 s (>= 3.83 s at 95 %) against < 10 s: 30",
        ),
        (observation([]), "undecided", "no upload was sent in the window"),
        (observation(samples(100), []), "invalid", "the load never finished"),
        (
            observation(samples(100), [*at_rest(), PartDown(t=20, part="nginx", why="exit 1")]),
            "invalid",
            "nginx was down at 20.0 s: exit 1",
        ),
        (observation(samples(60, failed=60)), "broke", "error_rate 100.0 % (>= 95.1 % at 95 %)"),
    ],
    ids=["held", "broke", "few", "none", "no evidence", "part down", "all failed"],
)
def test_the_outcome_and_the_reason_that_decides_it(
    seen: Observation, outcome: str, first: str
) -> None:
    verdict = judge(cell(), seen)
    assert verdict.outcome == outcome
    assert verdict.reasons[0].startswith(first)


def test_a_cell_without_samples_is_never_held() -> None:
    verdict = judge(cell("pg_connections <= 20"), observation([]))
    assert [finding.outcome for finding in verdict.findings] == ["met"]
    assert verdict.outcome is Outcome.UNDECIDED
    assert verdict.reasons[0] == "no upload was sent in the window"


def test_a_window_in_which_everybody_waits_says_so() -> None:
    stuck = [sample(5, 90, Cause.GATEWAY_TIMEOUT) for _ in range(5)]
    verdict = judge(cell(), observation([*stuck, sample(1, 2)]))
    assert verdict.outcome is Outcome.UNDECIDED
    assert verdict.reasons[0] == (
        "no upload was sent in the window: 5 users were still waiting for an earlier answer,"
        " the last until 95 s - let the window end (75 s) later"
    )


@pytest.mark.parametrize(("dropped", "said"), [(0, False), (37, True)])
def test_a_cell_that_was_offered_less_than_its_rate_says_so(dropped: int, said: bool) -> None:
    of = cell(load={"rate": "5/s", "max_in_flight": 9})
    done = LoadDone(t=75, window=(15, 75), generator_exit=0, dropped=dropped)
    evidence = [line for line in at_rest() if not isinstance(line, LoadDone)]
    verdict = judge(of, observation(samples(100), [*evidence, done]))
    told = (
        "37 of 137 arrivals of the window were not sent: 9 uploads were in flight (max_in_flight)"
    )
    assert verdict.outcome is Outcome.HELD
    assert verdict.metrics["dropped"] == dropped
    assert (verdict.reasons[0] == told) == said
    assert any("not sent" in reason for reason in verdict.reasons) == said


def test_a_cell_that_broke_says_why_uploads_failed_commonest_first() -> None:
    uploads = [*samples(50, failed=9), *(sample(error=Cause.GATEWAY_TIMEOUT) for _ in range(20))]
    verdict = judge(cell("p95 < 1 s"), observation(uploads))
    assert verdict.outcome is Outcome.BROKE
    assert verdict.reasons[-1] == "uploads failed: gateway_timeout 20, pool_timeout 9"


def test_what_the_service_found_follows_what_clients_saw() -> None:
    uploads = [*samples(50, failed=9), *cut_off(20)]
    named = [record(f"cut-{i}", 503, "pool_timeout") for i in range(12)]
    named += [record("cut-12", 500, "db_error"), record("cut-13")]
    told = "gateway_timeout 20 (the service itself: pool_timeout 12, db_error 1), pool_timeout 9"
    for criterion in ("p95 < 1 s", "p95 < 10 s", "errors.gcs_error == 0"):
        verdict = judge(cell(criterion), observation(uploads, [*at_rest(), *named]))
        assert verdict.reasons[-1] == f"uploads failed: {told}"
    verdict = judge(cell("error_rate < 5 %"), observation(uploads, [*at_rest(), *named]))
    assert verdict.reasons == (f"error_rate 41.4 % (>= 31.5 % at 95 %) against < 5 %: {told}",)


def test_uploads_stored_unheard_are_a_reason_of_their_own() -> None:
    seen = observation(samples(100), [*at_rest(), audit(unheard=["a", "b"])])
    assert judge(cell(), seen).reasons[-1] == "uploads stored whose users were never told: 2"


UPLOADS = st.lists(
    st.builds(
        sample,
        sent=st.floats(0, 90),
        latency=st.floats(0, 130),
        error=st.sampled_from([None, None, None, *Cause]),
    ),
    max_size=80,
)


@given(UPLOADS, st.lists(st.sampled_from(at_rest()), unique_by=id))
def test_no_evidence_is_never_held_and_less_evidence_never_makes_held(
    uploads: list[object], evidence: list[object]
) -> None:
    whole = judge(cell(), Observation.model_validate({"samples": uploads, "evidence": at_rest()}))
    less = judge(cell(), Observation.model_validate({"samples": uploads, "evidence": evidence}))
    nothing = judge(cell(), Observation.model_validate({"samples": [], "evidence": evidence}))
    if less.outcome is Outcome.HELD:
        assert whole.outcome is Outcome.HELD
    assert nothing.outcome is not Outcome.HELD


@given(UPLOADS)
def test_a_verdict_is_the_same_to_the_byte_when_read_back(uploads: list[object]) -> None:
    seen = Observation.model_validate({"samples": uploads, "evidence": at_rest()})
    first = judge(cell(), seen).model_dump_json()
    again = judge(cell(), Observation.model_validate_json(seen.model_dump_json()))
    assert again.model_dump_json() == first
    assert Verdict.model_validate_json(first).model_dump_json() == first


def test_a_trial_is_looked_through_for_leaks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Trial] = []

    def once(trial: Trial) -> tuple[Leak, ...]:
        seen.append(trial)
        return ()

    monkeypatch.setattr(leaks, "leaks", once)
    judge(cell("p95 < 10 s", "rss_slope < 20 KB"), observation(samples(100)))
    assert len(seen) == 1


def test_the_order_of_samples_and_readings_on_disk_does_not_matter() -> None:
    uploads, lines = samples(100, failed=9), at_rest()
    first = judge(cell(), observation(uploads, lines))
    generator = random.Random(1)
    generator.shuffle(uploads)
    generator.shuffle(lines)
    assert judge(cell(), observation(uploads, lines)) == first
