"""What the limit is, from trials made by hand: proven, withdrawn, shared, or open."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import combinations

import pytest

from lab.diagnosis.why import Proof, Resources, nearest
from lab.model.diagnosis import Diagnosis
from lab.model.experiment import Cell
from lab.model.run import CellResult
from lab.model.verdict import Bottleneck, Outcome, Resource, Spread
from tests.fakes import make_cell
from tests.unit.diagnosis.results import P95, candidate, limit, result

SETTINGS = {"gcs_call": "executor", "workers": 2}
CELL = make_cell(SETTINGS, criteria=[P95, "error_rate < 5 %"])
THREADS, POOL, LOOP = Resource.OWN_THREADS, Resource.POOL, Resource.EVENT_LOOP
NEAR = limit("own_threads", candidate("pool", 0.9, full=False), candidate("event_loop", 0.6))

Replica = Callable[[Resources], CellResult]


def lifted(*limits: Resources) -> Replica:
    """A replica whose p95 is 20 s, and 8 s with more of one of these."""

    def measure(resources: Resources) -> CellResult:
        moved = any(set(one) <= set(resources) for one in limits)
        return result(8.0 if moved else 20.0, rate=4.0 if moved else 2.0)

    return measure


def diagnosed(
    replica: Replica, at: Bottleneck = NEAR, cell: Cell = CELL, before: CellResult | None = None
) -> tuple[Diagnosis, list[str]]:
    """The answer, and the trials that it took."""
    trials: dict[Resources, CellResult] = {}
    before = before or result(at=at)
    while isinstance(step := Proof(cell, before, trials).next(), Cell):
        resources = tuple(Resource(name) for name in step.axes["relaxed"].split("+"))
        assert resources not in trials
        trials[resources] = replica(resources)
    return step, ["+".join(row.relaxed) for row in step.trials]


def test_a_limit_is_proven_where_more_of_it_helps_and_more_of_the_others_does_not() -> None:
    answer, trials = diagnosed(lifted((THREADS,)))
    assert (answer.outcome, answer.limit) == ("proven", (THREADS,))
    assert trials == ["own_threads", "event_loop", "pool"]
    assert [row.effect for row in answer.trials] == ["moved", "unmoved", "unmoved"]
    assert "the limit is own_threads, proven: twice the threads" in answer.text


def test_it_is_withdrawn_where_more_of_it_does_not_help_and_another_does() -> None:
    answer, _ = diagnosed(lifted((POOL,)))
    assert (answer.outcome, answer.named, answer.limit) == ("withdrawn", THREADS, (POOL,))
    assert "own_threads, which was named, is withdrawn, and pool is the limit" in answer.text


def test_it_is_shared_where_only_two_together_help() -> None:
    answer, trials = diagnosed(lifted((THREADS, POOL)))
    assert (answer.outcome, answer.limit) == ("shared", (THREADS, POOL))
    assert trials[:3] == ["own_threads", "event_loop", "pool"]
    assert trials[-1] == "own_threads+pool"
    told = "share the limit: neither alone moves it, and both together move it. With twice the thr"
    assert told in answer.text


def test_the_limit_that_stood_right_behind_the_named_one_is_tried_with_it() -> None:
    rate = Resource.RATE_LIMIT

    def replica(resources: Resources) -> CellResult:
        moved = {THREADS, rate} <= set(resources)
        behind = limit("rate_limit" if THREADS in resources else "own_threads")
        return result(8.0 if moved else 20.0, at=behind)

    answer, trials = diagnosed(replica, limit("own_threads"))
    assert (answer.outcome, answer.limit) == ("shared", (THREADS, rate))
    assert trials == ["own_threads", "own_threads+rate_limit", "rate_limit"]
    assert "share the limit: neither alone moves it, and both together move it" in answer.text


def test_of_two_that_move_it_together_the_one_that_does_alone_is_the_limit() -> None:
    rate = Resource.RATE_LIMIT

    def replica(resources: Resources) -> CellResult:
        behind = limit("rate_limit" if THREADS in resources else "own_threads")
        return result(8.0 if rate in resources else 20.0, at=behind)

    answer, trials = diagnosed(replica, limit("own_threads"))
    assert (answer.outcome, answer.limit) == ("withdrawn", (rate,))
    assert trials == ["own_threads", "own_threads+rate_limit", "rate_limit"]


@pytest.mark.parametrize(
    ("error", "outcome", "limits"),
    [(0.1, "shared", (THREADS, POOL)), (0.8, "undecided", (THREADS, POOL))],
)
def test_two_share_it_where_each_alone_surely_does_less_than_half(
    error: float, outcome: str, limits: Resources
) -> None:
    """What the pool does alone is told by neither figure alone; its rate is 2 of 2 and 6."""

    def replica(resources: Resources) -> CellResult:
        if resources == (POOL,):
            known = {
                "p95": Spread(error=2.0, batches=3),
                "throughput": Spread(error=error, batches=10),
            }
            return result(20.0, spreads=known)
        both = {THREADS, POOL} <= set(resources)
        return result(12.0 if both else 20.0, rate=6.0 if both else 2.0)

    answer, _ = diagnosed(replica)
    assert (answer.outcome, answer.limit) == (outcome, limits)


def test_it_is_shared_where_either_helps() -> None:
    answer, _ = diagnosed(lifted((THREADS,), (LOOP,)))
    assert (answer.outcome, answer.limit) == ("shared", (THREADS, LOOP))
    assert "own_threads and event_loop share the limit: either moves it" in answer.text


def test_it_is_shared_by_three_where_each_helps() -> None:
    answer, _ = diagnosed(lifted((THREADS,), (LOOP,), (POOL,)))
    assert answer.outcome == "shared"
    assert "own_threads, event_loop and pool share the limit: each moves it" in answer.text


def test_nothing_is_left_of_it_where_nothing_helps() -> None:
    answer, trials = diagnosed(lifted())
    assert (answer.outcome, answer.limit) == ("withdrawn", ())
    assert len(trials) == 6  # three alone, and three pairs


def test_pairs_are_tried_only_where_no_single_one_helps() -> None:
    _, trials = diagnosed(lifted((THREADS,)))
    assert not any("+" in trial for trial in trials)


def test_where_no_figure_can_move_not_all_pairs_are_tried() -> None:
    """Of a burst it is not known how well a figure is known: only what is met has moved."""

    def replica(resources: Resources) -> CellResult:
        moved = {THREADS, POOL} <= set(resources)
        behind = limit("pool" if resources == (THREADS,) else "own_threads")
        return result(8.0 if moved else 20.0, at=behind, spreads={})

    before = result(at=NEAR, spreads={})
    shared, trials = diagnosed(replica, before=before)
    assert (shared.outcome, shared.limit) == ("shared", (THREADS, POOL))
    assert trials == ["own_threads", "event_loop", "pool", "own_threads+pool"]
    assert shared.trials[0].reason == "it is not known how well the figures are known"
    still, trials = diagnosed(lambda _: result(spreads={}), before=before)
    assert still.outcome == "undecided"
    assert trials == ["own_threads", "event_loop", "pool"]
    assert "nothing tells of own_threads, event_loop, pool" in still.text


def test_what_is_nowhere_near_its_limit_or_serves_all_is_not_tried_and_said() -> None:
    others = candidate("pool", 0.1, full=False), candidate("storage", 1.0)
    answer, trials = diagnosed(lifted((THREADS,)), limit("own_threads", *others))
    assert trials == ["own_threads"]
    assert {one.resource: one.why for one in answer.untried} == {
        POOL: "nowhere near its limit: x",
        Resource.STORAGE: "an upload's own work: any queue is the better for less of it",
    }


def test_storage_is_tried_where_it_is_what_is_named() -> None:
    answer, trials = diagnosed(lifted((Resource.STORAGE,)), limit("storage"))
    assert (answer.outcome, trials) == ("proven", ["storage"])


def test_what_cannot_be_changed_here_is_said_with_the_reason() -> None:
    at = limit("own_threads", candidate("backpressure"), candidate("accept_queue"))
    answer, trials = diagnosed(lifted((THREADS,)), at)
    assert trials == ["own_threads"]
    assert (answer.outcome, answer.limit) == ("proven", (THREADS,))
    assert {one.resource: one.why for one in answer.untried} == {
        Resource.BACKPRESSURE: "this cell has nothing of it to be given more of",
        Resource.ACCEPT_QUEUE: "at its limit, and nothing gives more of it alone: x",
    }


def test_a_trial_that_the_stack_cannot_make_is_no_trial() -> None:
    refused: dict[Resources, str] = {(LOOP,): "this machine has 2 cores"}
    trials: dict[Resources, CellResult] = {(THREADS,): result(8.0), (POOL,): result()}
    answer = Proof(CELL, result(at=NEAR), trials, refused).next()
    assert isinstance(answer, Diagnosis)
    assert (answer.outcome, answer.limit) == ("proven", (THREADS,))
    assert [one.why for one in answer.untried] == ["this machine has 2 cores"]


def test_without_time_the_answer_stays_open_and_names_what_is_missing() -> None:
    trials: dict[Resources, CellResult] = {(THREADS,): result(8.0)}
    answer = Proof(CELL, result(at=NEAR), trials, spent=True).next()
    assert isinstance(answer, Diagnosis)
    assert (answer.outcome, answer.limit) == ("undecided", (THREADS,))
    assert "nothing tells of event_loop, pool" in answer.text
    assert {one.why for one in answer.untried} == {"no time was left"}


def test_what_is_named_is_not_withdrawn_where_more_of_it_could_not_be_tried() -> None:
    refused: dict[Resources, str] = {(THREADS,): "2 cores"}
    for one, two in combinations((THREADS, LOOP, POOL), 2):
        refused[one, two] = "2 cores"
    stayed: dict[Resources, CellResult] = {(LOOP,): result(), (POOL,): result()}
    answer = Proof(CELL, result(at=NEAR), stayed, refused).next()
    assert isinstance(answer, Diagnosis)
    assert (answer.outcome, answer.limit) == ("undecided", ())
    assert "nothing tells of own_threads" in answer.text
    assert "any two" not in answer.text

    answer = Proof(CELL, result(at=NEAR), {**stayed, (LOOP,): result(8.0)}, refused).next()
    assert isinstance(answer, Diagnosis)
    assert (answer.outcome, answer.limit) == ("undecided", (LOOP,))
    assert "More of event_loop: " in answer.text


PAIRS = list(combinations((THREADS, LOOP, POOL), 2))
STAYED: dict[Resources, CellResult] = {(one,): result() for one in (THREADS, LOOP, POOL)}


def test_without_time_for_two_together_nothing_is_withdrawn() -> None:
    answer = Proof(CELL, result(at=NEAR), STAYED, spent=True).next()
    assert isinstance(answer, Diagnosis)
    assert (answer.outcome, answer.limit) == ("undecided", ())
    assert "nothing tells of own_threads+event_loop, own_threads+pool, event_loop+pool" in (
        answer.text
    )


def test_nothing_is_withdrawn_where_a_trial_of_two_is_invalid() -> None:
    both = {two: result() for two in PAIRS} | {PAIRS[1]: result(verdict=Outcome.INVALID)}
    answer = Proof(CELL, result(at=NEAR), STAYED | both).next()
    assert isinstance(answer, Diagnosis)
    assert answer.outcome == "undecided"
    assert "nothing tells of own_threads+pool." in answer.text


def test_two_together_are_told_of_only_where_they_were_tried() -> None:
    alone, _ = diagnosed(lifted(), limit("own_threads"))
    assert alone.outcome == "withdrawn"
    assert alone.text.endswith("is withdrawn: More of own_threads did not.")

    tried = {**STAYED, PAIRS[0]: result()}
    some = Proof(CELL, result(at=NEAR), tried, dict.fromkeys(PAIRS[1:], "2 cores")).next()
    assert isinstance(some, Diagnosis)
    assert some.text.endswith(" Nor did own_threads+event_loop together.")

    every, _ = diagnosed(lifted())
    assert every.text.endswith(" Nor did any two of them.")


def test_what_could_not_be_tried_is_not_said_to_be_far_from_its_limit() -> None:
    refused: dict[Resources, str] = {(LOOP,): "2 cores", (POOL,): "2 cores"}
    trials: dict[Resources, CellResult] = {(THREADS,): result(8.0)}
    answer = Proof(CELL, result(at=NEAR), trials, refused).next()
    assert isinstance(answer, Diagnosis)
    assert answer.outcome == "proven"
    assert answer.text.endswith("More of event_loop or pool could not be tried.")


def test_an_invalid_trial_leaves_the_answer_open() -> None:
    def replica(resources: Resources) -> CellResult:
        invalid = resources == (LOOP,)
        measured = lifted((THREADS,))(resources)
        update = {"verdict": Outcome.INVALID} if invalid else {}
        return measured.model_copy(update=update)

    answer, _ = diagnosed(replica)
    assert answer.outcome == "undecided"
    assert [row.effect for row in answer.trials] == ["moved", "unmeasured", "unmoved"]


@pytest.mark.parametrize(
    ("error", "outcome", "said"),
    [
        (0.1, "proven", "More of pool did not. More of event_loop did less than half of that."),
        (0.5, "undecided", "nothing tells of event_loop"),
    ],
)
def test_what_is_too_uncertain_alone_tells_beside_what_surely_did_more(
    error: float, outcome: str, said: str
) -> None:
    def replica(resources: Resources) -> CellResult:
        if resources == (LOOP,):  # next to nothing was served: p95 tells nothing, the rate does
            return result(20.0, spreads={"p95": Spread(error=2.0, batches=3), "throughput": known})
        return lifted((THREADS,))(resources)

    known = Spread(error=error, batches=10)
    answer, _ = diagnosed(replica)
    assert answer.outcome == outcome
    assert said in answer.text
    assert [row.effect for row in answer.trials] == ["moved", "unclear", "unmoved"]


def test_where_nothing_was_named_what_helps_is_the_limit() -> None:
    at = limit("unclear", candidate("own_threads"), candidate("pool"))
    answer, _ = diagnosed(lifted((POOL,)), at)
    assert (answer.outcome, answer.named, answer.limit) == ("proven", None, (POOL,))
    assert "no limit was named, and pool is the limit, proven: twice the pool" in answer.text


@pytest.mark.parametrize(
    ("before", "outcome", "text"),
    [
        (
            result(8.0, at=NEAR),
            "unbroken",
            "nearest to being missed is p95 < 10 s, at 80 % of its bound",
        ),
        (result(verdict=Outcome.INVALID), "invalid", "cell is invalid: p95 20 s"),
    ],
)
def test_where_nothing_is_missed_nothing_is_tried(
    before: CellResult, outcome: str, text: str
) -> None:
    answer = Proof(CELL, before).next()
    assert isinstance(answer, Diagnosis)
    assert (answer.outcome, answer.trials, answer.untried) == (outcome, (), ())
    assert text in answer.text


def test_the_nearest_criterion_is_the_one_nearest_to_its_bound() -> None:
    outcomes = [(P95, "met", 4.0), ("throughput > 2/s", "met", 2.5)]
    told = nearest(result(outcomes=outcomes))
    assert told == "nearest to being missed is throughput > 2/s, at 80 % of its bound"


@pytest.mark.parametrize("seed", range(20))
def test_from_where_it_was_interrupted_it_comes_to_the_same_answer(seed: int) -> None:
    rng = random.Random(seed)
    limits = rng.sample([(THREADS,), (POOL,), (LOOP,), (THREADS, POOL)], rng.randint(0, 2))
    whole, _ = diagnosed(lifted(*limits))
    kept = {row.relaxed: lifted(*limits)(row.relaxed) for row in whole.trials}
    for left in range(len(kept)):
        trials = dict(list(kept.items())[:left])
        while isinstance(step := Proof(CELL, result(at=NEAR), trials).next(), Cell):
            resources = tuple(Resource(name) for name in step.axes["relaxed"].split("+"))
            trials[resources] = lifted(*limits)(resources)
        assert step == whole
