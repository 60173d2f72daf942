"""``lab threshold``, in this process, on a fake replica."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
CERTAIN = (*HIGHEST, "--method", "certain")


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


def document(faked: Faked[Any]) -> Thresholds:
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
    ended = lab("threshold", faked.spec, *CERTAIN)
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
    first = lab("threshold", faked.spec, *CERTAIN)
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
    faked.load.left = 3
    ended = lab("threshold", faked.spec, *CERTAIN)
    assert ended.code == 130
    kept = "3 trials and the thresholds of 0 of 2 cells are kept"
    go_on = f"lab threshold --resume results/{faked.path.name}"
    assert ended.err.splitlines()[-1] == f"lab: interrupted: {kept} - go on with `{go_on}`"
    assert document(faked).missing == ("workers=1", "workers=2")
    assert [len(cell.trials) for cell in document(faked).searching] == [2, 1]
    assert "? workers=1" in ended.out
    told = " ".join(ended.out.split())
    assert "workers=1 so far nothing is certain, but it seems to lie near" in told
    assert "workers=2 so far nothing is certain, but it seems to lie near" in told
    assert lab("report", "latest").out == ended.out
    assert "2 cells: 2 not finished" in ended.out
    assert "go on: lab threshold --resume" in ended.out
    for form in ("report.html", "report.md"):
        assert "so far" in (faked.path / form).read_text()
    assert "so far" in lab("report", "latest", "--cell", "workers=2").out
    assert lab("judge", "latest").code == 4
    assert json.loads(lab("runs", "--json").out)[0]["finished"] == 0
    made = set(faked.stack.applied[:3])
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


@pytest.mark.parametrize("method", ["aimed", "certain"])
def test_a_search_that_cannot_decide_ends_with_4(
    lab: Command, faked: Faked[Overloaded], method: str
) -> None:
    # Processes without an engine have no quota, so there is no evidence, however long it takes.
    one_cell = SPEC.replace("[1, 2]", "[1]")
    faked.spec.write_text(one_cell.replace("error_rate < 5 %", "throttled_backend < 5 %"))
    faked.load.uploads = 10
    ended = lab("threshold", faked.spec, "--most-users", "1", "--method", method, "--json")
    assert ended.code == 4, ended.err
    assert ended.out == again_json(faked)
    assert {cell.outcome for cell in document(faked).cells} & {"undecided", "invalid"}


def test_a_criterion_that_nothing_can_show_is_refused(
    lab: Command, faked: Faked[Overloaded]
) -> None:
    faked.spec.write_text(SPEC.replace("error_rate < 5 %", "error_rate <= 0 %"))
    ended = lab("threshold", faked.spec)
    assert (ended.code, ended.out) == (2, "")
    assert "no number of uploads shows on which side of 'error_rate <= 0 %' it is" in ended.err
    assert faked.stack.applied == []


def test_a_search_whose_time_is_spent_says_so_and_a_resume_gives_it_more(
    lab: Command, faked: Faked[Overloaded]
) -> None:
    ended = lab("threshold", faked.spec, *CERTAIN, "--most-load", "100")
    assert ended.code == 4, ended.err
    first = document(faked).cells
    assert {cell.outcome for cell in first} == {"undecided"}
    assert {cell.reason for cell in first} == {"the 100 s of load that it may take are spent"}
    assert all(len(cell.trials) == 1 for cell in first)
    again = lab("threshold", "--resume", "latest", "--most-load", "1000000")
    assert again.code == 0, again.err
    for brief, whole in zip(first, document(faked).cells, strict=True):
        assert whole.outcome == "found"
        assert {trial.id for trial in brief.trials} < {trial.id for trial in whole.trials}


def test_an_interrupted_search_leaves_its_document_where_json_is_asked_for(
    lab: Command, faked: Faked[Overloaded]
) -> None:
    faked.load.left = 2
    ended = lab("threshold", faked.spec, *CERTAIN, "--json")
    assert ended.code == 130
    assert ended.out == again_json(faked)
    known = Thresholds.model_validate_json(ended.out)
    assert [standing.id for standing in known.begun] == ["workers=1", "workers=2"]
    assert all(standing.estimate for standing in known.begun)


def test_every_cell_has_a_trial_first_and_each_line_says_what_is_known(
    lab: Command, faked: Faked[Overloaded]
) -> None:
    ended = lab("threshold", faked.spec, *CERTAIN)
    first, second = document(faked).cells
    assert faked.stack.applied[:2] == ["workers=1-u10-1", "workers=2-u10-1"]
    lines = ended.err.splitlines()
    standing = [line for line in lines if ": so far " in line]
    # One before the first trial, and one after each but a cell's last, which gives its answer.
    trials = len(first.trials) + len(second.trials)
    assert len(standing) >= trials - 2
    assert "workers=2: no trial yet" in lines
    assert any(line.endswith("; 1 trial, 3 min 14 s of load") for line in standing), standing


def test_a_wider_answer_is_asked_for_and_a_resume_may_ask_for_less_of_it(
    lab: Command, faked: Faked[Overloaded]
) -> None:
    wide = lab("threshold", faked.spec, *CERTAIN, "--within", "90 %")
    assert wide.code == 0, wide.err
    first = document(faked).cells[0]
    assert first.holds_at
    assert first.breaks_at
    assert 2 < first.breaks_at - first.holds_at <= 0.9 * first.holds_at
    assert "width: within 90 %, or 2 users" in " ".join(
        lab("report", "latest", "--markdown").out.replace("Width", "width").split()
    )
    narrow = lab("threshold", "--resume", "latest", "--within", "10 %")
    assert narrow.code == 0, narrow.err
    again = document(faked).cells[0]
    assert again.breaks_at
    assert again.breaks_at - (again.holds_at or 0) <= 2
    assert {trial.id for trial in first.trials} < {trial.id for trial in again.trials}


class Crowded(Overloaded):
    """A replica of which the share of uploads that fail grows with its users: smoothly, to 5 % at
    half a user more than it can bear."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.share = 0.0

    def apply(self, cell: Cell) -> Replica:
        bears = BREAKS_ABOVE * cell.knobs.workers + 0.5
        self.share = min(0.9, 0.05 * (cell.load.peak_users / bears) ** 6)
        return super().apply(cell)

    def cause(self, number: int) -> Cause | None:
        """Spread evenly: multiples of the golden ratio, without their whole part."""
        return Cause.POOL_TIMEOUT if (number * (5**0.5 - 1) / 2) % 1 < self.share else None


