"""Each cell's speed in a run: a probe where nothing is known, and what every cell tells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from math import inf
from pathlib import Path

import pytest

from lab.calibrate.pace import Pace, probe_cell
from lab.config import read_faults
from lab.errors import UsageError
from lab.judge import judge
from lab.model.costs import TrialCost, costs_of
from lab.model.experiment import DEFAULT_FAULTS, Cell, Experiment
from lab.model.run import RunRequest
from lab.model.split import Split, SplitEffect
from lab.model.verdict import Outcome
from lab.paths import ROOT
from lab.plan import LoopWork, choose_speed
from lab.runner import Lab, run_experiment
from lab.store import RunFolder
from lab.store.costs import CostKey, CostStore
from tests.fakes import LOAD, FakeStack, InstantLoad, RecordingInjector, make_cell

CORES = 2
FAULTS = [read_faults(ROOT / "faults")[name] for name in DEFAULT_FAULTS]
AUTO = [
    make_cell({"gcs_call": "executor"}, cell_id=f"cell-{n}", faults=FAULTS).model_copy(
        update={"auto_speed": True}
    )
    for n in (1, 2)
]
GIVEN = make_cell({"speed": 4}, cell_id="given")
CLOUDRUN = make_cell(cell_id="cloudrun", target="cloudrun").model_copy(update={"auto_speed": True})


def cost(others: float = 0.0, backend: float = 0.005) -> TrialCost:
    """A trial beside which other programs used so many cores."""
    cpu_s = {"backend": backend, "generator": 0.0005}
    machine_s = (sum(cpu_s.values()) + others * 0.05) / CORES
    return TrialCost(
        workers=1,
        uploads=100,
        size=50_000,
        wall_s=0.05,
        cpu_s=cpu_s,
        machine_s=machine_s,
        trip_s=0.0005,
    )


def chosen_by(cell: Cell, *costs: TrialCost) -> float:
    return choose_speed(cell, costs_of(costs, CORES, cell.knobs.workers)).speed


class Run:
    """A run whose speeds are chosen, with probes that tell what they are given to tell."""

    def __init__(self, folder: Path, *probes: list[TrialCost], max_speed: float | None = None):
        self.probes, self.said = list(probes), list[str]()
        self.request = RunRequest(
            started=datetime(2026, 11, 27, 8, 15, tzinfo=UTC),
            spec_file="spec.yaml",
            experiment=Experiment.model_validate({"experiment": "story", "load": dict(LOAD)}),
            stack="fake",
            stack_reason="asked for",
            speed="auto",
            max_speed=max_speed,
        )
        self.folder = RunFolder.create(folder / "results", [*AUTO, GIVEN], self.request)
        key = CostKey(machine={"cpu": "one"}, stack="fake", versions={"lab": "1"})
        self.store = CostStore(key, folder / "costs", self.said.append)
        self.pace = self.again()

    def again(self) -> Pace:
        """Chooses for the same run in another process."""
        return Pace(lambda: self.probes.pop(0), self.folder, self.store, CORES, self.said.append)


def test_where_nothing_is_known_it_is_measured_once_said_and_kept(tmp_path: Path) -> None:
    run = Run(tmp_path, [cost()])
    chosen = run.pace.choose(AUTO[0])
    assert chosen.knobs.speed == chosen_by(AUTO[0], cost()) > 1
    assert chosen.speed_reason
    assert run.pace.choose(AUTO[1]).knobs.speed == chosen.knobs.speed
    assert run.said == [
        "what an upload costs this machine is not known yet: it is measured first, in 15 s at most"
    ]
    assert run.store.read() == (cost(),)
    assert run.again().choose(AUTO[0]) == chosen  # without a probe: there is none left


def test_a_speed_is_no_higher_than_the_attempts_limit_and_the_runs(tmp_path: Path) -> None:
    run = Run(tmp_path, [cost()], max_speed=4)
    assert run.pace.choose(AUTO[0], inf).knobs.speed == 4
    assert run.pace.choose(AUTO[0], 2.5).knobs.speed == 2.5
    assert run.pace.choose(AUTO[0], 2.5).speed_reason == "no more than 2.5 is allowed"


def test_a_disturbed_probe_is_made_again(tmp_path: Path) -> None:
    run = Run(tmp_path, [cost(others=1.5)], [cost(), cost()])
    assert run.pace.choose(AUTO[0]).knobs.speed == chosen_by(AUTO[0], cost())
    assert run.said[1:] == [
        "other programs used 1.5 of this machine's 2 cores: it is measured once more"
    ]
    assert run.store.read() == (cost(), cost())


def test_one_that_is_disturbed_again_gives_a_careful_speed_and_is_not_kept(tmp_path: Path) -> None:
    run = Run(tmp_path, [cost(others=1.5)], [cost(others=1.2)], [cost()])
    careful = run.pace.choose(AUTO[0])
    assert 1 <= careful.knobs.speed < chosen_by(AUTO[0], cost()) / 2
    assert run.said[2] == (
        "other programs used 1.2 of this machine's 2 cores: speeds are chosen as if they went on,"
        " and it is measured anew in the next run - stop them for higher ones"
    )
    assert run.store.read() == ()
    assert run.pace.choose(AUTO[1]).knobs.speed == careful.knobs.speed
    assert run.again().choose(AUTO[0]).knobs.speed == chosen_by(AUTO[0], cost())


def test_a_probe_that_tells_nothing_claims_nothing(tmp_path: Path) -> None:
    run = Run(tmp_path, [])
    chosen = run.pace.choose(AUTO[0])
    assert chosen.knobs.speed == run.pace.choose(AUTO[1]).knobs.speed == 1
    assert chosen.speed_reason == "what an upload costs this machine could not be measured"


def test_cloud_run_needs_no_probe(tmp_path: Path) -> None:
    chosen = Run(tmp_path).pace.choose(CLOUDRUN)
    assert (chosen.knobs.speed, "share of a core" in chosen.speed_reason) == (1, True)


class Sharing:
    """A model in which latency is 2 % off for each unit of speed; keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[LoopWork] = []

    def split(self, cell: Cell, work: LoopWork, up_to: float) -> Split | None:
        assert cell.knobs.workers == 2
        assert up_to > 1
        self.told.append(work)
        first = SplitEffect(speed=1, moved=0, lead=0.7)
        return Split(window=60, effects=(first, SplitEffect(speed=51, moved=1, lead=0.5)))


