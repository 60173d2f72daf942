from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from lab.judge import Trial, judge
from lab.judge.sequential import all_certain, certain
from lab.model.criterion import Criterion
from lab.model.evidence import Cause, Evidence, LoadDone, Sample
from lab.model.experiment import Cell
from lab.model.extent import Extent
from lab.model.load import ClosedLoad, OpenLoad
from lab.model.run import LoadSoFar
from lab.model.verdict import EarlyEnd, Outcome
from tests.unit.judge.observations import at_rest, cell, observation, sample

STOPPING = {"stop_when_decided": True}


def stopping(*criteria: str, workers: int = 1) -> Cell:
    """A cell whose window runs from 15 to 75 s, and may end early."""
    return cell(*criteria, workers=workers).model_copy(update=STOPPING)


def sent(
    count: int,
    until: float = 50.0,
    latency: float = 4.0,
    bad: Callable[[int], bool] = lambda _: False,
    late: float = 14.0,
    error: Cause | None = None,
) -> list[Sample]:
    """So many uploads from 15 s on, evenly; the bad ones take ``late`` seconds and may fail."""
    ends = [(late, error) if bad(n) else (latency, None) for n in range(count)]
    return [sample(15 + (until - 15) * n / count, *end) for n, end in enumerate(ends)]


def as_of(at: float, samples: Sequence[Sample]) -> LoadSoFar:
    """What a look at a moment sees of uploads that were all answered in the end."""
    ended = [s for s in samples if s.sent_at + s.latency_s <= at]
    return LoadSoFar(at, ended, [s.sent_at for s in samples if s.sent_at <= at and s not in ended])


def look(text: str, at: float, samples: Sequence[Sample], of: Cell | None = None) -> str | None:
    found = certain(Criterion.parse(text), of or cell(text), as_of(at, samples))
    return found and found.outcome


SOME = sent(300, bad=lambda n: n % 3 == 0)
FAILED = sent(300, bad=lambda n: n % 3 == 0, error=Cause.POOL_TIMEOUT)


@pytest.mark.parametrize(
    ("criterion", "samples", "outcome"),
    [
        ("p95 < 10 s", sent(300), "met"),
        ("p95 < 10 s", sent(30), None),
        ("p95 < 10 s", SOME, "missed"),
        ("p95 < 10 s", sent(300, bad=lambda n: n % 20 == 0), None),
        ("p95 <= 10 s", SOME, "missed"),
        ("p50 < 10 s", sent(300), "met"),
        ("p50 < 10 s", SOME, None),
        ("p50 < 3 s", SOME, "missed"),
        ("p95 > 10 s", SOME, "met"),
        ("p95 > 10 s", sent(300), "missed"),
        ("p95_all < 10 s", FAILED, "missed"),
        ("p95 < 10 s", FAILED, "met"),
        ("error_rate < 5 %", sent(300), "met"),
        ("error_rate < 5 %", FAILED, "missed"),
        ("error_rate > 5 %", FAILED, "met"),
        ("error_rate > 20 %", FAILED, None),
        ("error_rate >= 90 %", FAILED, "missed"),
        ("error_rate == 0 %", FAILED, None),
        ("error_rate <= 0 %", FAILED, None),
        ("error_rate < 100 %", sent(300), None),
        ("p95_all < 130 s", sent(300), None),
        ("throughput > 1/s", sent(300), None),
        ("p95 < 10 s", [], None),
    ],
)
def test_a_claim_about_a_share_is_certain_once_uploads_enough_show_it(
    criterion: str, samples: list[Sample], outcome: str | None
) -> None:
    assert look(criterion, 70, samples) == outcome


def test_uploads_that_are_more_alike_have_to_be_more() -> None:
    text = "p95 < 10 s"
    assert look(text, 70, sent(300)) == "met"
    assert look(text, 70, sent(300), cell(text, workers=2)) is None
    few = sent(300, bad=lambda n: n % 6 == 0)
    assert look(text, 70, few) == "missed"
    assert look(text, 70, few, cell(text, workers=2)) is None
    assert look(text, 70, sent(300, bad=lambda _: True), cell(text, workers=2)) == "missed"


SLOW = sent(600, latency=1.0, bad=lambda n: n % 5 == 0, late=50.0)
"""A fifth take 50 s. Of those answered at 45 s, all took one."""


def test_a_look_is_not_taken_in_by_those_who_were_quick() -> None:
    quick = [s for s in SLOW if s.sent_at + s.latency_s <= 45]
    assert len(quick) > 150
    assert {s.latency_s for s in quick} == {1.0}
    assert certain(Criterion.parse("p95 < 10 s"), cell(), LoadSoFar(45, quick, ())) is not None
    assert look("p95 < 10 s", 45, SLOW) is None
    assert look("error_rate < 5 %", 45, SLOW) is None
    assert look("p95 < 10 s", 101, SLOW) == "missed"


def test_who_has_waited_since_before_the_window_is_not_overlooked() -> None:
    waiting = [sample(3 + n / 10, 80) for n in range(20)]
    assert look("p95 < 10 s", 70, sent(300)) == "met"
    assert look("p95 < 10 s", 70, [*sent(300), *waiting]) is None


