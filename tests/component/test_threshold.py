"""The story of a search, told with fakes: what is measured, stored, and gone on with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lab.capacity import CapacitySearch, search_for
from lab.capacity.runner import Show, find_thresholds, stored_trials
from lab.errors import PartFailed
from lab.load.driver import LoadResult
from lab.model.capacity import CapacityTrial, Threshold, Thresholds
from lab.model.evidence import Cause
from lab.model.experiment import Cell, Experiment
from lab.model.run import RunRequest
from lab.model.verdict import Outcome
from lab.runner import Lab
from lab.stack.base import Replica
from lab.store import RunFolder
from tests.fakes import LOAD, FakeStack, InstantLoad, RecordingInjector, make_cell

CELL = make_cell(cell_id="one")
OTHER = make_cell(cell_id="one-u3")
BREAKS_ABOVE = 7
REQUEST = RunRequest(
    kind="threshold",
    started=datetime(2026, 11, 24, 8, 15, tzinfo=UTC),
    spec_file="spec.yaml",
    experiment=Experiment.model_validate({"experiment": "story", "load": dict(LOAD)}),
    stack="fake",
    stack_reason="asked for",
    speed=1.0,
)


class Stack(FakeStack):
    """A replica that fails every second upload of more users than it can bear."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, self.cause)
        self.users = 0

    def apply(self, cell: Cell) -> Replica:
        self.users = cell.load.peak_users
        return super().apply(cell)

    def cause(self, number: int) -> Cause | None:
        overloaded = self.users > BREAKS_ABOVE and number % 2
        return Cause.POOL_TIMEOUT if overloaded else None


@dataclass
class Wired:
    lab: Lab
    stack: Stack
    run: RunFolder

    def find(self, cell: Cell = CELL) -> Threshold:
        """The threshold of one of the cells."""
        [answer] = [told for told in self.find_all(cell).cells if told.id == cell.id]
        return answer

    def find_all(self, *cells: Cell, show: Show = lambda _trial, _known: None) -> Thresholds:
        def search_of(cell: Cell) -> CapacitySearch:
            return replace(search_for(cell, max_users=20), max_trials=8)

        return find_thresholds(self.lab, self.run, cells, show, search_of)


@pytest.fixture
def wired(tmp_path: Path) -> Iterator[Wired]:
    stack = Stack(tmp_path / "fake")
    run = RunFolder.create(tmp_path / "results", (CELL, OTHER), REQUEST)
    yield Wired(Lab(stack, RecordingInjector(), InstantLoad(uploads=150)), stack, run)
    stack.close()


def test_it_measures_what_the_search_asks_for_until_there_is_an_answer(wired: Wired) -> None:
    answer = wired.find()
    assert answer.outcome == "found"
    assert answer.holds_at is not None
    assert answer.breaks_at is not None
    assert answer.holds_at <= BREAKS_ABOVE < answer.breaks_at
    assert answer.crossed_first == "error_rate < 5 %"
    assert sorted(wired.stack.applied) == sorted(trial.id for trial in answer.trials)


def test_a_cell_that_is_compared_with_another_is_searched_as_any(wired: Wired) -> None:
    answer = wired.find(CELL.model_copy(update={"baseline": OTHER.id}))
    assert answer.outcome == "found"
    assert (answer.holds_at or 0) <= BREAKS_ABOVE < (answer.breaks_at or 0)


def test_every_trial_is_a_cell_of_its_own_on_disk(wired: Wired) -> None:
    answer = wired.find()
    for trial in answer.trials:
        folder = wired.run.cell(trial.id)
        assert folder.finished()
        assert folder.read_cell().load.peak_users == trial.users
        assert len(folder.read_observation().samples) == trial.sent
        assert (folder.read_verdict().outcome == Outcome.BROKE) == (trial.users > BREAKS_ABOVE)
    assert stored_trials(wired.run, CELL) == tuple(sorted(answer.trials, key=lambda t: t.id))


def test_a_search_that_is_done_measures_nothing_more(wired: Wired) -> None:
    first = wired.find()
    wired.stack.applied.clear()
    assert wired.find() == first
    assert wired.stack.applied == []