def of_two(cell: Cell) -> Cell:
    return cell.model_copy(update={"knobs": cell.knobs.with_settings({"workers": 2})})


def test_several_workers_run_as_fast_as_the_model_allows_and_it_is_stored_what_it_said(
    tmp_path: Path, stack: FakeStack
) -> None:
    run, model = Run(tmp_path, [cost()]), Sharing()
    pace = Pace(lambda: [cost()], run.folder, run.store, CORES, run.said.append, model)
    chosen = pace.choose(of_two(AUTO[0]))
    assert chosen.knobs.speed == 3.5
    assert chosen.speed_reason.startswith("2 workers of one socket would share more evenly at 4")
    assert pace.choose(of_two(AUTO[0]), 2.0).knobs.speed == 2
    lab = Lab(stack, RecordingInjector(), InstantLoad(5))
    lab = replace(lab, choose_speed=pace.choose, foresee=pace.foresee)
    cells = (of_two(AUTO[0]), of_two(AUTO[1]), of_two(GIVEN))
    stored = RunFolder.create(tmp_path / "two", cells, run.request)
    run_experiment(lab, stored, cells)
    assert [cell.knobs.speed for cell in stored.cells()] == [3.5, 3.5, 4]
    assert all(cell.split == chosen.split for cell in stored.cells())
    assert all(result.split == chosen.split for result in stored.summary().cells)
    stored.check_same(cells)
    stored.check_same(stored.cells())


def test_of_a_given_speed_it_is_foreseen_what_it_does_and_nothing_is_measured_first(
    tmp_path: Path,
) -> None:
    run, model = Run(tmp_path), Sharing()
    pace = Pace(lambda: run.probes.pop(), run.folder, run.store, CORES, run.said.append, model)
    foreseen = pace.foresee(of_two(GIVEN))
    assert foreseen.split is not None
    assert foreseen.as_planned == of_two(GIVEN)
    run.store.add([cost(backend=0.02).model_copy(update={"workers": 2})])
    pace.foresee(of_two(GIVEN))
    usual, own = model.told
    assert own.cpu_s == pytest.approx(0.02) != usual.cpu_s
    assert pace.foresee(GIVEN) == GIVEN


def test_where_no_speed_is_true_it_is_said_which_part_and_what_would_do(tmp_path: Path) -> None:
    run = Run(tmp_path, [cost(others=1.9)], [cost(others=1.9)])
    assert run.pace.choose(AUTO[0]).knobs.speed == 1
    assert run.said[-1].startswith(
        "cell-1: no speed is true here, and 1 is used: this machine's CPU would be 9"
    )
    assert run.said[-1].endswith(" - stop other programs, lower the users, or use more cores")


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[FakeStack]:
    made = FakeStack(tmp_path / "fake")
    yield made
    made.close()


