"""``lab threshold``, in this process, on a fake replica."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.model.capacity import Thresholds
from lab.model.evidence import Cause
from lab.model.experiment import Cell
from lab.stack import ownership
from lab.stack.base import Replica
from tests import command
from tests.cli_fixture import Command, the_line
from tests.component.cli.faked import Faked
from tests.fakes import FakeStack
from tests.fakes import sample_run as sample

pytestmark = pytest.mark.long

BREAKS_ABOVE = 7
"""Users that the fake replica can bear with one worker."""

SPEC = """\
experiment: search
about: at how many users does it begin to fail?
knobs: {speed: 1}
matrix:
  workers: [1, 2]
load: {users: 10, ramp: 0 s, warmup: 10 s, window: 60 s}
criteria: [error_rate < 5 %]
"""
HIGHEST = ("--most-users", "12")


class Overloaded(FakeStack):
    """A replica that fails every second upload of more users than its workers can bear."""

    origins = "no real part"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, self.cause)
        self.overloaded = False

    def apply(self, cell: Cell) -> Replica:
        self.overloaded = cell.load.peak_users > BREAKS_ABOVE * cell.knobs.workers
        return super().apply(cell)

    def cause(self, number: int) -> Cause | None:
        return Cause.POOL_TIMEOUT if self.overloaded and number % 2 else None


def document(faked: Faked[Overloaded]) -> Thresholds:
    """What is stored."""
    return Thresholds.model_validate_json((faked.path / "threshold.json").read_text())


@pytest.fixture
def faked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faked[Overloaded]]:
    fakes = Faked(tmp_path, Overloaded(tmp_path / "fake"), SPEC)
    with fakes.wired(monkeypatch):
        yield fakes


def test_it_finds_every_cells_threshold_and_shows_each_trial_as_it_ends(
    lab: Command, faked: Faked[Overloaded]
) -> None:
    ended = lab("threshold", faked.spec, *HIGHEST)
    assert ended.code == 0, ended.err
    one, two = document(faked).cells
    assert one.holds_at is not None
    assert one.breaks_at is not None
    assert one.holds_at <= BREAKS_ABOVE < one.breaks_at
    assert (two.holds_at, two.breaks_at, two.crossed_first) == (12, None, None)
    text = " ".join(ended.out.split())
    assert f"+ workers=1 holds at {one.holds_at} users, breaks at {one.breaks_at} (95 %" in text
    assert "error_rate < 5 % is crossed first; " in text
    assert f"{len(one.trials)} trials, " in text
    assert "+ workers=2 holds at 12 users, the most that were to be tried" in text
    lines = ended.err.splitlines()
    for trial in (*one.trials, *two.trials):
        assert any(line.startswith(f"{trial.id}: {trial.users} users, ") for line in lines)
        place = "[1/2]" if trial in one.trials else "[2/2]"
        assert any(re.match(rf"{re.escape(place)} {trial.id}  verdict", line) for line in lines)
    assert [line for line in lines if line.startswith("workers=1: holds at ")]


def test_what_is_stored_is_told_again_in_every_form(lab: Command, faked: Faked[Overloaded]) -> None:
    first = lab("threshold", faked.spec, *HIGHEST)
    stored = {file.name: file.read_text() for file in faked.path.iterdir() if file.is_file()}
    assert {"run.json", "threshold.json", "report.html", "report.md"} <= stored.keys()
    assert "summary.json" not in stored
    for name in ("report", "judge"):
        assert lab(name, "latest").out == first.out
        assert lab(name, "latest", "--json").out == stored["threshold.json"]
    assert lab("judge", "latest").code == 0
    assert lab("report", "latest", "--html").out == stored["report.html"]
    assert lab("report", "latest", "--markdown").out == stored["report.md"]
    trial = document(faked).cells[0].trials[0].id
    assert trial in lab("report", "latest", "--cell", "workers=1").out
    assert lab("report", "latest", "--cell", trial).out.startswith(f"{trial}  ")
    told = json.loads(lab("report", "latest", "--cell", trial, "--json").out)
    assert told["verdict"] in {"held", "broke"}
    [listed] = json.loads(lab("runs", "--json").out)
    assert (listed["kind"], listed["finished"], listed["cells"]) == ("threshold", 2, 2)
    assert listed["outcomes"] == {"found": 2}
    assert "thresholds: 2 found" in lab("runs").out


def test_an_interrupted_search_says_what_is_kept_and_goes_on(
    lab: Command, faked: Faked[Overloaded]
) -> None:
    faked.load.left = 2
    ended = lab("threshold", faked.spec, *HIGHEST)
    assert (ended.code, ended.out) == (130, "")
    kept = "2 trials and the thresholds of 0 of 2 cells are kept"
    go_on = f"lab threshold --resume results/{faked.path.name}"
    assert ended.err.splitlines()[-1] == f"lab: interrupted: {kept} - go on with `{go_on}`"
    assert document(faked).missing == ("workers=1", "workers=2")
    told = lab("report", "latest")
    assert "2 cells: 2 not finished" in told.out
    assert "go on: lab threshold --resume" in told.out
    assert lab("judge", "latest").code == 4
    assert json.loads(lab("runs", "--json").out)[0]["finished"] == 0
    made = set(faked.stack.applied[:2])
    faked.stack.applied.clear()
    again = lab(*shlex.split(go_on)[1:])
    assert again.code == 0, again.err
    assert not made & set(faked.stack.applied)
    assert document(faked).missing == ()
    faked.stack.applied.clear()
    assert lab("threshold", faked.spec, "--resume", "latest", "--json").out == again_json(faked)
    assert faked.stack.applied == []


def again_json(faked: Faked[Overloaded]) -> str:
    """The stored document."""
    return (faked.path / "threshold.json").read_text()


@pytest.mark.parametrize(
    "arguments", [("run", "--speed", "50"), ("threshold", "--most-users", "1")]
)
def test_a_knob_that_cells_do_not_feel_is_said_before_they_are_measured(
    lab: Command, faked: Faked[Overloaded], arguments: tuple[str, ...]
) -> None:
    name, *options = arguments
    ended = lab(name, faked.spec, *options, "--set", "gcs_threads=3")
    said = "gcs_threads has no effect: its threads are those of gcs_call: executor"
    lines = ended.err.splitlines()
    assert lines.count(said) == 1
    assert lines.index(said) < next(n for n, line in enumerate(lines) if "workers=1" in line)


def test_a_search_that_cannot_decide_ends_with_4(lab: Command, faked: Faked[Overloaded]) -> None:
    # Processes without an engine have no quota, so there is no evidence, however long it takes.
    one_cell = SPEC.replace("[1, 2]", "[1]")
    faked.spec.write_text(one_cell.replace("error_rate < 5 %", "throttled_backend < 5 %"))
    faked.load.uploads = 10
    ended = lab("threshold", faked.spec, "--most-users", "1", "--json")
    assert ended.code == 4, ended.err
    assert ended.out == again_json(faked)
    assert {cell.outcome for cell in document(faked).cells} & {"undecided", "invalid"}


def test_a_criterion_that_nothing_can_show_is_refused(
    lab: Command, faked: Faked[Overloaded]
) -> None:
    faked.spec.write_text(SPEC.replace("error_rate < 5 %", "error_rate < 0 %"))
    ended = lab("threshold", faked.spec)
    assert (ended.code, ended.out) == (2, "")
    assert "no number of uploads shows on which side of 'error_rate < 0 %' it is" in ended.err
    assert faked.stack.applied == []


def test_a_search_whose_time_is_spent_says_so_and_a_resume_gives_it_more(
    lab: Command, faked: Faked[Overloaded]
) -> None:
    ended = lab("threshold", faked.spec, *HIGHEST, "--most-load", "100")
    assert ended.code == 4, ended.err
    first = document(faked).cells
    assert {cell.outcome for cell in first} == {"undecided"}
    assert {cell.reason for cell in first} == {"the 100 s of load that it may take are spent"}
    again = lab("threshold", "--resume", "latest", "--most-load", "1000000")
    assert again.code == 0, again.err
    for brief, whole in zip(first, document(faked).cells, strict=True):
        assert whole.outcome == "found"
        assert {trial.id for trial in brief.trials} < {trial.id for trial in whole.trials}


def test_a_dry_run_tells_the_first_trials_and_starts_nothing(
    lab: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = command.spec(tmp_path, SPEC)
    before = {folder for folder, _ in ownership.replicas()}
    ended = lab("threshold", file, "--dry-run")
    assert (ended.code, ended.err) == (0, "")
    head, *cells = ended.out.splitlines()
    assert head.startswith("search: 2 cells, up to 200 users; as a rule 13 trials a cell, ")
    assert [line.partition(" with ")[0] for line in cells] == [
        "  workers=1: first 10 users",
        "  workers=2: first 10 users",
    ]
    plan = json.loads(lab("threshold", file, "--dry-run", "--json", "--most-users", "8").out)
    assert [cell["id"] for cell in plan["cells"]] == ["workers=1", "workers=2"]
    for cell in plan["cells"]:
        assert cell["next"]["users"] == 8
        assert cell["longest"]["estimate_s"] > cell["next"]["estimate_s"] > 0
    assert [entry.name for entry in tmp_path.iterdir()] == ["spec.yaml"]
    assert {folder for folder, _ in ownership.replicas()} <= before


def test_a_dry_run_of_a_search_that_is_answered_says_so(
    lab: Command, faked: Faked[Overloaded]
) -> None:
    lab("threshold", faked.spec, *HIGHEST)
    count = len(document(faked).cells[0].trials)
    ended = lab("threshold", "--resume", "latest", "--dry-run")
    assert ended.out.splitlines()[1] == f"  workers=1: answered by {count} trials"


BASE = "experiment: e\n"
CLOSED = BASE + "load: {users: 4}\n"
VARY = "a threshold is searched by the number of users, and a load of kind"
BAD_SPECS = {
    "stages": (BASE + "load: {stages: [{users: 5, over: 5 s}]}\n", f"e: {VARY} stages has none"),
    "burst": (BASE + "load: {burst: 5}\n", f"e: {VARY} burst has none to vary - write the load"),
    "open": (BASE + "load: {rate: 5/s}\n", f"e: {VARY} open has none to vary - write the load"),
    "users-swept": (
        CLOSED + "matrix: {load: {few: {users: 3}, many: {users: 9}}}\n",
        "{file}: the axis 'load' sweeps the users, and so does a search - take them out",
    ),
    "no-criteria": (
        CLOSED + "criteria: []\n",
        "{file}:3:11: 'criteria' is empty - write at least one",
    ),
    "unknown-metric": (
        CLOSED + "criteria: [p59 < 10 s]\n",
        "{file}:3:12: entry 1 of 'criteria': 'p59' is not a metric",
    ),
}


@pytest.mark.parametrize("case", BAD_SPECS)
def test_a_spec_without_a_threshold(lab: Command, tmp_path: Path, case: str) -> None:
    text, message = BAD_SPECS[case]
    file = command.spec(tmp_path, text)
    for more in ((), ("--dry-run",)):
        ended = lab("threshold", file, "--results", tmp_path / "results", *more)
        assert (ended.code, ended.out) == (2, "")
        assert the_line(ended.err).startswith(message.replace("{file}", str(file)))
    assert [entry.name for entry in tmp_path.iterdir()] == ["spec.yaml"]


USAGE = {
    "no-spec": (["threshold"], "no spec is given - write one, as `lab threshold threshold`"),
    "two-specs": (["threshold", "a.yaml", "b.yaml"], "Got unexpected extra argument (b.yaml)"),
    "missing-file": (["threshold", "nosuch.yaml"], "nosuch.yaml: no such file"),
    "no-users": (["threshold", "x", "--most-users", "0"], "Invalid value for '--most-users': 0"),
    "users": (["threshold", "x", "--users", "3"], "No such option '--users'"),
    "resume-nothing": (["threshold", "--resume", "x"], "'x' is neither a run in results nor"),
}


@pytest.mark.parametrize("case", USAGE)
def test_a_command_line_that_cannot_be(
    lab: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, message = USAGE[case]
    ended = lab(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert the_line(ended.err).startswith(message)


RESUMED = {
    "higher": (["--most-users", "13"], "searches up to 12 users, so --most-users 13 cannot"),
    "setting": (["--set", "db_cap=3"], "--resume without a spec runs the stored cells as they"),
    "speed": (["--speed", "2"], "--resume without a spec runs the stored cells as they are"),
    "stack": (["--stack", "compose"], "was made on the fake stack, so --stack compose cannot"),
}


@pytest.mark.parametrize("case", RESUMED)
def test_a_search_is_continued_as_it_began(
    lab: Command, faked: Faked[Overloaded], case: str
) -> None:
    faked.load.left = 1
    assert lab("threshold", faked.spec, *HIGHEST).code == 130
    options, message = RESUMED[case]
    ended = lab("threshold", "--resume", "latest", *options)
    assert (ended.code, ended.out) == (2, "")
    assert message in the_line(ended.err)


def test_each_command_continues_its_own_runs_only(lab: Command, faked: Faked[Overloaded]) -> None:
    faked.load.left = 1
    lab("threshold", faked.spec, *HIGHEST)
    name = faked.path.name
    ended = lab("run", "--resume", name)
    assert ended.code == 2
    assert the_line(ended.err) == (
        f"{name} was made by `lab threshold` - go on with `lab threshold --resume results/{name}`"
    )
    assert the_line(lab("judge", name, "--gate").err).startswith("a search for thresholds has no")
    other = sample.create(faked.results).info.name
    ended = lab("threshold", "--resume", other)
    assert ended.code == 2
    assert the_line(ended.err).startswith(f"{other} was made by `lab run` - go on with `lab run")