def test_an_interrupted_search_goes_on_and_makes_the_trial_under_way_again(wired: Wired) -> None:
    load = wired.lab.generator
    assert isinstance(load, InstantLoad)
    wired.lab.generator = Interrupting(load, after=2)
    with pytest.raises(KeyboardInterrupt):
        wired.find()
    done = stored_trials(wired.run, CELL)
    assert len(done) == 2
    interrupted = wired.stack.applied[-1]
    assert not wired.run.cell(interrupted).finished()
    wired.stack.applied.clear()
    wired.lab.generator = load
    answer = wired.find()
    assert answer.outcome == "found"
    assert set(done) <= set(answer.trials)
    assert wired.stack.applied[0] == interrupted
    assert not {trial.id for trial in done} & set(wired.stack.applied)


class Interrupting(InstantLoad):
    """A load that is interrupted in the trial after so many."""

    def __init__(self, load: InstantLoad, after: int) -> None:
        super().__init__(load.uploads)
        self.left = after

    def run(self, cell: Cell, *arguments: Any, **more: Any) -> LoadResult:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        return super().run(cell, *arguments, **more)


def test_a_part_that_does_not_come_up_ends_it_and_what_is_done_is_kept(wired: Wired) -> None:
    wired.stack.refuses = PartFailed("nginx did not come up: address in use")
    with pytest.raises(PartFailed):
        wired.find()
    assert wired.find().outcome == "found"


def test_a_search_counts_only_the_trials_of_its_own_cell(wired: Wired) -> None:
    first = wired.find()
    assert stored_trials(wired.run, OTHER) == ()
    wired.find(OTHER)
    assert stored_trials(wired.run, CELL) == tuple(sorted(first.trials, key=lambda t: t.id))


class Recorder:
    """What a search shows: each trial that ended, and what was known then, and what was stored."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.trials: list[str] = []
        self.known: list[Thresholds] = []

    def __call__(self, trial: CapacityTrial | None, known: Thresholds) -> None:
        self.trials += [trial.id] if trial else []
        self.known.append(known)
        assert self.run.read_thresholds() == known


def test_every_cell_has_a_trial_before_any_has_two(wired: Wired) -> None:
    shown = Recorder(wired.run)
    found = wired.find_all(CELL, OTHER, show=shown)
    assert [cell.outcome for cell in found.cells] == ["found", "found"]
    assert shown.trials[:2] == ["one-u10-1", "one-u3-u10-1"]
    assert wired.stack.applied == shown.trials


def test_what_is_known_is_stored_and_shown_before_the_first_trial_and_after_each(
    wired: Wired,
) -> None:
    shown = Recorder(wired.run)
    found = wired.find_all(CELL, OTHER, show=shown)
    first, *_, last = shown.known
    assert len(shown.known) == len(shown.trials) + 1
    assert last == found
    assert first.missing == (CELL.id, OTHER.id)
    assert [(one.id, one.estimate, one.trials) for one in first.searching] == [(CELL.id, None, ())]
    for number, known in enumerate(shown.known[1:], start=1):
        made = [trial.id for cell in known.known for trial in cell.trials]
        assert sorted(made) == sorted(shown.trials[:number])
        for standing in known.begun:
            assert standing.estimate is not None
            assert standing.estimate.low <= BREAKS_ABOVE + 1 <= standing.estimate.high
            assert standing.spent == sum(trial.spent for trial in standing.trials)


def test_a_search_that_is_interrupted_in_any_trial_goes_on_as_if_it_had_not_been(
    wired: Wired, tmp_path: Path
) -> None:
    whole = Recorder(wired.run)
    answer = wired.find_all(CELL, OTHER, show=whole)
    load = wired.lab.generator
    assert isinstance(load, InstantLoad)
    for after in (0, 1, len(whole.trials) // 2, len(whole.trials) - 1):
        run = RunFolder.create(tmp_path / f"results-{after}", (CELL, OTHER), REQUEST)
        again = Wired(replace(wired.lab, generator=Interrupting(load, after)), wired.stack, run)
        with pytest.raises(KeyboardInterrupt):
            again.find_all(CELL, OTHER)
        again.lab.generator = load
        wired.stack.applied.clear()
        found = again.find_all(CELL, OTHER)
        assert wired.stack.applied == whole.trials[after:]
        assert found.cells == answer.cells


def test_a_cell_that_is_asked_for_alone_does_not_wait_for_the_others(wired: Wired) -> None:
    found = wired.find_all(OTHER)
    assert [cell.id for cell in found.cells] == [OTHER.id]
    assert found.missing == (CELL.id,)
    assert all(name.startswith(f"{OTHER.id}-") for name in wired.stack.applied)
