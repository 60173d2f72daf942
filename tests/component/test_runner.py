"""The story of a run, told with fakes: order, what is kept, and what a failure leaves."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from lab.cli.stored import exit_code
from lab.errors import InjectionError, PartFailed, StoreError
from lab.judge import judge
from lab.load.driver import LoadResult, LoadStart, StoodStill
from lab.model.evidence import Cause, Injected, Observation, PartDown, ProcessFaultRecord
from lab.model.experiment import Cell
from lab.model.fault import Fault
from lab.model.run import LoadSoFar, LoadTick, Progress
from lab.model.verdict import Outcome, Verdict
from lab.plan import estimate
from lab.runner import CellProgress, Lab, run_experiment
from lab.stack.base import Replica
from lab.store import RunFolder
from tests.fakes import LOAD, FakeStack, InstantLoad, RecordingInjector, make_cell, sample_run
from tests.live import wait_until

CELLS = tuple(make_cell(cell_id=name) for name in ("one", "two", "three"))


class Stack(FakeStack):
    """A fake that tells its story, and how often it was asked for its dead parts."""

    def __init__(self, folder: Path, events: list[str]) -> None:
        super().__init__(folder, self.cause)
        self.events = events
        self.asked = 0
        self.failing: Cause | None = None
        self.log_error: OSError | None = None

    def cause(self, _number: int) -> Cause | None:
        return self.failing

    def apply(self, cell: Cell) -> Replica:
        self.down.clear()  # a part that is dead starts anew
        self.events.append(f"applied {cell.id}")
        return super().apply(cell)

    def down_parts(self) -> dict[str, str]:
        self.asked += 1
        return super().down_parts()

    def collect_logs(self, into: Path) -> None:
        self.events.append("logs")
        if self.log_error:
            raise self.log_error
        super().collect_logs(into)

    def inject_fault(self, part: str, action: str) -> None:
        super().inject_fault(part, action)
        self.events.append(self.acts[-1])

    def recover(self, part: str, action: str) -> None:
        super().recover(part, action)
        self.events.append(self.acts[-1])

    def dies(self, part: str, why: str) -> None:
        """A part dies now, and whoever watches has had the time to see it."""
        self.down[part] = why
        self.is_seen()

    def is_seen(self) -> None:
        """Wait until whoever watches has seen what is down now."""
        seen = self.asked
        wait_until(lambda: self.asked > seen + 1)


class Load(InstantLoad):
    """A fake that tells its story."""

    def __init__(self, events: list[str]) -> None:
        super().__init__()
        self.events = events

    def run(self, cell: Cell, *arguments: Any, **more: Any) -> LoadResult:
        self.events.append(f"load {cell.id}")
        return super().run(cell, *arguments, **more)


class Injector(RecordingInjector):
    """A fake that may fail to remove its faults, as with a dead Toxiproxy."""

    def __init__(self, events: list[str]) -> None:
        super().__init__()
        self.events = events
        self.sticks: InjectionError | None = None

    @contextmanager
    def injected(self, replica: Replica, cell: Cell) -> Iterator[list[Injected]]:
        with super().injected(replica, cell) as read_back:
            yield read_back
        if self.sticks:
            raise self.sticks


@dataclass
class Wired:
    """A lab of fakes, with a run to measure."""

    lab: Lab
    run: RunFolder
    stack: Stack
    load: Load
    injector: Injector
    events: list[str]
    shown: list[Progress] = field(default_factory=list)

    def measure(self, cells: Sequence[Cell] = CELLS) -> list[Outcome]:
        return [cell.verdict for cell in run_experiment(self.lab, self.run, cells).cells]

    def summary(self) -> dict[str, Any]:
        return dict(json.loads((self.run.path / "summary.json").read_text()))

    def verdict(self, name: str) -> Verdict:
        return self.run.cell(name).read_verdict()


@pytest.fixture
def wired(tmp_path: Path) -> Iterator[Wired]:
    events: list[str] = []
    stack, load, injector = Stack(tmp_path / "fake", events), Load(events), Injector(events)
    shown: list[Progress] = []
    lab = Lab(stack, injector, load, shown.append)
    yield Wired(
        lab, sample_run.create(tmp_path / "results", CELLS), stack, load, injector, events, shown
    )
    stack.close()


def test_each_cell_is_applied_injected_loaded_freed_of_faults_and_its_logs_are_kept(
    wired: Wired,
) -> None:
    assert wired.measure() == [Outcome.HELD] * 3
    assert wired.events == [
        event
        for cell in CELLS
        for event in (
            f"applied {cell.id}",
            f"injected {cell.id}",
            f"load {cell.id}",
            f"removed {cell.id}",
            "logs",
        )
    ]
    for cell in CELLS:
        log = (wired.run.cell(cell.id).logs / "server.log").read_text()
        assert log.startswith("upload 1: stored\n")
        assert log.count("upload") == wired.load.uploads


def test_the_observation_is_whole_on_disk_before_anyone_judges_it(
    wired: Wired, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judging(cell: Cell, observation: Observation, _reference: object) -> Verdict:
        folder = wired.run.cell(cell.id)
        assert folder.observed()
        assert not folder.finished()
        assert folder.read_observation() == observation
        return judge(cell, observation)

    monkeypatch.setattr("lab.runner.judge", judging)
    assert wired.measure() == [Outcome.HELD] * 3


def test_no_garbage_is_looked_for_while_evidence_is_gathered_and_judged(
    wired: Wired, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[bool] = []

    def refused() -> int:
        looked.append(gc.isenabled())
        return 0

    def judging(cell: Cell, observation: Observation, _reference: object) -> Verdict:
        looked.append(gc.isenabled())
        if cell.id == "two":
            raise StoreError("damaged")
        return judge(cell, observation)

    made = wired.stack.apply
    monkeypatch.setattr(wired.stack, "apply", lambda cell: replace(made(cell), refused=refused))
    monkeypatch.setattr("lab.runner.judge", judging)
    assert wired.measure() == [Outcome.HELD] * 2
    assert looked == [False] * 6
    assert gc.isenabled()


def test_a_cell_that_was_observed_is_only_judged(
    wired: Wired, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_of: object) -> Verdict:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("lab.runner.judge", killed)
        with pytest.raises(KeyboardInterrupt):
            wired.measure()
    samples = wired.run.cell("one").samples.read_bytes()
    wired.events.clear()
    assert wired.measure() == [Outcome.HELD] * 3
    assert [event for event in wired.events if event.startswith("applied")] == [
        "applied two",
        "applied three",
    ]
    assert wired.run.cell("one").samples.read_bytes() == samples


STAGES = {"stages": [{"users": 5 * n, "over": "5 s", "hold": "5 s"} for n in range(1, 6)]}


class Cut(Load):
    """A load that is interrupted in stage 3 of 5, once."""

    cut = False

    def run(
        self,
        cell: Cell,
        url: str,
        samples: Path,
        log: Path,
        tick: Callable[[LoadTick], None],
        on_start: Callable[[LoadStart], None] | None = None,
        is_decided: Callable[[LoadSoFar], bool] | None = None,
    ) -> LoadResult:
        def ticks(now: LoadTick) -> None:
            if not self.cut and now.t >= 25:
                self.cut = True
                raise KeyboardInterrupt
            tick(now)

        return super().run(cell, url, samples, log, ticks, on_start, is_decided)


def test_a_cell_interrupted_in_stage_3_of_5_keeps_its_samples_and_is_measured_again(
    wired: Wired,
) -> None:
    cells = [make_cell(cell_id=name, load=STAGES) for name in ("one", "two")]
    wired.lab.generator = Cut(wired.events)
    with pytest.raises(KeyboardInterrupt):
        wired.measure(cells)
    folder = wired.run.cell("one")
    kept = [json.loads(line) for line in folder.samples.read_text().splitlines()]
    assert kept
    assert kept[-1]["sent_at"] == pytest.approx(25)
    assert not folder.finished()
    assert wired.summary()["missing"] == ["one", "two", "three"]
    wired.events.clear()
    run_experiment(wired.lab, wired.run, cells)
    assert [event for event in wired.events if event.startswith("load")] == ["load one", "load two"]
    assert len(folder.samples.read_text().splitlines()) == 100
    assert folder.finished()


def test_a_finished_cell_is_left_as_it_is(wired: Wired) -> None:
    wired.measure(CELLS[:2])
    before = {file: file.stat() for file in wired.run.path.glob("cells/*/*.json*")}
    wired.events.clear()
    wired.measure()
    assert wired.events[0] == "applied three"
    kept = {file: file.stat() for file in before if file.parent.name != "three"}
    assert {file: (s.st_ino, s.st_mtime_ns) for file, s in kept.items()} == {
        file: (before[file].st_ino, before[file].st_mtime_ns) for file in kept
    }


def test_the_summary_is_written_before_the_first_cell_and_after_each(wired: Wired) -> None:
    finished = []

    def show(progress: Progress) -> None:
        if progress.phase == "applying":
            finished.append([cell["id"] for cell in wired.summary()["cells"]])

    wired.lab.show = show
    wired.measure()
    assert finished == [[], ["one"], ["one", "two"]]
    assert wired.summary()["missing"] == []


def test_every_phase_is_shown_in_order(wired: Wired) -> None:
    class Ticks(Load):
        """A load that is over; it ticks through all its phases."""

        def run(self, cell: Cell, *arguments: Any, **more: Any) -> LoadResult:
            tick = arguments[3]
            arguments = (*arguments[:3], lambda _moment: None, *arguments[4:])
            result = super().run(cell, *arguments, **more)
            for t in (0.0, 4.9, 5.0, 14.9, 15.0, 74.9, 75.0, 80.0):
                tick(moment(t))
            return result

    wired.lab.generator = Ticks([])
    cell = make_cell(cell_id="one", load={**LOAD, "ramp": "5 s"})
    run_experiment(wired.lab, wired.run, [cell])
    assert [progress.phase for progress in wired.shown] == [
        *("applying", "arming", "ramp", "ramp", "warm-up", "warm-up", "window", "window"),
        *("drain", "drain", "auditing", "judging"),
    ]


LONG = {"users": 5, "ramp": "1 s", "warmup": "1 s", "window": "100 s", "timeout": "20 s"}


def test_a_cell_ends_when_it_is_decided_and_is_judged_so_again_from_what_is_stored(
    wired: Wired,
) -> None:
    cell = make_cell(cell_id="one", load=LONG).model_copy(update={"stop_when_decided": True})
    wired.lab.generator = InstantLoad(uploads=1000)
    assert wired.measure([cell]) == [Outcome.HELD]
    verdict = wired.verdict("one")
    assert verdict.decided
    assert verdict.decided.uploads < 400
    assert 19 <= verdict.decided.after_s <= verdict.decided.window_s < 60
    assert verdict.reasons[-1] == str(verdict.decided)
    folder = wired.run.cell("one")
    assert judge(folder.read_cell(), folder.read_observation()) == verdict
    assert wired.summary()["cells"][0]["decided"] == verdict.decided.model_dump()
    wired.measure([make_cell(cell_id="two", load=LONG)])  # which goes on to its end
    assert wired.verdict("two").decided is None
    assert wired.verdict("two").metrics["attempts"] == 1000


def test_a_window_that_ended_early_is_over_and_what_it_spared_is_not_left(wired: Wired) -> None:
    cell = make_cell(cell_id="one", load=LONG)
    progress = CellProgress(wired.shown.append, [cell], 0, [cell])
    progress.load(LoadTick(50, 5, 9, 9, 0, 0.0))
    progress.load(LoadTick(51, 0, 9, 9, 0, 0.0, ended_at=50.5))
    assert [shown.phase for shown in wired.shown] == ["window", "drain"]
    spared = wired.shown[0].left_s - wired.shown[1].left_s
    assert spared == pytest.approx(102 - 50.5, abs=0.5)


def moment(t: float) -> LoadTick:
    return LoadTick(t, 1, 1, 1, 0, 0.0)


def test_the_time_left_counts_only_what_is_still_to_be_measured(wired: Wired) -> None:
    wired.measure((CELLS[1],))
    wired.shown.clear()
    wired.measure()
    whole = estimate(CELLS[:1])
    assert (wired.shown[0].index, wired.shown[0].cells) == (1, 3)
    assert whole < wired.shown[0].left_s <= 2 * whole
    assert wired.shown[-1].left_s <= whole
    left = [progress.left_s for progress in wired.shown if progress.cell == "one"]
    assert left == sorted(left, reverse=True)


@pytest.mark.parametrize("part", ["postgres", "toxiproxy"])
def test_a_part_that_dies_in_the_load_makes_its_cell_invalid_and_no_other(
    wired: Wired, part: str
) -> None:
    def show(progress: Progress) -> None:
        if progress.cell == "two" and progress.tick and progress.tick.sent == 10:
            wired.stack.dies(part, "killed by SIGKILL")
            if part == "toxiproxy":
                wired.injector.sticks = InjectionError("Toxiproxy does not answer")
        if progress.cell == "three":
            wired.injector.sticks = None

    wired.lab.show = show
    assert wired.measure() == [Outcome.HELD, Outcome.INVALID, Outcome.HELD]
    first, *_ = wired.verdict("two").reasons
    assert first.startswith(f"{part} was down at ")
    assert first.endswith(": killed by SIGKILL")
    assert len(wired.run.cell("two").samples.read_text().splitlines()) == 10
    assert (wired.run.cell("two").logs / "server.log").exists()


def test_a_dead_toxiproxy_that_shows_only_when_faults_are_removed(wired: Wired) -> None:
    class Last(Load):
        """The part dies when the load is over."""

        def run(self, cell: Cell, *arguments: Any, **more: Any) -> LoadResult:
            result = super().run(cell, *arguments, **more)
            if cell.id == "one":
                wired.stack.down["toxiproxy"] = "gone"
                wired.injector.sticks = InjectionError("Toxiproxy does not answer")
            else:
                wired.injector.sticks = None
            return result

    wired.lab.generator = Last([])
    assert wired.measure() == [Outcome.INVALID, Outcome.HELD, Outcome.HELD]
    assert wired.verdict("one").reasons[0].startswith("toxiproxy was down at ")


def test_a_generator_that_dies_makes_its_cell_invalid_and_no_other(wired: Wired) -> None:
    def show(progress: Progress) -> None:
        wired.load.dies_after = 10 if progress.cell == "two" else None

    wired.lab.show = show
    assert wired.measure() == [Outcome.HELD, Outcome.INVALID, Outcome.HELD]
    reasons = wired.verdict("two").reasons
    assert any(reason.startswith("generator was down at ") for reason in reasons)
    assert any("ended with exit code 1" in reason for reason in reasons)


def test_a_generator_that_stands_still_makes_its_cell_invalid_for_that_alone(
    wired: Wired,
) -> None:
    class Still(Load):
        """It stands still in the first cell, and the lab ends it."""

        def run(self, cell: Cell, *arguments: Any, **more: Any) -> LoadResult:
            result = super().run(cell, *arguments, **more)
            if cell.id == "one":
                raise StoodStill("it stood still for 1.6 s, from 3.0 s")
            return result

    wired.lab.generator = Still([])
    assert wired.measure() == [Outcome.INVALID, Outcome.HELD, Outcome.HELD]
    reasons = [r for r in wired.verdict("one").reasons if "down" in r or "exit code" in r]
    assert len(reasons) == 1
    assert reasons[0].startswith("generator was down at ")
    assert reasons[0].endswith(": it stood still for 1.6 s, from 3.0 s")


def test_faults_that_stay_in_a_whole_replica_end_the_run(wired: Wired) -> None:
    wired.injector.sticks = InjectionError("toxic 'a' is still there", "restart Toxiproxy")
    with pytest.raises(InjectionError, match="'a' is still there"):
        wired.measure()
    assert not wired.run.cell("one").observed()


class Failing(Load):
    """A load that fails with an error of its own, half-way."""

    error: BaseException = StoreError("samples.jsonl: No space left on device")

    def run(self, cell: Cell, *arguments: Any, **more: Any) -> LoadResult:
        super().run(cell, *arguments, **more)
        raise self.error


@pytest.mark.parametrize("error", [Failing.error, KeyboardInterrupt(), RuntimeError("a defect")])
def test_when_a_load_fails_faults_are_removed_logs_kept_and_the_error_is_its_own(
    wired: Wired, error: BaseException
) -> None:
    wired.lab.generator = Failing(wired.events)
    wired.lab.generator.error = error
    with pytest.raises(type(error)) as raised:
        wired.measure()
    assert raised.value is error
    assert wired.events == ["applied one", "injected one", "load one", "removed one", "logs"]
    folder = wired.run.cell("one")
    assert f"every part's log is in {folder.logs}" in error.__notes__
    assert "upload 1: stored" in (folder.logs / "server.log").read_text()
    assert not folder.observed()


def test_logs_that_cannot_be_kept_do_not_hide_the_first_error(wired: Wired) -> None:
    wired.lab.generator = Failing(wired.events)
    wired.lab.generator.error = StoreError("the first")
    wired.stack.log_error = OSError(28, "No space left on device")
    with pytest.raises(StoreError, match="the first") as raised:
        wired.measure()
    [note] = raised.value.__notes__
    assert note.startswith("and then the logs could not be kept: ")


def test_a_part_that_does_not_come_up_ends_the_run_and_leaves_its_log(wired: Wired) -> None:
    wired.measure(CELLS[:1])
    wired.stack.refuses = PartFailed("nginx did not come up: address in use")
    wired.events.clear()
    with pytest.raises(PartFailed, match="nginx did not come up"):
        wired.measure()
    assert wired.events == ["applied two", "logs"]
    assert (wired.run.cell("two").logs / "server.log").exists()
    assert [cell["id"] for cell in wired.summary()["cells"]] == ["one"]
    assert wired.measure() == [Outcome.HELD] * 3


def test_a_fault_that_cannot_be_injected_ends_the_run_before_any_load(wired: Wired) -> None:
    wired.injector.refuses = InjectionError("no proxy 'gcs'")
    with pytest.raises(InjectionError, match="no proxy"):
        wired.measure()
    assert wired.events == ["applied one", "logs"]


def backend_killed(cell_id: str = "one", warmup: str = "0 s") -> Cell:
    """A cell whose backend is killed as its window begins, until the load ends."""
    fault = {"fault": "backend-kill", "about": "x", "part": "backend", "strike": "kill"}
    return make_cell(
        cell_id=cell_id,
        load=LOAD | {"warmup": warmup},
        faults=[Fault.model_validate(fault | {"at": "0 s", "for": "1 h"})],
    )


def until_killed(wired: Wired, cell_id: str = "one") -> Callable[[Progress], None]:
    """Shows progress; at a cell's tenth upload waits for the kill, and until it was seen."""

    def show(progress: Progress) -> None:
        if progress.cell == cell_id and progress.tick and progress.tick.sent == 10:
            wait_until(lambda: wired.stack.acts)
            wired.stack.is_seen()

    return show


