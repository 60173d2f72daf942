"""``lab run --dry-run``: the cells and the time they will take; nothing is started."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lab import doctor
from lab.config import read_experiment, read_faults
from lab.model.costs import TrialCost
from lab.model.run import RunRequest
from lab.paths import ROOT
from lab.plan import expand
from lab.stack import ownership
from lab.store import RunFolder
from lab.store.costs import CostKey, CostStore, cache_folder
from tests import command
from tests.cli_fixture import Command
from tests.fakes import sample_run as sample


def test_a_dry_run_tells_the_cells_and_starts_nothing(
    lab: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = command.spec(tmp_path)
    before = {folder for folder, _ in ownership.replicas()}
    ended = lab("run", file, "--dry-run")
    assert (ended.code, ended.err) == (0, "")
    head, *cells = ended.out.splitlines()
    assert head.startswith("short: 2 cells, about ")
    assert cells == [
        line for cell in ("workers=1", "workers=2") for line in (f"  {cell}", "    speed 5, given")
    ]
    [plan] = json.loads(lab("run", file, "--dry-run", "--json").out)
    assert plan["cells"] == ["workers=1", "workers=2"]
    assert plan["estimate_s"] > 0
    assert plan["undecidable"] == []
    assert [entry.name for entry in tmp_path.iterdir()] == ["spec.yaml"]
    assert {folder for folder, _ in ownership.replicas()} <= before


def test_a_dry_run_tells_which_criterion_the_load_cannot_decide(
    lab: Command, tmp_path: Path
) -> None:
    text = "experiment: e\nload: {burst: 40}\ncriteria: [p99 < 10 s, error_rate < 20 %]\n"
    file = command.spec(tmp_path, text)
    ended = lab("run", file, "--dry-run")
    why = "p99 < 10 s cannot be shown to hold: about 40 uploads count at most, and it takes 299"
    assert (ended.code, ended.err) == (0, "")
    [line] = [line for line in ended.out.splitlines() if why in line]
    [plan] = json.loads(lab("run", file, "--dry-run", "--json").out)
    assert plan["undecidable"] == [f"e: {line.strip()}"]


def test_a_dry_run_tells_what_keeps_a_window_whole(lab: Command, tmp_path: Path) -> None:
    text = "experiment: e\nload: {users: 40, window: 10 min}\nstop_when_decided: true\n"
    whole = command.spec(tmp_path, f"{text}criteria: [throughput > 1/s, error_rate < 5 %]\n")
    why = "e: never stops early: 'throughput > 1/s' is no claim about a share of uploads"
    ended = lab("run", whole, "--dry-run")
    assert (ended.code, ended.err) == (0, "")
    assert f"e: {ended.out.splitlines()[-1].strip()}" == why
    [plan] = json.loads(lab("run", whole, "--dry-run", "--json").out)
    assert plan["never_early"] == [why]
    [plan] = json.loads(lab("run", command.spec(tmp_path, text), "--dry-run", "--json").out)
    assert plan["never_early"] == []


def test_a_dry_run_tells_which_knob_has_no_effect(lab: Command, tmp_path: Path) -> None:
    text = "experiment: e\nload: {users: 40}\nknobs: {gcs_threads: 9}\n"
    file = command.spec(tmp_path, text)
    storage = "gcs_threads has no effect: its threads are those of gcs_call: executor"
    leak = "leak_every has no effect: leak is off"
    ended = lab("run", file, "--set", "leak_every=3", "--dry-run")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[-2:] == [storage, leak]
    [plan] = json.loads(lab("run", file, "--set", "leak_every=3", "--dry-run", "--json").out)
    assert plan["without_effect"] == [storage, leak]
    ended = lab("threshold", file, "--dry-run")
    assert ended.out.splitlines()[-1] == storage
    assert json.loads(lab("threshold", file, "--dry-run", "--json").out)["without_effect"] == [
        storage
    ]


AUTO = "experiment: e\nmatrix: {workers: [1, 2]}\nload: {users: 30, window: 5 min}\n"


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known of this machine."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.usefixtures("own_cache")
def test_a_dry_run_tells_that_it_will_be_measured_what_an_upload_costs(
    lab: Command, tmp_path: Path
) -> None:
    file = command.spec(tmp_path, AUTO)
    ended = lab("run", file, "--stack", "embedded", "--dry-run")
    wait = "    speed auto, chosen once it is measured what an upload costs here"
    assert ended.out.splitlines()[1:] == ["  workers=1", wait, "  workers=2", wait]
    [plan] = json.loads(lab("run", file, "--dry-run", "--json").out)
    assert [speed["speed"] for speed in plan["speeds"]] == [None, None]
    ended = lab("threshold", file, "--stack", "embedded", "--dry-run")
    assert wait.strip() in ended.out
    assert not (tmp_path / "cache").exists()


@pytest.mark.usefixtures("own_cache")
def test_a_dry_run_tells_the_speeds_that_would_be_chosen_and_why(
    lab: Command, tmp_path: Path
) -> None:
    file = command.spec(tmp_path, AUTO)
    unknown = json.loads(lab("run", file, "--stack", "embedded", "--dry-run", "--json").out)[0]
    _know("embedded")
    embedded = ("--stack", "embedded", "--dry-run")
    lines = lab("run", file, *embedded).out.splitlines()
    split = "2 workers of one socket would share more evenly at 3.5, and latency be 6 % off"
    assert lines[4] == f"    speed 3, chosen: {split}"
    [plan] = json.loads(lab("run", file, *embedded, "--json").out)
    one, two = plan["speeds"]
    assert one["speed"] > 3
    assert two == {"cell": "workers=2", "speed": 3, "reason": f"chosen: {split}"}
    assert plan["estimate_s"] != unknown["estimate_s"]
    [slow] = json.loads(lab("run", file, *embedded, "--json", "--most-speed", "2").out)
    assert [speed["speed"] for speed in slow["speeds"]] == [2, 2]
    [given] = json.loads(lab("run", file, *embedded, "--json", "--speed", "6").out)
    assert {speed["reason"] for speed in given["speeds"]} == {"given"}
    assert lab("threshold", file, *embedded).out.count(", chosen: ") == 2
    shown = lab("doctor").out
    assert "ok    costs, embedded    of 1 trial, the newest less than a minute old, in " in shown
    assert "-     costs, compose     not known here: measured before the first cell" in shown


def _know(stack: str) -> None:
    """A trial is kept of this machine."""
    key = CostKey(machine=doctor.processor(), stack=stack, versions=doctor.versions({"a": "1"}))
    cost = TrialCost(
        workers=1,
        uploads=100,
        size=50_000,
        wall_s=0.05,
        cpu_s={"backend": 0.005, "generator": 0.0005},
        machine_s=0.0055 / (os.cpu_count() or 1),
        trip_s=0.0005,
    )
    CostStore(key, cache_folder(), print).add([cost])


@pytest.mark.usefixtures("own_cache")
def test_the_doctor_names_a_file_of_costs_that_is_damaged(lab: Command) -> None:
    _know("embedded")
    [file] = cache_folder().iterdir()
    file.write_text("{")
    ended = lab("doctor")
    assert f"-     costs              {file}:1: the file is damaged: " in ended.out
    assert " - the next run that needs it writes it anew; or remove it" in ended.out


def test_a_dry_run_tells_which_cells_were_chosen_and_how_often_each_is_tried(
    lab: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REPLICA_LAB_RETRIES")
    file = command.spec(tmp_path)
    [plan] = json.loads(lab("run", file, "--dry-run", "--json").out)
    assert (plan["only"], plan["retries"]) == ([], 2)
    chosen = ("--only", "workers=[29]", "--only", "workers=2", "--retries", "1")
    ended = lab("run", file, "--dry-run", *chosen)
    head, *cells = ended.out.splitlines()
    assert head.startswith("short: 1 cell (only workers=[29], workers=2), about ")
    assert head.endswith(" s; each again up to 1 time, if something disturbs it")
    assert cells == ["  workers=2", "    speed 5, given"]
    [plan] = json.loads(lab("run", file, "--dry-run", "--json", *chosen).out)
    assert plan["cells"] == ["workers=2"]
    assert (plan["only"], plan["retries"]) == (["workers=[29]", "workers=2"], 1)
    assert "again" not in lab("run", file, "--dry-run", "--retries", "0").out


def test_of_several_specs_those_without_a_chosen_cell_are_left_out(
    lab: Command, tmp_path: Path
) -> None:
    one = command.spec(tmp_path)
    two = tmp_path / "two.yaml"
    two.write_text("experiment: two\nload: {users: 3}\nmatrix: {db_cap: [20, 25]}\n")
    ended = lab("run", one, two, "--only", "db_cap=2?", "--dry-run")
    named = [line for line in ended.out.splitlines() if not line.startswith("    ")]
    assert [line.split(":")[0] for line in named] == ["two", "  db_cap=20", "  db_cap=25"]


def test_a_run_that_goes_on_plans_what_is_missing_or_invalid(lab: Command, tmp_path: Path) -> None:
    run = sample.create(tmp_path, sample.cells()[:4])
    held, busy, *missing = run.cells()
    sample.measure(run, held)
    sample.measure(run, busy, sample.disturbed(busy))
    resume = ("run", "--resume", "latest", "--results", tmp_path, "--dry-run", "--json")
    [plan] = json.loads(lab(*resume).out)
    assert plan["cells"] == [busy.id, *(cell.id for cell in missing)]
    [plan] = json.loads(lab(*resume, "--only", busy.id).out)
    assert plan["cells"] == [busy.id]
    [plan] = json.loads(lab(*resume, "--only", held.id).out)
    assert plan["cells"] == []
    for cell in missing:
        sample.measure(run, cell)
    sample.measure_again(run, busy)
    [plan] = json.loads(lab(*resume).out)
    assert (plan["cells"], plan["estimate_s"]) == ([], 0)


def test_a_run_of_chosen_cells_goes_on_with_its_spec_and_them(lab: Command, tmp_path: Path) -> None:
    file, at = command.spec(tmp_path), ("--results", tmp_path)
    experiment = read_experiment(file, read_faults(ROOT / "faults"))
    request = RunRequest(
        started=datetime.now(UTC),
        spec_file=str(file),
        experiment=experiment,
        stack="embedded",
        stack_reason="asked for",
        speed=5,
        only=("workers=2",),
    )
    run = RunFolder.create(tmp_path, expand(experiment, read_faults(ROOT / "faults"))[1:], request)
    for spec in ((), (file,)):
        [plan] = json.loads(lab("run", *spec, "--resume", run.path, *at, "--dry-run", "--json").out)
        assert plan["cells"] == ["workers=2"]


def test_a_baseline_that_is_left_out_is_told(lab: Command, tmp_path: Path) -> None:
    text = (
        "experiment: e\nmatrix: {workers: [1, 2, 4]}\nbaseline: {workers: 1}\n"
        "load: {users: 5, window: 60 s}\ncriteria: [p95 < 10 s, throughput > 1.8 x baseline]\n"
    )
    file = command.spec(tmp_path, text)
    note = "the baseline workers=1 is left out, so nothing is compared with it"
    assert note in lab("run", file, "--dry-run", "--only", "workers=[24]").out
    assert note not in lab("run", file, "--dry-run", "--only", "workers=[12]").out
