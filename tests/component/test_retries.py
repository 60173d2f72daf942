"""A cell that was disturbed is measured again: when, how often, how fast, and what a kill leaves.

What the fake load offers says how an attempt goes: a replica and a judge of their own would not
fail on demand. Each attempt has as many uploads as its place in the script says.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

import pytest

from lab.cli.stored import exit_code
from lab.errors import PartFailed, StoreError
from lab.judge import Reference, judge
from lab.load.driver import LoadResult
from lab.model.evidence import Observation
from lab.model.experiment import Cell
from lab.model.run import Progress
from lab.model.verdict import Invalidity, InvalidityKind, Outcome, Verdict
from lab.runner import Lab, run_experiment
from lab.store import CellFolder, RunFolder
from lab.store.attempts import Attempts
from tests.fakes import FakeStack, InstantLoad, RecordingInjector, make_cell, sample_run

FIRST = 10
"""Uploads of a first attempt; each later one has one more."""

Script = Sequence[tuple[InvalidityKind, float | None] | Outcome]
"""For each attempt what it shows, or what makes it invalid, with the speed that fits."""


class Scripted(InstantLoad):
    """A load whose uploads tell which attempt of its cell it is."""

    def __init__(self) -> None:
        super().__init__()
        self.speeds: list[float] = []

    def run(self, cell: Cell, url: str, samples: Path, *arguments: Any, **more: Any) -> LoadResult:
        kept = samples.parent / "attempts"
        self.uploads = FIRST + (len(list(kept.glob("*[0-9]"))) if kept.exists() else 0)
        self.speeds.append(cell.knobs.speed)
        return super().run(cell, url, samples, *arguments, **more)


@dataclass
class Wired:
    """A lab of fakes with one run; ``scripts`` are those of its cells."""

    lab: Lab
    run: RunFolder
    cells: tuple[Cell, ...]
    load: Scripted
    scripts: Mapping[str, Script]
    waits: list[str] = field(default_factory=list)
    quiet: bool = True
    shown: list[Progress] = field(default_factory=list)

    def measure(self) -> list[Outcome]:
        return [cell.verdict for cell in run_experiment(self.lab, self.run, self.cells).cells]

    def tried(self) -> list[list[int]]:
        return [attempts(self.run, cell.id) for cell in self.cells]

    def wait(self, show: Callable[[str], None]) -> bool:
        show("93 % of its CPU is in use (chrome 45 %)")
        self.waits.append(self.shown[-1].cell)
        return self.quiet

    def judge(self, cell: Cell, seen: Observation, _reference: Reference | None) -> Verdict:
        """What the script says of this attempt, whatever else this machine did."""
        verdict, script = judge(cell, seen), self.scripts[cell.id]
        said = script[min(len(seen.samples) - FIRST, len(script) - 1)]
        if isinstance(said, Outcome):
            return verdict.model_copy(update={"outcome": said, "invalid": ()})
        kind, speed = said
        found = Invalidity(kind=kind, reason=f"disturbed: {kind}", fitting=speed)
        told = {"outcome": Outcome.INVALID, "invalid": (found,), "reasons": (found.reason,)}
        return verdict.model_copy(update=told)


@pytest.fixture
def wired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Wired]]:
    stack = FakeStack(tmp_path / "fake")

    def wire(
        *, retries: int = 2, auto: bool = False, results: str = "r", **scripts: Script
    ) -> Wired:
        cells = tuple(
            make_cell({"speed": 8}, cell_id=name).model_copy(update={"auto_speed": auto})
            for name in scripts
        )
        load = Scripted()
        lab = Lab(stack, RecordingInjector(), load, retries=retries)
        made = Wired(lab, sample_run.create(tmp_path / results, cells), cells, load, scripts)
        lab.show, lab.wait_quiet = made.shown.append, made.wait
        monkeypatch.setattr("lab.runner.judge", made.judge)
        return made

    yield wire
    stack.close()


def slower(cell: Cell, limit: float) -> Cell:
    """The real chooser stands in `lab.plan`; this one takes the limit, or 8."""
    return cell.model_copy(update={"knobs": cell.knobs.with_settings({"speed": min(limit, 8)})})


def uploads(folder: Path) -> int:
    return len((folder / "samples.jsonl").read_text().splitlines())


def attempts(run: RunFolder, name: str) -> list[int]:
    """How many uploads each attempt that is stored of a cell had, the last one's last."""
    path = run.cell(name).path
    kept = sorted((path / "attempts").glob("*"), key=lambda one: one.name)
    return [uploads(one) for one in (*kept, path)]


BUSY: tuple[InvalidityKind, None] = ("machine", None)
HELD = Outcome.HELD