@pytest.fixture
def crowded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faked[Crowded]]:
    fakes = Faked(tmp_path, Crowded(tmp_path / "fake"), SPEC)
    with fakes.wired(monkeypatch):
        yield fakes


def test_a_search_that_is_aimed_tells_an_interval_from_the_first_trial_on(
    lab: Command, crowded: Faked[Crowded]
) -> None:
    ended = lab("threshold", crowded.spec, "--most-users", "40", "--within", "50 %")
    assert ended.code == 0, ended.err
    for workers, cell in enumerate(document(crowded).cells, start=1):
        assert cell.outcome == "found"
        assert cell.estimate
        assert (cell.estimate.method, cell.estimate.basis) == ("aimed", "counts")
        assert cell.holds_at is not None
        assert cell.breaks_at is not None
        assert cell.holds_at < 1.2 * BREAKS_ABOVE * workers
        assert cell.breaks_at > BREAKS_ABOVE * workers / 1.2
        ends = f"holds at {cell.holds_at} users, breaks at {cell.breaks_at} (95 % confidence, by"
        assert f"+ workers={workers} {ends} counts alone)" in " ".join(ended.out.split())
        told = " ".join(lab("report", "latest", "--cell", cell.id).out.split())
        assert "rests on counts alone" in told
        assert "error_rate < 5 %: * measured, - the curve, | what may be beyond" in told
    lines = [line for line in ended.err.splitlines() if line.startswith("workers=1: so far ")]
    assert len(lines) == len(document(crowded).cells[0].trials)  # the last one is the answer's
    assert lines[0].startswith("workers=1: so far nothing is known; next ")
    for line in lines[1:]:
        assert re.search(r"so far (holds|breaks) at \d+ user.*; next \d+ user", line)