def finish(run: Run, stack: FakeStack, outcome: Outcome, told: TrialCost | None) -> None:
    """The first cell was measured with this outcome, and cost so much."""
    cell = AUTO[0]
    lab = Lab(stack, RecordingInjector(), InstantLoad(5))
    run_experiment(lab, run.folder, [cell])
    folder = run.folder.cell(cell.id)
    verdict = judge(folder.read_cell(), folder.read_observation())
    folder.finish(verdict.model_copy(update={"outcome": outcome, "cost": told}))


@pytest.mark.parametrize(
    ("outcome", "told", "learned"),
    [
        (Outcome.BROKE, cost(backend=0.02), True),
        (Outcome.HELD, cost(backend=0.02), True),
        (Outcome.UNDECIDED, cost(backend=0.02), True),
        (Outcome.INVALID, cost(backend=0.02), False),
        (Outcome.HELD, cost(others=0.5), False),
        (Outcome.HELD, None, False),
    ],
    ids=["broke", "held", "undecided", "invalid", "disturbed", "untold"],
)
def test_every_valid_cell_that_was_not_disturbed_tells_what_it_cost(
    tmp_path: Path, stack: FakeStack, outcome: Outcome, told: TrialCost | None, learned: bool
) -> None:
    run = Run(tmp_path, [cost()])
    before = run.pace.choose(AUTO[0]).knobs.speed
    finish(run, stack, outcome, told)
    after = run.pace.choose(AUTO[1]).knobs.speed
    run.pace.learn()
    assert run.store.read() == (cost(), *([told] if learned else []))
    assert (after < before) == learned
    again = run.again()  # what was finished before it began was told then
    again.learn()
    assert len(run.store.read()) == 1 + learned


def test_a_cell_that_was_invalid_first_tells_what_it_cost_once_it_is_valid(
    tmp_path: Path, stack: FakeStack
) -> None:
    run = Run(tmp_path, [cost()])
    finish(run, stack, Outcome.INVALID, cost(backend=0.03))
    run.pace.choose(AUTO[0], 2.0)
    folder = run.folder.cell(AUTO[0].id)
    verdict = folder.read_verdict().model_copy(update={"outcome": Outcome.HELD, "cost": cost()})
    folder.finish(verdict)
    run.pace.learn()
    run.pace.learn()
    assert run.store.read() == (cost(), cost())


def test_a_damaged_verdict_tells_nothing_and_stops_nobody(tmp_path: Path, stack: FakeStack) -> None:
    run = Run(tmp_path, [cost()])
    finish(run, stack, Outcome.HELD, cost())
    (run.folder.cell(AUTO[0].id).path / "verdict.json").write_text("{")
    run.pace.choose(AUTO[1])
    assert run.store.read() == (cost(),)


def test_a_cells_speed_and_its_reason_are_stored_and_do_not_make_another_cell_of_it(
    tmp_path: Path, stack: FakeStack
) -> None:
    run = Run(tmp_path, [cost()])
    lab = Lab(stack, RecordingInjector(), InstantLoad(5))
    lab = replace(lab, choose_speed=run.pace.choose)
    summary = run_experiment(lab, run.folder, run.folder.cells())
    stored = {cell.id: cell for cell in run.folder.cells()}
    for result in summary.cells:
        cell = stored[result.id]
        assert result.knobs["speed"] == cell.knobs.speed
        assert result.speed_reason == cell.speed_reason
    chosen = stored["cell-1"]
    assert chosen.knobs.speed == chosen_by(AUTO[0], cost())
    assert chosen.auto_speed
    assert chosen.speed_reason
    assert (stored["given"].knobs.speed, stored["given"].speed_reason) == (4, "")
    run.folder.check_same([*AUTO, GIVEN])
    run.folder.check_same(tuple(stored.values()))
    assert summary.speed == "auto"
    other = chosen.model_copy(update={"auto_speed": False})
    with pytest.raises(UsageError, match=r"cell-1: knobs\.speed was auto, is "):
        run.folder.check_same([other, AUTO[1], GIVEN])


def test_a_probe_is_of_two_sizes_and_over_in_a_few_seconds() -> None:
    for size in ("50 KB", "1 MB"):
        cell = probe_cell(size, ())
        assert cell.id == f"probe of {size}"
        assert cell.load.measured[1] / cell.knobs.speed < 4
