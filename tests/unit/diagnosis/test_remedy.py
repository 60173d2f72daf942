"""Change upon change until a cell holds, and back to the fewest that it takes."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from lab.diagnosis.remedy import MAX_STEPS, Mended, Mending, unsettled
from lab.diagnosis.trials import name_of
from lab.model.diagnosis import Remedy, Step, TakenBack
from lab.model.experiment import Cell
from lab.model.relaxation import Settings, differing
from lab.model.run import CellResult
from lab.model.verdict import Outcome
from tests.fakes import make_cell
from tests.unit.diagnosis.results import candidate, limit, result

LOAD = {"users": 50, "ramp": "0 s", "warmup": "10 s", "window": "60 s"}
AS_FOUND = make_cell(load=LOAD)

Replica = Callable[[Mapping[str, Any]], CellResult]


def service(settings: Mapping[str, Any]) -> CellResult:
    """The service as found: its loop, then its body limit, then its rate limit. db_call is no
    matter, though freeing the loop sets it."""
    if settings.get("gcs_call") != "executor":
        return result(at=limit("event_loop", candidate("body_limit")))
    if settings.get("nginx_body") != "off":
        return result(at=limit("body_limit"))
    if settings.get("global_rate_limit") != "off":
        return result(at=limit("rate_limit"))
    return result(8.0, at=limit("none"))


def mended(replica: Replica, cell: Cell = AS_FOUND) -> tuple[Remedy, list[str]]:
    """The answer, and the trials that it took."""
    steps: list[Mended] = []
    back: dict[str, CellResult] = {}
    trials: list[str] = []
    while isinstance(trial := Mending(cell, replica({}), steps, back).next(), Cell):
        assert trial.id not in trials
        trials.append(trial.id)
        settings = differing(cell.knobs, trial.knobs.as_text())
        measured = replica(settings).model_copy(update={"id": trial.id})
        if "step" in trial.axes:
            steps.append(Mended(settings, measured))
        else:
            back[trial.axes["without"]] = measured
    return trial, trials


def test_it_ends_with_the_smallest_set_and_the_path_of_the_limit() -> None:
    remedy, trials = mended(service)
    assert remedy.outcome == "held"
    assert remedy.path == ("event_loop", "body_limit", "rate_limit", "none")
    assert remedy.settings == {
        "gcs_call": "executor",
        "gcs_threads": 50,
        "nginx_body": "off",
        "global_rate_limit": "off",
    }
    needed = {tuple(one.change): one.needed for one in remedy.taken_back}
    assert needed == {
        ("gcs_call", "gcs_threads"): True,
        ("db_call", "anyio_threads"): False,
        ("nginx_body",): True,
        ("global_rate_limit",): True,
    }
    assert len(trials) == 3 + 4
    assert service(remedy.settings).verdict is Outcome.HELD
    assert "Not needed: db_call=threadpool anyio_threads=50." in remedy.text


def test_without_any_one_of_its_changes_it_breaks() -> None:
    remedy, _ = mended(service)
    for one in remedy.taken_back:
        if one.needed:
            rest = {k: v for k, v in remedy.settings.items() if k not in one.change}
            assert service(rest).verdict is Outcome.BROKE


def test_a_limit_that_is_named_again_is_relaxed_again() -> None:
    def replica(settings: Mapping[str, Any]) -> CellResult:
        held = settings.get("gcs_threads", 11) >= 80
        return result(8.0 if held else 20.0, at=limit("none" if held else "own_threads"))

    cell = make_cell({"gcs_call": "executor", "gcs_threads": 11})
    remedy, trials = mended(replica, cell)
    assert remedy.settings == {"gcs_threads": 88}
    assert trials == [f"cell,step={n}" for n in (1, 2, 3)]  # one change has none to be spared
    assert remedy.path == (*["own_threads"] * 3, "none")


def test_what_the_database_grants_is_lived_with() -> None:
    def replica(settings: Mapping[str, Any]) -> CellResult:
        held = settings.get("pool_size") == 6
        return result(8.0 if held else 20.0, at=limit("none" if held else "database_slots"))

    remedy, _ = mended(replica, make_cell({"workers": 4, "pool_size": 15, "max_overflow": 15}))
    assert remedy.settings == {"pool_size": 6, "max_overflow": 0}


def test_storage_is_out_of_reach() -> None:
    remedy, trials = mended(lambda _: result(at=limit("storage")))
    assert (remedy.outcome, trials) == ("out of reach", [])
    assert "nothing more that an operator can change moves it" in remedy.text


def test_where_the_limit_has_no_change_the_next_that_is_full_is_relaxed() -> None:
    at = limit("storage", candidate("pool", waited=0.2), candidate("rate_limit", waited=0.1))
    _, trials = mended(lambda _: result(at=at))
    assert trials[0] == "cell,step=1"


def test_it_gives_up_after_so_many_changes() -> None:
    def replica(_: Mapping[str, Any]) -> CellResult:
        return result(at=limit("rate_limit", candidate("own_threads"), candidate("pool")))

    remedy, trials = mended(replica, make_cell({"gcs_call": "executor", "gcs_threads": 1}))
    assert remedy.outcome == "out of reach"
    assert len(trials) == MAX_STEPS
    assert f"after {MAX_STEPS} changes no more are tried" in remedy.text


def test_a_cell_that_holds_needs_nothing() -> None:
    remedy, trials = mended(lambda _: result(8.0))
    assert (remedy.outcome, remedy.settings, trials) == ("held", {}, [])


CHANGES = {"gcs_call": "executor", "gcs_threads": 50, "nginx_body": "off"}
HOLDS = Mended(CHANGES, result(8.0, at=limit("none")))


@pytest.mark.parametrize("outcome", [Outcome.INVALID, Outcome.UNDECIDED])
def test_what_a_trial_does_not_tell_is_neither_needed_nor_spared(outcome: Outcome) -> None:
    back = {"gcs_call+gcs_threads": result(), "nginx_body": result(verdict=outcome)}
    remedy = Mending(AS_FOUND, service({}), [HOLDS], back).next()
    assert isinstance(remedy, Remedy)
    assert remedy.settings == CHANGES
    assert "Without gcs_call=executor gcs_threads=50 it does not." in remedy.text
    assert "Whether it takes nginx_body=off is open." in remedy.text


def test_without_time_to_take_them_back_it_is_open_which_changes_it_takes() -> None:
    remedy = Mending(AS_FOUND, service({}), [HOLDS], spent=True).next()
    assert isinstance(remedy, Remedy)
    assert remedy.text.endswith(
        "Whether it takes gcs_call=executor gcs_threads=50 or nginx_body=off is open."
    )


def test_a_step_that_the_stack_refuses_leaves_the_next_likely_one_to_be_tried() -> None:
    at = limit("pool", candidate("rate_limit"))
    first = Mending(AS_FOUND, result(at=at)).next()
    assert isinstance(first, Cell)
    refused = {name_of(AS_FOUND, first): "2 cores"}
    second = Mending(AS_FOUND, result(at=at), refused=refused).next()
    assert isinstance(second, Cell)
    assert (second.id, second.knobs.global_rate_limit) == (first.id, None)
    assert second.knobs.pool_size == AS_FOUND.knobs.pool_size

    refused[name_of(AS_FOUND, second)] = "2 cores"
    remedy = Mending(AS_FOUND, result(at=at), refused=refused).next()
    assert isinstance(remedy, Remedy)
    assert remedy.outcome == "undecided"
    assert remedy.text.endswith("is open: the next change cannot be made here: 2 cores.")


def test_a_cell_that_is_undecided_and_has_no_limit_stays_open() -> None:
    remedy = Mending(AS_FOUND, result(verdict=Outcome.UNDECIDED, at=limit("none"))).next()
    assert isinstance(remedy, Remedy)
    assert remedy.outcome == "undecided"


def test_an_invalid_trial_leaves_it_open() -> None:
    def replica(settings: Mapping[str, Any]) -> CellResult:
        return service(settings) if not settings else result(verdict=Outcome.INVALID)

    remedy, _ = mended(replica)
    assert remedy.outcome == "undecided"


@pytest.mark.parametrize("seed", range(20))
def test_the_set_is_the_smallest_of_any_service(seed: int) -> None:
    """Some of the loop's, the body's, the rate's and the pool's limits hold a service back."""
    rng = random.Random(seed)
    wanted: dict[str, dict[str, Any]] = {
        "event_loop": {"gcs_call": "executor"},
        "body_limit": {"nginx_body": "off"},
        "rate_limit": {"global_rate_limit": "off"},
        "pool": {"pool_size": 20},
    }
    real = rng.sample(sorted(wanted), rng.randint(0, 4))

    def replica(settings: Mapping[str, Any]) -> CellResult:
        for name in real:
            if any(settings.get(knob) != value for knob, value in wanted[name].items()):
                others = [candidate(other) for other in wanted if other != name]
                return result(at=limit(name, *others))
        return result(8.0, at=limit("none"))

    remedy, _ = mended(replica)
    assert remedy.outcome == "held"
    assert all(wanted[name].items() <= remedy.settings.items() for name in real)
    assert replica(remedy.settings).verdict is Outcome.HELD
    for change in (one.change for one in remedy.taken_back if one.needed):
        rest = {k: v for k, v in remedy.settings.items() if k not in change}
        assert replica(rest).verdict is Outcome.BROKE


def test_a_change_of_which_nothing_says_whether_it_is_needed_leaves_the_answer_open() -> None:
    """Two changes, of which one was taken back and missed; and then the other, which was not."""
    step = Step(id="c", added="", settings={}, outcome=Outcome.HELD, limit=None, reason="")
    changes: Settings = {"pool_size": 10, "workers": 2}
    back = [
        TakenBack(id=name, change={name: value}, outcome=Outcome.BROKE, reason="")
        for name, value in changes.items()
    ]

    def remedy(taken_back: tuple[TakenBack, ...], outcome: str = "held") -> Remedy:
        told = {"id": "c", "outcome": outcome, "settings": changes, "steps": (step,), "text": ""}
        return Remedy.model_validate({**told, "taken_back": taken_back})

    assert unsettled(remedy(())) == [{"pool_size": 10}, {"workers": 2}]
    assert unsettled(remedy((back[0],))) == [{"workers": 2}]
    assert unsettled(remedy(tuple(back))) == []
    assert unsettled(remedy((), "out of reach")) == []
    unclear = back[1].model_copy(update={"outcome": Outcome.UNDECIDED})
    assert unsettled(remedy((back[0], unclear))) == [{"workers": 2}]