def test_a_process_fault_does_not_end_the_load_and_its_part_is_back_before_faults_are_removed(
    wired: Wired,
) -> None:
    wired.lab.show = until_killed(wired)
    wired.measure([backend_killed()])
    assert wired.events == [
        *("applied one", "injected one", "load one"),
        *("kill backend", "recover backend", "removed one", "logs"),
    ]
    seen = wired.run.cell("one").read_observation()
    assert len(seen.samples) == wired.load.uploads
    [record] = [line for line in seen.evidence if isinstance(line, ProcessFaultRecord)]
    assert (record.fault, record.part, record.action) == ("backend-kill", "backend", "kill")
    assert not any(isinstance(line, PartDown) for line in seen.evidence)
    [check] = [check for check in wired.verdict("one").injected if check.name == "backend-kill"]
    assert check.ok


def test_a_cell_whose_process_fault_did_not_happen_is_invalid_and_no_other(wired: Wired) -> None:
    cells = [backend_killed("one", warmup="10 s"), *CELLS[1:]]
    assert wired.measure(cells) == [Outcome.INVALID, Outcome.HELD, Outcome.HELD]
    assert wired.verdict("one").reasons[0] == (
        "injected and measured differ: the process fault backend-kill did not happen"
        " - see the log of backend in the cell's folder, and run the cell again"
    )
    assert wired.stack.acts == []