def test_the_first_valid_attempt_counts_and_no_other_cell_is_touched(
    wired: Callable[..., Wired],
) -> None:
    made = wired(one=[HELD], two=[BUSY, BUSY, HELD], three=[HELD])
    assert made.measure() == [HELD] * 3
    assert [attempts(made.run, name) for name in ("one", "two", "three")] == [
        [10],
        [10, 11, 12],
        [10],
    ]
    assert made.waits == ["two", "two"]
    [one, two, three] = json.loads((made.run.path / "summary.json").read_text())["cells"]
    assert (one["attempts"], three["attempts"]) == ([], [])
    assert [(each["verdict"], each["reasons"]) for each in two["attempts"]] == [
        ("invalid", ["disturbed: machine"])
    ] * 2


def test_a_valid_attempt_counts_whatever_it_says(wired: Callable[..., Wired]) -> None:
    shown = (Outcome.BROKE, Outcome.UNDECIDED, Outcome.HELD)
    made = wired(**{str(outcome): [BUSY, outcome, HELD] for outcome in shown})
    assert made.measure() == list(shown)
    assert made.tried() == [[10, 11]] * 3


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_where_none_is_valid_the_last_one_stands(wired: Callable[..., Wired], retries: int) -> None:
    made = wired(retries=retries, one=[BUSY], two=[HELD])
    assert made.measure() == [Outcome.INVALID, HELD]
    assert attempts(made.run, "one") == [FIRST + n for n in range(retries + 1)]
    assert exit_code(made.run.summary()) == 4


@pytest.mark.parametrize("kind", ["defect", "injection", "evidence", "descriptors"])
def test_what_may_be_the_replicas_own_doing_is_not_repeated(
    wired: Callable[..., Wired], kind: InvalidityKind
) -> None:
    made = wired(one=[(kind, None), HELD])
    assert made.measure() == [Outcome.INVALID]
    assert attempts(made.run, "one") == [10]


def test_a_speed_that_the_lab_chose_is_lowered_to_what_fits(wired: Callable[..., Wired]) -> None:
    made = wired(auto=True, one=[("speed", 4.5), BUSY, HELD])
    made.lab.choose_speed = slower
    assert made.measure() == [HELD]
    assert made.load.speeds == [8, 4, 4]
    assert made.waits == ["one"], "only the machine has to be quiet"
    assert made.run.cell("one").read_cell().knobs.speed == 4
    [told] = made.run.summary().cells
    assert [one.speed for one in told.attempts] == [8, 4]


def test_on_a_machine_that_stays_busy_it_is_made_at_what_fits_beside_the_others(
    wired: Callable[..., Wired],
) -> None:
    made = wired(auto=True, one=[("machine", 3.0), HELD])
    made.lab.choose_speed, made.quiet = slower, False
    assert made.measure() == [HELD]
    assert made.load.speeds == [8, 3]


def test_a_speed_that_was_given_by_hand_stays(wired: Callable[..., Wired]) -> None:
    def never(_cell: Cell, _limit: float) -> Cell:
        raise AssertionError

    made = wired(one=[("speed", 4.5), HELD], two=[("machine", 3.0), HELD])
    made.lab.choose_speed = never
    assert made.measure() == [Outcome.INVALID, HELD]
    assert made.load.speeds == [8, 8, 8]


def test_the_speed_is_chosen_before_each_attempt_from_the_cell_as_planned(
    wired: Callable[..., Wired],
) -> None:
    asked: list[tuple[float, float]] = []

    def choose(cell: Cell, limit: float) -> Cell:
        asked.append((cell.knobs.speed, limit))
        return slower(cell, limit)

    made = wired(auto=True, one=[("speed", 4.0), ("speed", 3.0), HELD])
    made.lab.choose_speed = choose
    made.measure()
    assert asked == [(8, inf), (8, 3.5), (8, 2)]


def test_a_wait_and_which_attempt_it_is_are_shown(wired: Callable[..., Wired]) -> None:
    made = wired(one=[BUSY, HELD])
    made.measure()
    phases = [(progress.phase, progress.attempt) for progress in made.shown if not progress.tick]
    once = ("applying", "arming", "auditing", "judging")
    assert phases == [
        *((phase, 1) for phase in once),
        ("waiting", 2),
        *((phase, 2) for phase in once),
    ]
    [waiting] = [progress for progress in made.shown if progress.phase == "waiting"]
    assert waiting.busy == "93 % of its CPU is in use (chrome 45 %)"
    assert waiting.left_s > 0


def test_a_run_that_goes_on_makes_invalid_cells_again_and_no_other(
    wired: Callable[..., Wired],
) -> None:
    made = wired(retries=0, one=[HELD], two=[("defect", None), HELD], three=[("speed", 4.0), HELD])
    assert made.measure() == [HELD, Outcome.INVALID, Outcome.INVALID]
    made.load.speeds.clear()
    assert made.measure() == [HELD] * 3
    assert len(made.load.speeds) == 2
    assert [attempts(made.run, name) for name in ("one", "two", "three")] == [
        [10],
        [10, 11],
        [10, 11],
    ]
    made.load.speeds.clear()
    assert made.measure() == [HELD] * 3
    assert made.load.speeds == []


def test_a_run_that_goes_on_has_its_retries_anew(wired: Callable[..., Wired]) -> None:
    made = wired(retries=1, one=[BUSY, BUSY, BUSY, HELD])
    assert made.measure() == [Outcome.INVALID]
    assert made.measure() == [HELD]
    assert attempts(made.run, "one") == [10, 11, 12, 13]


