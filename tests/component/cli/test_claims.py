"""``lab claims``: from stored runs alone, the same each time, and an exit code that is true."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from lab.cli.options import known_faults
from lab.config import read_experiment
from lab.model.claims import Ledger
from lab.model.experiment import Cell
from lab.model.run import RunRequest
from lab.model.verdict import Outcome
from lab.plan import expand
from lab.runner import judge_cell
from lab.store import RunFolder
from tests.cli_fixture import Command, the_line
from tests.fakes import sample_run
from tests.unit.judge.observations import observation, samples

SPEC = """\
experiment: few
about: do few break it?
knobs: {gcs_call: executor}
matrix: {workers: [1, 2]}
load: {users: 5}
criteria: [p95 < 10 s]
"""
HOLDS = """\
claim: it-holds
section: "1. Pool"
says: One worker serves them.
cells: {one: {spec: few, cell: workers=1}}
confirmed_if:
  - {cell: one, criterion: error_rate < 5 %}
"""
HELPS = """\
claim: it-helps
section: "3. Workers"
says: A second worker carries twice as much.
cells:
  one: {spec: few, cell: workers=1}
  two: {spec: few, cell: workers=2}
confirmed_if:
  - {cell: two, criterion: throughput > 1.5 x baseline, beside: one}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a spec and two claims on it, as `lab init` lays them."""
    claims = tmp_path / "experiments" / "claims"
    claims.mkdir(parents=True)
    (claims.parent / "few.yaml").write_text(SPEC)
    (claims / "it-holds.yaml").write_text(HOLDS)
    (claims / "it-helps.yaml").write_text(HELPS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def cells(text: str = SPEC) -> tuple[Cell, ...]:
    file = Path("asked.yaml")
    file.write_text(text)
    faults = known_faults()
    return expand(read_experiment(file, faults), faults)


def store(
    uploads: dict[str, int], asked: Sequence[Cell] | None = None, stack: str = "embedded"
) -> RunFolder:
    """A run of the spec in whose cells so many uploads were made; the others are not measured."""
    file = Path("experiments/few.yaml")
    request = RunRequest(
        started=sample_run.STARTED,
        spec_file=str(file),
        experiment=read_experiment(file, known_faults()),
        stack=stack,
        stack_reason="",
        speed="auto",
        machine={"cpus": "2", "memory": "8 GiB"},
        git="abc",
    )
    made = cells() if asked is None else asked
    run = RunFolder.create(Path("results"), made, request)
    for cell in made:
        if cell.id in uploads:
            _measure(run, cell, uploads[cell.id])
    return run


def _measure(run: RunFolder, cell: Cell, uploads: int) -> None:
    folder = run.begin(cell)
    sent = samples(uploads)
    with folder.samples.open("w") as file:
        file.writelines(sample.model_dump_json() + "\n" for sample in sent)
    folder.write_evidence(observation(sent).evidence)
    judge_cell(folder)
    verdict = folder.read_verdict()
    told = {"outcome": Outcome.HELD, "invalid": (), "reasons": ("by hand",)}
    folder.finish(verdict.model_copy(update=told))


ALL = {"workers=1": 100, "workers=2": 400}


def ledger(lab: Command, *more: str | Path) -> dict[str, str]:
    ended = lab("claims", "experiments/claims", "--json", *more)
    found = Ledger.model_validate_json(ended.out)
    assert ended.code == (0 if found.decided else 4)
    return {claim.claim: claim.outcome for claim in found.claims}


def test_nothing_stored_is_not_measured_and_nothing_is_made(lab: Command, here: Path) -> None:
    ended = lab("claims", "experiments/claims")
    assert (ended.code, ended.err) == (4, "")
    assert "it-holds  ? not measured" in ended.out
    assert "few/workers=1: no run of it is stored; it takes a run, as" in " ".join(
        ended.out.split()
    )
    assert ended.out.endswith("\n2 claims: 2 not measured\n") or "2 not measured" in ended.out
    assert not (here / "results").exists()


@pytest.mark.usefixtures("here")
def test_stored_cells_decide_and_the_same_bytes_come_again(lab: Command) -> None:
    run = store(ALL)
    for form in ([], ["--json"], ["--markdown"]):
        first, second = (lab("claims", "experiments/claims", *form) for _ in range(2))
        assert (first.code, first.err) == (0, "")
        assert first.out == second.out
        assert "2 confirmed" in first.out or '"confirmed"' in first.out
    assert run.info.name in first.out
    assert "cpus 2, memory 8 GiB" in first.out
    assert "2026-11-24T08:15:00Z" in first.out
    assert "### " not in first.out


@pytest.mark.usefixtures("here")
def test_a_claim_may_be_refuted_and_a_name_asks_for_one_alone(lab: Command) -> None:
    store({"workers=1": 400, "workers=2": 100})
    ended = lab("claims", "experiments/claims/it-helps.yaml")
    assert ended.code == 0
    assert "it-helps  x refuted" in ended.out
    assert "missed: two: throughput > 1.5 x that of one: throughput" in ended.out
    assert "it-holds" not in ended.out


@pytest.mark.usefixtures("here")
def test_the_latest_run_in_which_a_cell_was_measured_answers(lab: Command) -> None:
    store(ALL)
    assert ledger(lab) == {"it-helps": "confirmed", "it-holds": "confirmed"}
    store({"workers=2": 20})  # of one cell alone: the other one stays
    assert ledger(lab) == {"it-helps": "refuted", "it-holds": "confirmed"}


@pytest.mark.usefixtures("here")
def test_another_question_is_no_answer_but_other_criteria_and_seeds_are(lab: Command) -> None:
    store(ALL, cells(SPEC.replace("users: 5", "users: 6")))
    assert set(ledger(lab).values()) == {"not measured"}
    store(ALL, cells(SPEC.replace("p95 < 10 s", "p95 < 8 s") + "seed: 7\n"))
    assert set(ledger(lab).values()) == {"confirmed"}
    assert set(ledger(lab, "--seed", "7").values()) == {"confirmed"}
    assert set(ledger(lab, "--seed", "8").values()) == {"not measured"}


@pytest.mark.usefixtures("here")
def test_stacks_are_not_mixed(lab: Command) -> None:
    store({"workers=1": 100})
    store({"workers=2": 400}, stack="compose")
    assert ledger(lab) == {"it-helps": "undecided", "it-holds": "confirmed"}
    ended = lab("claims", "experiments/claims", "--stack", "embedded")
    assert "ran on the compose stack" in " ".join(ended.out.split())


@pytest.mark.usefixtures("here")
def test_an_invalid_cell_is_passed_over_and_a_damaged_one_is_not(lab: Command) -> None:
    store(ALL)
    later = store(ALL)
    folder = later.cell("workers=2")
    told = {"outcome": Outcome.INVALID, "reasons": ("busy",)}
    folder.finish(folder.read_verdict().model_copy(update=told))
    assert ledger(lab)["it-helps"] == "confirmed"
    (folder.path / "verdict.json").write_text("{")
    assert ledger(lab)["it-helps"] == "not measured"
    assert "the file is damaged" in lab("claims", "experiments/claims").out


@pytest.mark.usefixtures("here")
def test_what_is_only_invalid_says_why(lab: Command) -> None:
    folder = store(ALL).cell("workers=1")
    told = {"outcome": Outcome.INVALID, "reasons": ("a busy machine",)}
    folder.finish(folder.read_verdict().model_copy(update=told))
    out = " ".join(lab("claims", "experiments/claims").out.split())
    assert "it is invalid in" in out
    assert "a busy machine" in out


@pytest.mark.usefixtures("here")
def test_a_dry_run_lists_what_is_missing_with_its_time(lab: Command) -> None:
    dry = "--dry-run", "--stack", "embedded"
    ended = lab("claims", "experiments/claims", *dry)
    assert ended.code == 0
    assert ended.out.startswith("few: 2 cells, about ")
    assert ended.out.splitlines()[-1].startswith("in all: 2 cells, about ")
    store({"workers=1": 100})
    [plan] = json.loads(lab("claims", "experiments/claims", *dry, "--json").out)
    assert plan["cells"] == ["workers=2"]
    store(ALL)
    assert lab("claims", "experiments/claims", "--run", *dry).out == "in all: 0 cells, about 0 s\n"


@pytest.mark.usefixtures("here")
def test_the_labs_own_are_meant_where_none_is_given(lab: Command) -> None:
    names = ledger_names(lab("claims", "--json").out)
    assert len(names) >= 28
    assert ledger_names(lab("claims", names[0], "--json").out) == names[:1]


def ledger_names(out: str) -> list[str]:
    return [claim.claim for claim in Ledger.model_validate_json(out).claims]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.yaml"], "none.yaml: no such file - check the path"),
        (["15-and-15-helps"], "15-and-15-helps: neither a file nor a claim of the lab - did you"),
        (["experiments"], "experiments/few.yaml:1:1: 'experiment' is not a key of a claim - known"),
        (["empty"], "empty: no claim is there - a claim is a YAML file, as `lab init` copies them"),
        (["--seed", "x"], "Invalid value for '--seed': 'x' is not a number in decimal digits"),
        (["--json", "--markdown"], "--markdown and --json exclude each other - leave one out"),
        (["--dry-run", "--markdown"], "--markdown and --dry-run exclude each other - leave one"),
    ],
)
def test_bad_input(lab: Command, here: Path, arguments: list[str], message: str) -> None:
    (here / "empty").mkdir()
    ended = lab("claims", *arguments)
    assert ended.code == 2
    assert the_line(ended.err).startswith(message)
    assert ended.out == ""


def test_a_spec_of_a_claim_that_is_wrong_is_named(lab: Command, here: Path) -> None:
    (here / "experiments" / "few.yaml").write_text(SPEC.replace("users: 5", "users: 0"))
    ended = lab("claims", "experiments/claims")
    assert ended.code == 2
    assert the_line(ended.err).startswith("experiments/few.yaml:5:15: 'users': 0 is out of bounds")


def test_specs_of_two_folders_are_not_taken_for_each_other(lab: Command, here: Path) -> None:
    other = here / "other" / "claims"
    other.mkdir(parents=True)
    (other.parent / "few.yaml").write_text(SPEC)
    (other / "it-holds.yaml").write_text(HOLDS)
    ended = lab("claims", "experiments/claims", "other/claims")
    assert ended.code == 2
    assert "two specs of that name are asked for, here and in experiments" in ended.err