def test_an_aimed_search_whose_load_is_spent_has_an_answer_that_is_wider(
    lab: Command, crowded: Faked[Crowded]
) -> None:
    ended = lab("threshold", crowded.spec, "--most-users", "40", "--most-load", "150")
    assert ended.code == 0, ended.err
    first = document(crowded).cells
    for cell in first:
        assert cell.outcome == "found"
        assert cell.reason == "wider than asked for: the 150 s of load are spent"
        assert sum(trial.spent for trial in cell.trials[:-1]) < 150
    text = " ".join(ended.out.split())
    assert text.count("wider than asked for: the 150 s of load are spent") == len(first)
    again = lab("threshold", "--resume", "latest", "--most-load", "600")
    assert again.code == 0, again.err
    for brief, whole in zip(first, document(crowded).cells, strict=True):
        assert {trial.id for trial in brief.trials} < {trial.id for trial in whole.trials}


def test_a_dry_run_tells_the_first_trials_and_starts_nothing(
    lab: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = command.spec(tmp_path, SPEC)
    before = {folder for folder, _ in ownership.replicas()}
    aimed = lab("threshold", file, "--dry-run")
    assert aimed.out.startswith("search: 2 cells, up to 200 users; at least 2 trials a cell, ")
    assert json.loads(lab("threshold", file, "--dry-run", "--json").out)["least_s"] > 0
    ended = lab("threshold", file, "--dry-run", "--method", "certain")
    assert (ended.code, ended.err) == (0, "")
    head, *cells = ended.out.splitlines()
    assert head.startswith("search: 2 cells, up to 200 users; as a rule 13 trials a cell, ")
    assert [line.partition(" for ")[0] for line in cells[::2]] == [
        "  workers=1: first 10 users",
        "  workers=2: first 10 users",
    ]
    plan = json.loads(lab("threshold", file, "--dry-run", "--json", "--most-users", "8").out)
    assert [cell["id"] for cell in plan["cells"]] == ["workers=1", "workers=2"]
    for cell in plan["cells"]:
        assert 1 <= cell["next"]["users"] <= 8
        assert cell["longest"]["estimate_s"] > cell["next"]["estimate_s"] > 0
    assert [entry.name for entry in tmp_path.iterdir()] == ["spec.yaml"]
    assert {folder for folder, _ in ownership.replicas()} <= before


def test_a_dry_run_of_a_search_that_is_answered_says_so(
    lab: Command, faked: Faked[Overloaded]
) -> None:
    lab("threshold", faked.spec, *CERTAIN)
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
    "within-nothing": (
        ["threshold", "x", "--within", "0 %"],
        "Invalid value for '--within': 0 % is out of bounds; it must be 1 % to 90 %",
    ),
    "within-all": (
        ["threshold", "x", "--within", "100 %"],
        "Invalid value for '--within': 100 % is out of bounds; it must be 1 % to 90 %",
    ),
    "within-apples": (
        ["threshold", "x", "--within", "3 apples"],
        "Invalid value for '--within': '3 apples' is not a share; write it like '5 %' (units: %)",
    ),
    "within-without-a-unit": (
        ["threshold", "x", "--within", "20"],
        "Invalid value for '--within': '20' is not a share; write it like '5 %' (units: %)",
    ),
    "within-below-nothing": (
        ["threshold", "x", "--within", "-5 %"],
        "Invalid value for '--within': '-5 %' is not a share; write it like '5 %' (units: %)",
    ),
    "within-no-number": (
        ["threshold", "x", "--within", "nan %"],
        "Invalid value for '--within': 'nan %' is not a share; write it like '5 %' (units: %)",
    ),
    "no-method": (
        ["threshold", "x", "--method", "guess"],
        "Invalid value for '--method': 'guess' is not one of 'aimed', 'certain'",
    ),
    "no-load": (["threshold", "x", "--most-load", "0"], "Invalid value for '--most-load': 0"),
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
    "method": (["--method", "aimed"], "is searched by method certain, so --method aimed cannot"),
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
    assert lab("threshold", faked.spec, *CERTAIN).code == 130
    options, message = RESUMED[case]
    ended = lab("threshold", "--resume", "latest", *options)
    assert (ended.code, ended.out) == (2, "")
    assert message in the_line(ended.err)


def test_each_command_continues_its_own_runs_only(lab: Command, faked: Faked[Overloaded]) -> None:
    faked.load.left = 1
    lab("threshold", faked.spec, *CERTAIN)
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