def test_a_part_that_does_not_come_back_makes_its_cell_invalid_and_no_other(
    wired: Wired, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(part: str, _action: str) -> None:
        wired.stack.down[part] = "exited (1)"
        raise PartFailed("backend did not come back: no module")

    monkeypatch.setattr(wired.stack, "recover", fails)
    wired.lab.show = until_killed(wired)
    cells = [backend_killed(), *CELLS[1:]]
    assert wired.measure(cells) == [Outcome.INVALID, Outcome.HELD, Outcome.HELD]
    first, *_ = wired.verdict("one").reasons
    assert first.startswith("backend was down at ")
    assert first.endswith(": backend-kill: backend did not come back: no module")


def test_a_part_is_brought_back_when_the_load_fails(wired: Wired) -> None:
    wired.lab.show = until_killed(wired)
    wired.lab.generator = Failing(wired.events)
    with pytest.raises(StoreError):
        wired.measure([backend_killed()])
    assert wired.events[-4:] == ["kill backend", "recover backend", "removed one", "logs"]


@pytest.mark.parametrize(
    ("failing", "uploads", "plain", "gated"),
    [(None, 100, 0, 0), (Cause.DB_REFUSED, 100, 0, 1), (None, 3, 4, 4)],
    ids=["held", "broke", "undecided"],
)
def test_the_exit_code_says_whether_all_was_measured_and_with_gate_whether_it_held(
    wired: Wired, failing: Cause | None, uploads: int, plain: int, gated: int
) -> None:
    wired.stack.failing, wired.load.uploads = failing, uploads
    summary = run_experiment(wired.lab, wired.run, CELLS)
    assert exit_code(summary, gate=False) == plain
    assert exit_code(summary, gate=True) == gated


def test_a_run_with_a_cell_missing_was_not_all_measured(wired: Wired) -> None:
    assert exit_code(run_experiment(wired.lab, wired.run, CELLS[:2]), gate=False) == 4


class Appending(Load):
    """Somebody writes to the samples of a cell while they grow."""

    line = b""

    def run(self, cell: Cell, url: str, samples: Path, *arguments: Any) -> LoadResult:
        result = super().run(cell, url, samples, *arguments)
        if cell.id == "one":
            with samples.open("ab") as file:
                file.write(self.line)
        return result


@pytest.mark.parametrize("line", [b'{"x":1}\n', b"5\n", b"no JSON\n", b"\xff\n", b"[]\n"])
def test_samples_that_somebody_wrote_to_are_told_and_the_next_cell_goes_on(
    wired: Wired, line: bytes
) -> None:
    load = wired.lab.generator = Appending(wired.events)
    load.line = line
    summary = run_experiment(wired.lab, wired.run, CELLS)
    assert [cell.id for cell in summary.cells] == ["two", "three"]
    [damaged] = summary.damaged
    assert damaged.id == "one"
    at = f"{wired.run.cell('one').samples}:{load.uploads + 1}: the line is damaged: "
    assert damaged.problem.startswith(at)
    assert [cell["id"] for cell in wired.summary()["damaged"]] == ["one"]


def test_a_file_of_the_replicas_that_is_gone_is_told_by_its_own_name(
    wired: Wired, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = wired.run.path.parent / "logs" / "postgres.log"

    def refused() -> int:
        return len(path.read_bytes())

    made = wired.stack.apply
    monkeypatch.setattr(wired.stack, "apply", lambda cell: replace(made(cell), refused=refused))
    with pytest.raises(PartFailed) as raised:
        wired.measure()
    assert str(raised.value) == (
        f"a file of the running replica cannot be read: {path}: No such file or directory - keep"
        " cleaners of temporary files from it, and run the cell again with --resume"
    )
    assert not wired.run.cell("one").observed()


@pytest.mark.parametrize("name", ["server.log", "."])
def test_logs_are_not_written_where_a_link_leads(wired: Wired, tmp_path: Path, name: str) -> None:
    (tmp_path / "others").mkdir()
    theirs = tmp_path / "others" / "server.log"
    theirs.write_text("three years of work")

    def strike(cell: Cell, *_arguments: Any) -> LoadResult:
        logs = wired.run.cell(cell.id).logs
        if name == ".":
            logs.rename(tmp_path / "moved")
            logs.symlink_to(theirs.parent)
        else:
            (logs / name).symlink_to(theirs)
        raise StoreError("the first")

    wired.load.run = strike  # type: ignore[method-assign]
    with pytest.raises(StoreError, match="the first") as raised:
        wired.measure()
    [note] = raised.value.__notes__
    assert "is a link in place of a f" in note
    assert [*theirs.parent.iterdir()] == [theirs]
    assert theirs.read_text() == "three years of work"
    assert wired.events[-1] == "logs"
