"""What a search for a capacity reads of a verdict: the times of a trial's uploads."""

from __future__ import annotations

from typing import Any

import pytest

from lab.capacity import trial_of
from lab.judge.times import times_of
from lab.judge.trial import Trial
from lab.judge.verdict import judge
from lab.model.evidence import Cause, Evidence, LoadDone, Observation, Sample
from lab.model.times import TrialTimes
from lab.model.verdict import Outcome, Verdict
from tests.unit.judge.observations import STAGES, WINDOW, cell, sample, worker

LOAD = {"users": 5, "ramp": "5 s", "warmup": "10 s", "window": "60 s", "audio": "50 KB"}


def made(samples: list[Sample], *evidence: Evidence, **settings: Any) -> Trial:
    done = LoadDone(t=80.0, window=WINDOW, generator_exit=0)
    observation = Observation(samples=tuple(samples), evidence=(*evidence, done))
    return Trial(cell(load=settings.pop("load", LOAD), **settings), observation)


def upload(at: float, latency: float, storage: float = 3.0, **stages: float) -> Sample:
    return sample(WINDOW[0] + at, latency, stages=STAGES | {"gcs": storage} | stages)


def test_every_success_of_the_window_has_its_times_in_the_order_of_sending() -> None:
    trial = made([upload(30, 8), upload(10, 7, 2.5), upload(-1, 5), upload(60, 5)])
    times = times_of(trial)
    assert times
    assert (times.sent, times.latency, times.storage) == ((10, 30), (7, 8), (2.5, 3.0))


def test_failures_are_known_by_when_they_were_sent() -> None:
    failed = sample(WINDOW[0] + 20, 10.0, Cause.POOL_TIMEOUT)
    times = times_of(made([upload(10, 7), failed]))
    assert times
    assert (times.sent, times.failed) == ((10,), (20,))


def test_the_stages_are_means_of_the_window_and_of_its_halves() -> None:
    times = times_of(
        made([upload(10, 7, write=0.1), upload(20, 7, write=0.2), upload(40, 7, write=0.3)])
    )
    assert times
    assert times.stages == pytest.approx({"auth": 0.05, "release": 0.025, "write": 0.2})
    assert times.halves["write"] == pytest.approx((0.15, 0.3))
    assert times.halves_error == 0
    assert times_of(made([upload(10, 7)])).halves == {}  # type: ignore[union-attr]


def test_how_far_halves_differ_by_chance_follows_from_how_uploads_do() -> None:
    """Variances of 0.005 and 0.02 over two uploads each: sqrt(0.0025 + 0.01)."""
    written = ((10, 0.1), (20, 0.2), (40, 0.3), (50, 0.5))
    times = times_of(made([upload(at, 7, write=took) for at, took in written]))
    assert times
    assert times.halves_error == pytest.approx(0.1118, abs=1e-4)


def test_the_drain_is_until_the_last_answer_whoever_got_it() -> None:
    late = sample(WINDOW[1] - 1, 9.0, Cause.CLIENT_TIMEOUT)
    times = times_of(made([upload(10, 7), late]))
    assert times
    assert times.drain == 8
    assert times_of(made([upload(10, 7)])).drain == 0  # type: ignore[union-attr]


def readings(pid: int, inflight: int, busy: float) -> list[Evidence]:
    """A worker with so many uploads inside whose loop works for this share of the time."""
    return [
        worker(t, pid, inflight=inflight, loop_busy_s=busy * t) for t in (15.0, 35.0, 55.0, 75.0)
    ]


def test_the_loop_works_beside_its_stages_for_what_is_left_of_its_time() -> None:
    """Six uploads in a minute are 0.1 a second: of 5 % of the time an upload has half a second, of
    which 175 ms were its queries."""
    trial = made([upload(10 * n, 5, write=0.1) for n in range(6)], *readings(1, 3, 0.05))
    times = times_of(trial)
    assert times
    assert times.loop == pytest.approx(0.05)
    rate = trial.metrics["throughput"]
    assert times.cpu == pytest.approx(0.05 / rate - 0.175, abs=1e-5)


def test_how_uneven_the_split_was_is_told_where_every_worker_was_read() -> None:
    both = [*readings(1, 2, 0.1), *readings(2, 6, 0.1)]
    times = times_of(made([upload(10, 7)], *both, workers=2))
    assert times
    assert times.inside == (6, 2)
    one = times_of(made([upload(10, 7)], *readings(1, 2, 0.1), workers=2))
    assert one
    assert one.inside == ()


@pytest.mark.parametrize(
    ("samples", "load"),
    [
        ([], LOAD),
        ([sample(20, 5.0, Cause.POOL_TIMEOUT)], LOAD),
        ([sample(20, 5.0, stages={})], LOAD),
        ([upload(10, 7)], {"rate": "1/s", "window": "60 s"}),
        ([upload(10, 7)], LOAD | {"mix": {"upload": "50 %", "progress": "50 %"}}),
    ],
    ids=["nothing", "no success", "no stages", "an open load", "users who do other things"],
)
def test_where_there_are_none(samples: list[Sample], load: dict[str, Any]) -> None:
    assert times_of(made(samples, load=load)) is None


def test_a_verdict_keeps_them_and_a_search_reads_them_there() -> None:
    trial = made([upload(n, 7) for n in range(50)], *readings(1, 3, 0.05))
    verdict = judge(trial.cell, trial.observation)
    assert verdict.times == times_of(trial)
    stored = Verdict.model_validate_json(verdict.model_dump_json())
    assert stored == verdict
    named = trial.cell.model_copy(update={"id": "a-u5-1"})
    invalid = stored.model_copy(update={"outcome": Outcome.INVALID})
    held = stored.model_copy(update={"outcome": Outcome.HELD})
    assert trial_of(named, held).times == verdict.times
    assert trial_of(named, invalid).times is None
    assert trial_of(named, held).spent == WINDOW[1]


def test_a_verdict_of_an_earlier_lab_has_none_and_its_drain_is_guessed() -> None:
    trial = made([upload(n, 7) for n in range(50)])
    verdict = judge(trial.cell, trial.observation).model_dump()
    del verdict["times"]
    earlier = Verdict.model_validate(verdict | {"outcome": "held"})
    assert earlier.times is None
    assert trial_of(trial.cell, earlier).spent > WINDOW[1]


def test_times_are_of_one_length() -> None:
    with pytest.raises(ValueError, match="not of one length"):
        TrialTimes(sent=(1.0,), latency=(2.0, 3.0), storage=(1.0,))