def test_a_speed_that_was_too_high_is_remembered_where_the_run_goes_on(
    wired: Callable[..., Wired],
) -> None:
    made = wired(auto=True, one=[("speed", 4.0), HELD])
    made.lab.choose_speed = slower
    interrupt(made, at="begin", call=2, after=True)
    assert made.run.cell("one").attempts.hold_current() is False
    assert made.measure() == [HELD]
    assert made.load.speeds == [8, 3.5]


def test_a_damaged_attempt_is_told_and_the_next_cell_goes_on(wired: Callable[..., Wired]) -> None:
    made = wired(retries=0, one=[BUSY], two=[HELD])
    made.measure()
    folder = made.run.cell("one")
    folder.keep_attempt()
    made.lab.retries = 1
    made.measure()
    (folder.path / "attempts/1/verdict.json").write_text("{")
    summary = run_experiment(made.lab, made.run, made.cells)
    assert [cell.id for cell in summary.cells] == ["two"]
    [damaged] = summary.damaged
    assert "attempts/1/verdict.json:1: the file is damaged" in damaged.problem


def test_a_disk_that_is_full_in_mid_retry_ends_the_run_with_a_remedy_and_loses_nothing(
    wired: Callable[..., Wired], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = wired(one=[BUSY, HELD])

    def full(*_arguments: object, **_more: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", full)
        with pytest.raises(StoreError, match="No space left on device - free some space on its"):
            made.measure()
    assert made.run.cell("one").read_verdict().outcome is Outcome.INVALID
    assert made.measure() == [HELD]
    assert attempts(made.run, "one") == [10, 11]


def test_a_part_that_does_not_come_up_again_ends_the_run_and_the_attempt_is_kept(
    wired: Callable[..., Wired],
) -> None:
    made = wired(one=[BUSY, HELD])

    def refuse(progress: Progress) -> None:
        made.shown.append(progress)
        if progress.phase == "waiting":
            assert isinstance(made.lab.stack, FakeStack)
            made.lab.stack.refuses = PartFailed("nginx did not come up")

    made.lab.show = refuse
    with pytest.raises(PartFailed, match="nginx did not come up"):
        made.measure()
    [(_, verdict)] = made.run.cell("one").attempts.read()
    assert verdict.outcome is Outcome.INVALID
    assert made.measure() == [HELD]
    assert attempts(made.run, "one") == [10, 11]


# What a kill leaves, at each step.


class Killed(BaseException):
    """The lab is gone."""


STEPS: Mapping[str, tuple[type, int]] = {
    "begin": (CellFolder, 3),
    "write_evidence": (CellFolder, 3),
    "finish": (CellFolder, 3),
    "keep_attempt": (CellFolder, 2),
    "keep": (Attempts, 2),
    "declare": (CellFolder, 3),
    "write_summary": (RunFolder, 2),
}
"""What the store does for a cell of three attempts: whose operation, and how often."""


def interrupt(made: Wired, at: str, call: int, *, after: bool) -> None:
    """Measure until the lab is killed before or after a call of an operation of the store's."""
    owner, _ = STEPS[at]
    operation = getattr(owner, at)
    calls = 0

    def counted(self: Any, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call and not after:
            raise Killed
        result = operation(self, *arguments)
        if calls == call:
            raise Killed
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, at, counted)
        with pytest.raises(Killed):
            made.measure()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_any_step_loses_no_attempt_and_counts_none_twice(
    wired: Callable[..., Wired], step: str, after: bool
) -> None:
    for call in range(1, STEPS[step][1] + 1):
        made = wired(results=f"{step}-{call}-{after}", one=[BUSY, BUSY, HELD])
        interrupt(made, step, call, after=after)
        made.run.summary()
        assert made.measure() == [HELD]
        assert attempts(made.run, "one") == [10, 11, 12]
        assert len(made.load.speeds) <= 4, "the one that was under way, and no other, again"
        again = len(made.load.speeds)
        assert made.measure() == [HELD]
        assert len(made.load.speeds) == again
        assert made.run.foreign() == []


def test_a_kill_in_the_wait_is_followed_by_the_attempt_that_it_waited_for(
    wired: Callable[..., Wired],
) -> None:
    made = wired(one=[BUSY, BUSY, HELD])
    waits = made.lab.wait_quiet

    def killed(show: Callable[[str], None]) -> bool:
        waits(show)
        raise KeyboardInterrupt

    for number in (1, 2):
        made.lab.wait_quiet = killed
        with pytest.raises(KeyboardInterrupt):
            made.measure()
        assert attempts(made.run, "one") == [FIRST + n for n in range(number)]
        made.lab.wait_quiet = waits
        if number == 1:
            made.lab.retries = 0
            assert made.measure() == [Outcome.INVALID]
            made.lab.retries = 2
    assert made.measure() == [HELD]
    assert attempts(made.run, "one") == [10, 11, 12]
