"""``lab why`` in this process, on a fake replica whose pool is too small, then its rate limit."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.cli import why
from lab.errors import MachineError
from lab.model.diagnosis import Diagnoses, Diagnosis
from lab.model.evidence import Cause
from lab.model.experiment import Cell
from lab.model.verdict import Outcome, Resource
from lab.report.diagnoses import diagnoses_page
from lab.stack.base import Replica
from lab.store import find
from tests import command
from tests.cli_fixture import Command, the_line
from tests.component.cli.faked import Faked
from tests.fakes import FakeStack

pytestmark = pytest.mark.long

SPEC = """\
experiment: short-pools
about: what keeps half of the uploads from being taken?
knobs: {speed: 1, global_rate_limit: "off"}
matrix:
  pool_size: [5, 20]
load: {users: 10, ramp: 0 s, warmup: 10 s, window: 60 s, audio: 50 KB}
criteria: [error_rate < 5 %]
"""
BROKE, HELD = "pool_size=5", "pool_size=20"


class Short(FakeStack):
    """A replica that fails every second upload where its pool is small, or a rate limit stands."""

    origins = "no real part"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, self.cause)
        self.cell: Cell | None = None
        self.lacks = ""

    def require(self, cell: Cell) -> None:
        if self.lacks and self.lacks in cell.id:
            raise MachineError("this machine has too few cores", "use another")

    def apply(self, cell: Cell) -> Replica:
        self.cell = cell
        return super().apply(cell)

    def cause(self, number: int) -> Cause | None:
        knobs = self.cell.knobs if self.cell else None
        if knobs is None or number % 2 == 0:
            return None
        if knobs.pool_size < 10:
            return Cause.POOL_TIMEOUT
        return Cause.RATE_LIMITED if knobs.global_rate_limit else None


def document(faked: Faked[Short]) -> Diagnoses:
    """What is stored."""
    return Diagnoses.model_validate_json((faked.path / "why.json").read_text())


@pytest.fixture
def faked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faked[Short]]:
    fakes = Faked(tmp_path, Short(tmp_path / "fake"), SPEC)
    with fakes.wired(monkeypatch, why):
        yield fakes


def test_the_cells_of_a_run_that_broke_are_explained_each_trial_as_it_ends(
    lab: Command, faked: Faked[Short]
) -> None:
    assert lab("run", faked.spec).code == 0
    faked.stack.applied.clear()
    ended = lab("why", "latest")
    assert ended.code == 0, ended.err
    [cell] = document(faked).cells
    assert (cell.id, cell.outcome, cell.named) == (BROKE, "proven", Resource.POOL)
    assert [trial.relaxed for trial in cell.trials] == [(Resource.POOL,)]
    assert cell.trials[0].settings == {"pool_size": 10, "max_overflow": 20}
    assert faked.stack.applied == [BROKE, f"{BROKE},relaxed=pool"]
    assert "pool is the limit" not in ended.out
    assert "the limit is pool, proven: twice the pool" in " ".join(ended.out.split())
    assert f"{BROKE},relaxed=pool: held; " in ended.err
    assert "proven: pool_size=5 misses error_rate < 5 %" in ended.err


def test_a_dry_run_tells_how_long_it_takes_and_starts_nothing(
    lab: Command, faked: Faked[Short]
) -> None:
    ended = lab("why", faked.spec, "--dry-run", "--until-held")
    assert (ended.code, faked.stack.applied) == (0, [])
    head, *lines = ended.out.splitlines()
    assert head.startswith("short-pools: 2 cells, ")
    assert "  --until-held goes on until the cell holds; --most-time bounds it" in lines
    assert [line.strip() for line in lines if line.strip() in (BROKE, HELD)] == [BROKE, HELD]
    plan = json.loads(lab("why", faked.spec, "--dry-run", "--json").out)
    assert plan["least_s"] < plan["most_s"]
    assert "pool" in plan["cells"][0]["may_be"]
    assert "storage" not in plan["cells"][0]["may_be"], "nobody moves it nearer"
    assert not (faked.results / "latest").exists()


def test_how_long_a_diagnosis_takes_is_told_as_it_begins(lab: Command, faked: Faked[Short]) -> None:
    told = lab("why", faked.spec, "--cell", BROKE).err.splitlines()
    assert any(line.startswith("short-pools: 1 cell, ") for line in told)


def test_a_spec_is_measured_first(lab: Command, faked: Faked[Short]) -> None:
    ended = lab("why", faked.spec, "--cell", BROKE, "--json")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out) == json.loads((faked.path / "why.json").read_text())
    assert [cell.outcome for cell in document(faked).cells] == ["proven"]


def test_until_it_holds_with_the_fewest_changes(lab: Command, faked: Faked[Short]) -> None:
    text = SPEC.replace(', global_rate_limit: "off"', "")
    spec = command.spec(faked.folder, text)
    ended = lab("why", spec, "--cell", BROKE, "--until-held")
    assert ended.code == 0, ended.err
    [cell] = document(faked).cells
    assert (cell.outcome, cell.limit) == ("shared", (Resource.POOL, Resource.RATE_LIMIT))
    [remedy] = document(faked).remedies
    assert (remedy.outcome, remedy.path) == ("held", ("pool", "rate_limit", "none"))
    assert remedy.settings == {"pool_size": 10, "max_overflow": 20, "global_rate_limit": "off"}
    assert [(tuple(one.change), one.needed) for one in remedy.taken_back] == [
        (("pool_size", "max_overflow"), True),
        (("global_rate_limit",), True),
    ]
    told = " ".join(ended.out.split())
    assert "pool_size=5 holds with pool_size=10 max_overflow=20 global_rate_limit=off." in told
    assert "The limit went pool -> rate_limit -> none." in told


def test_a_cell_that_is_invalid_is_told_with_what_measures_it_again(
    lab: Command, faked: Faked[Short]
) -> None:
    assert lab("why", faked.spec).code == 0
    found = document(faked)
    cells = (found.cells[0].model_copy(update={"verdict": Outcome.INVALID}), *found.cells[1:])
    page = diagnoses_page(
        found.model_copy(update={"cells": cells}), find(faked.path.parent, "latest").info
    )
    told = f"Could not be measured: {BROKE} - measure again with lab why --resume RUN"
    assert page.not_measured() == told


def test_what_is_stored_is_told_again_in_every_form(lab: Command, faked: Faked[Short]) -> None:
    first = lab("why", faked.spec)
    assert first.code == 0, first.err
    stored = {file.name: file.read_text() for file in faked.path.iterdir() if file.is_file()}
    assert {"run.json", "why.json", "report.html", "report.md"} <= stored.keys()
    faked.stack.applied.clear()
    for name in ("why", "report", "judge"):
        assert lab(name, "latest").out == first.out
        assert lab(name, "latest", "--json").out == stored["why.json"]
    assert lab("report", "latest", "--html").out == stored["report.html"]
    assert lab("report", "latest", "--markdown").out == stored["report.md"]
    assert f"{BROKE},relaxed=pool" in lab("report", "latest", "--cell", "relaxed").out
    [listed] = json.loads(lab("runs", "--json").out)
    assert (listed["kind"], listed["finished"], listed["cells"]) == ("why", 2, 2)
    assert listed["outcomes"] == {"proven": 1, "unbroken": 1}
    assert faked.stack.applied == []


def test_an_interrupted_diagnosis_says_what_is_kept_and_goes_on(
    lab: Command, faked: Faked[Short]
) -> None:
    faked.load.left = 1
    ended = lab("why", faked.spec, "--cell", BROKE)
    assert (ended.code, ended.out) == (130, "")
    go_on = f"lab why --resume results/{faked.path.name}"
    kept = "1 trial of 1 cell are kept"
    assert ended.err.splitlines()[-1] == f"lab: interrupted: {kept} - go on with `{go_on}`"
    told = lab("why", "latest")
    assert told.code == 4
    assert "nothing tells of pool" in " ".join(told.out.split())
    faked.stack.applied.clear()
    again = lab(*shlex.split(go_on)[1:])
    assert again.code == 0, again.err
    assert faked.stack.applied == [f"{BROKE},relaxed=pool"]
    assert [cell.outcome for cell in document(faked).cells] == ["proven"]


def test_a_trial_that_was_invalid_is_made_again_where_the_diagnosis_goes_on(
    lab: Command, faked: Faked[Short]
) -> None:
    assert lab("why", faked.spec, "--cell", BROKE).code == 0
    trial = f"{BROKE},relaxed=pool"
    kept = faked.path / "cells" / trial / "verdict.json"
    stepped = {"kind": "clock", "reason": "the clock was set"}
    told = {"outcome": "invalid", "reasons": [stepped["reason"]], "invalid": [stepped]}
    kept.write_text(json.dumps(json.loads(kept.read_text()) | told))
    assert lab("why", "latest").code == 4
    faked.stack.applied.clear()
    again = lab("why", "--resume", "latest")
    assert again.code == 0, again.err
    assert faked.stack.applied == [trial]
    assert [cell.outcome for cell in document(faked).cells] == ["proven"]
    assert (kept.parent / "attempts").is_dir()


def why_untried(cell: Diagnosis) -> str:
    """Why more of the pool was not tried."""
    return next(one.why for one in cell.untried if one.resource is Resource.POOL)


def test_what_the_stack_cannot_make_is_said_and_remembered(
    lab: Command, faked: Faked[Short]
) -> None:
    faked.stack.lacks = "relaxed=pool"
    first = lab("why", faked.spec, "--cell", BROKE)
    assert first.code == 4
    [cell] = document(faked).cells
    assert why_untried(cell) == "this machine has too few cores"
    faked.stack.lacks = ""
    assert lab("why", "latest").out == first.out


def test_no_trial_is_begun_that_would_end_later(lab: Command, faked: Faked[Short]) -> None:
    ended = lab("why", faked.spec, "--cell", BROKE, "--most-time", "1")
    assert ended.code == 4
    [cell] = document(faked).cells
    assert cell.trials == ()
    assert why_untried(cell) == "no time was left"


def test_a_name_that_is_almost_a_spec_s_is_told_with_the_spec(
    lab: Command, faked: Faked[Short]
) -> None:
    told = the_line(lab("why", "workers-x-pol", "--results", faked.folder).err)
    assert told.endswith("- did you mean the spec 'workers-x-pool'? `lab runs` lists the runs")
    told = the_line(lab("why", "qqq", "--results", faked.folder).err)
    assert told.endswith("- `lab runs` lists the runs")


def test_a_cell_that_held_is_refused_with_what_is_nearest(
    lab: Command, faked: Faked[Short]
) -> None:
    lab("run", faked.spec)
    ended = lab("why", "latest", "--cell", HELD)
    assert (ended.code, ended.out) == (2, "")
    assert the_line(ended.err) == (
        f"{HELD} held: nearest to being missed is error_rate < 5 %, at 0 % of its bound"
        " - give it more users, or explain one that broke"
    )


BAD_INPUT = [
    (("--cell", "7"), "no cell of NAME has '7' in its id - write a part of one, as pool_size=5"),
    (("--cell", "pool"), "'pool' is part of 2 ids of NAME - write more, as pool_size=5"),
    (("--set", "workers=2"), "the cells of a stored run are explained as they are - leave"),
    (("--resume", "latest"), "RUN|SPEC and --resume exclude each other - leave one out"),
    (("--most-time", "0"), "Invalid value for '--most-time': "),
]


@pytest.mark.parametrize(("arguments", "line"), BAD_INPUT)
def test_bad_input_is_a_line(
    lab: Command, faked: Faked[Short], arguments: tuple[str, ...], line: str
) -> None:
    lab("run", faked.spec)
    name = faked.path.name
    ended = lab("why", "latest", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert the_line(ended.err).startswith(line.replace("NAME", name))


def test_a_run_of_which_nothing_broke_and_a_search_are_refused(
    lab: Command, faked: Faked[Short]
) -> None:
    lab("run", faked.spec, "--only", HELD)
    told = the_line(lab("why", "latest").err)
    assert told.startswith(f"no cell of {faked.path.name} broke: ")
    assert told.endswith(" - give it more users")
    kept = sorted(faked.path.glob("cells/*/verdict.json"))
    data = json.loads(kept[0].read_text())
    kept[0].write_text(json.dumps({**data, "outcome": "invalid"}))
    told = the_line(lab("why", "latest").err)
    name = faked.path.name
    cure = f"`lab run --resume {name}` measures what is missing"
    assert told == f"no cell of {name} broke, and 1 is invalid - {cure}"
    lab("threshold", faked.spec, "--most-users", "10")
    told = the_line(lab("why", "latest").err)
    assert told.startswith(f"{faked.path.name} is a search for thresholds, whose cells have many")


TWO_BREAK = SPEC.replace("[5, 20]", "[6, 5, 20]")
ALSO_BROKE = "pool_size=6"


@pytest.mark.parametrize("name", ["cell.json", "verdict.json"])
def test_a_damaged_cell_of_a_run_is_told_apart_and_the_others_are_explained(
    lab: Command, faked: Faked[Short], name: str
) -> None:
    lab("run", command.spec(faked.folder, TWO_BREAK))
    run = faked.path
    file = Path("results") / run.name / "cells" / ALSO_BROKE / name
    file.write_text("garbage")
    ended = lab("why", "latest")
    assert ended.code == 4, ended.err
    told = f"damaged, and not explained: {ALSO_BROKE}: {file}:1: the file is damaged: Expecting"
    assert [line[: len(told)] for line in ended.err.splitlines() if "damaged" in line] == [told]
    assert [(cell.id, cell.outcome) for cell in document(faked).cells] == [(BROKE, "proven")]
    assert lab("why", "latest").code == 0  # that of the diagnosis, which has no damaged cell
    alone = lab("why", f"results/{run.name}", "--cell", ALSO_BROKE)
    assert (alone.code, alone.out) == (3, "")
    assert the_line(alone.err).startswith(f"{file}:1: the file is damaged")
    assert lab("why", run, "--cell", BROKE).code == 0


def test_a_run_of_which_all_that_broke_is_damaged_says_so(
    lab: Command, faked: Faked[Short]
) -> None:
    lab("run", faked.spec)
    (faked.path / "cells" / BROKE / "verdict.json").write_text("{")
    ended = lab("why", "latest")
    assert (ended.code, ended.out) == (2, "")
    assert the_line(ended.err) == (
        f"no cell of {faked.path.name} broke, and 1 is damaged - `lab report` shows what they did"
    )


@pytest.mark.parametrize("name", ["verdict.json", "cell.json"])
def test_a_diagnosis_that_goes_on_tells_a_damaged_trial_apart(
    lab: Command, faked: Faked[Short], name: str
) -> None:
    spec = command.spec(faked.folder, TWO_BREAK)
    assert lab("why", spec).code == 0
    trial = f"{ALSO_BROKE},relaxed=pool"
    (faked.path / "cells" / trial / name).write_text("garbage")
    shutil.rmtree(faked.path / "cells" / f"{BROKE},relaxed=pool")
    faked.stack.applied.clear()
    ended = lab("why", "--resume", "latest")
    assert ended.code == 4, ended.err
    assert faked.stack.applied == [f"{BROKE},relaxed=pool"]
    found = document(faked)
    assert [cell.id for cell in found.damaged] == [ALSO_BROKE]
    assert [(cell.id, cell.outcome) for cell in found.cells] == [
        (BROKE, "proven"),
        (HELD, "unbroken"),
    ]


@pytest.mark.parametrize("name", ["why", "report", "judge"])
def test_a_diagnosis_of_no_cell_is_refused(lab: Command, faked: Faked[Short], name: str) -> None:
    assert lab("why", faked.spec, "--cell", HELD).code == 0
    info = json.loads((faked.path / "run.json").read_text())
    (faked.path / "run.json").write_text(json.dumps({**info, "cells": []}))
    ended = lab(name, "latest")
    assert (ended.code, ended.out) == (2, "")
    assert the_line(ended.err).startswith(f"{faked.path.name} is a diagnosis of no cell - begin an")


def test_without_a_run_or_a_spec_an_example_is_given(lab: Command) -> None:
    ended = lab("why")
    assert ended.code == 2
    assert the_line(ended.err) == "no spec is given - write one, as `lab why workers-x-pool`"


def test_what_a_stored_diagnosis_cannot_be_asked_for_is_refused(
    lab: Command, faked: Faked[Short]
) -> None:
    assert lab("why", faked.spec, "--cell", BROKE).code == 0
    faked.stack.applied.clear()
    for more in (["--cell", "x"], ["--until-held"], ["--most-time", "5"], ["--speed", "3"]):
        ended = lab("why", "latest", *more)
        line = the_line(ended.err)
        assert ended.code == 2
        assert "is a diagnosis, whose stored answer is printed as it is - leave" in line
    ended = lab("why", "--resume", "latest", "--until-held")
    line = the_line(ended.err)
    assert ended.code == 2
    assert "was begun without --until-held, and goes on without - leave it out, or begin" in line
    assert faked.stack.applied == []


@pytest.mark.parametrize("named", ["relaxed=nonsense", "relaxed=pool+", "step=abc"])
def test_a_trial_of_a_name_that_no_diagnosis_makes_is_told_as_damage(
    lab: Command, faked: Faked[Short], named: str
) -> None:
    assert lab("why", faked.spec, "--cell", BROKE, "--until-held").code == 0
    axis, _, label = named.partition("=")
    made = faked.path / "cells" / f"{BROKE},{axis}={'1' if axis == 'step' else 'pool'}"
    other = made.with_name(f"{BROKE},{named}")
    shutil.copytree(made, other)
    for file in (other / "cell.json", other / "verdict.json"):
        text = file.read_text().replace(made.name, other.name)
        data = json.loads(text)
        if "axes" in data:
            data["axes"][axis] = label
        file.write_text(json.dumps(data))
    ended = lab("why", "latest")
    assert ended.code == 4, ended.err
    told = " ".join(ended.out.split())
    assert f"a trial is named {named}, and no diagnosis makes one of that name" in told
    assert "1 cell: 1 damaged" in told