def test_who_is_under_way_cannot_change_what_is_certain_without_them() -> None:
    late = sent(300, bad=lambda n: n % 2 == 0)
    waiting = [sample(50 + n / 10, 15) for n in range(30)]
    assert look("p95 < 10 s", 64, [*late, *waiting]) == "missed"
    assert look("p95 < 10 s", 64, [*sent(300), *waiting]) == "met"  # of those sent before them


def test_who_has_waited_beyond_the_bound_is_not_taken_for_quick() -> None:
    late = [sample(20 + n / 10, 15, Cause.POOL_TIMEOUT if n % 2 else None) for n in range(20)]
    waiting = [sample(16 + n / 100, 40) for n in range(100)]
    assert look("p95 < 10 s", 41, late) == "missed"
    assert look("error_rate < 5 %", 41, late) == "missed"
    assert look("p95 < 10 s", 41, [*late, *waiting]) == "missed"  # late already, or they will fail
    assert look("error_rate < 5 %", 41, [*late, *waiting]) is None  # they may yet succeed


def test_a_cell_is_decided_when_each_of_its_criteria_is() -> None:
    of = stopping("p95 < 10 s", "error_rate < 5 %")
    assert all_certain(of, as_of(70, sent(300)))
    assert all_certain(of, as_of(70, SOME))  # one missed, one met
    assert not all_certain(of, as_of(70, sent(300, bad=lambda n: n % 20 == 0)))
    assert not all_certain(stopping("p95 < 10 s", "pg_connections <= 9"), as_of(70, sent(300)))
    assert not all_certain(of.model_copy(update={"criteria": ()}), as_of(70, sent(300)))


OPEN = OpenLoad.model_validate({"rate": "1/s", "warmup": "15 s"})


def ended_early(decided: float = 45.05, end: float = 46.0) -> list[Evidence]:
    kept = [line for line in at_rest() if not isinstance(line, LoadDone)]
    return [
        *kept,
        LoadDone(t=60, window=(15, end), generator_exit=0, beat_s=None, decided_at=decided),
    ]


def test_a_verdict_is_of_the_window_that_there_was_and_says_when_it_was_decided() -> None:
    of, answered = stopping(), sent(310, until=46)
    verdict = judge(of, observation(answered, ended_early()))
    assert verdict.decided == EarlyEnd(uploads=261, after_s=30.05, window_s=31, planned_s=60)
    assert verdict.reasons[-1] == "decided after 261 uploads, 30 s of 60 s"
    assert verdict.outcome is Outcome.HELD
    assert [f.certain_after for f in verdict.findings] == [261, 261]
    whole = judge(of, observation(answered))
    assert whole.decided is None
    assert [f.certain_after for f in whole.findings] == [None, None]
    assert verdict.metrics["throughput"] == pytest.approx(10, rel=0.1)
    assert whole.metrics["throughput"] == pytest.approx(310 / 60, rel=0.1)
    assert judge(of, observation(answered, ended_early())) == verdict


def test_what_was_certain_stands_where_the_bounds_of_the_whole_would_not_tell() -> None:
    late = [sample(45.2 + n / 100, 30) for n in range(14)]
    of, seen = stopping(), observation([*sent(260, until=41), *late], ended_early())
    [p95, errors] = judge(of, seen).findings
    assert (p95.outcome, errors.outcome) == ("met", "met")
    assert p95.reason == (
        "p95 30.00 s (>= 4.00 s and <= 30.00 s at 95 %) against < 10 s: certainly met, by"
        " e-values, after 260 uploads"
    )
    assert (p95.beyond, p95.samples) == (14, 274)
    [p95, _] = judge(of, observation([*sent(260, until=41), *late])).findings
    assert p95.outcome == "undecided"


def test_nobody_uploads_any_more_when_a_window_has_ended_early() -> None:
    trial = Trial(stopping(), observation(sent(310, until=46), ended_early()))
    assert [trial.users_at(t) for t in (44, 47)] == [5, 0]
    assert isinstance(trial.load, ClosedLoad)
    assert trial.load.window == 31


@pytest.mark.parametrize(
    ("of", "done", "problem"),
    [
        (stopping(), {"window": (15, 46), "decided_at": 45}, ""),
        (stopping(), {"window": (15, 75)}, ""),
        (cell(), {"window": (15, 46), "decided_at": 45}, "no window of this cell ends before its"),
        (
            stopping().model_copy(update={"load": OPEN}),
            {"window": (15, 46), "decided_at": 45},
            "",
        ),
        (stopping(), {"window": (14, 46), "decided_at": 45}, "from 15 to 75 s, ends so"),
        (stopping(), {"window": (15, 76), "decided_at": 45}, "from 15 to 75 s, ends so"),
        (stopping(), {"window": (15, 44), "decided_at": 45}, "from 15 to 75 s, ends so"),
        (stopping(), {"window": (15, 46), "decided_at": 15}, "from 15 to 75 s, ends so"),
        (stopping(), {"window": (15, 46), "decided_at": -1e9}, "from 15 to 75 s, ends so"),
    ],
)
def test_an_early_end_that_cannot_have_been_is_damage(
    of: Cell, done: dict[str, object], problem: str
) -> None:
    line = LoadDone.model_validate({"t": 60, "generator_exit": 0, **done})
    said = Extent(of).no_evidence(100)(1, line)
    assert problem in said
    assert bool(problem) == bool(said)
