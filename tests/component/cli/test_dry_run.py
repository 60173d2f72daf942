"""``lab run --dry-run``: the cells and the time they will take; nothing is started."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab.stack import ownership
from tests import command
from tests.cli_fixture import Command


def test_a_dry_run_tells_the_cells_and_starts_nothing(
    lab: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = command.spec(tmp_path)
    before = {folder for folder, _ in ownership.replicas()}
    ended = lab("run", file, "--dry-run")
    assert (ended.code, ended.err) == (0, "")
    head, *cells = ended.out.splitlines()
    assert head.startswith("short: 2 cells, about 0:")
    assert cells == ["  workers=1", "  workers=2"]
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
    assert plan["undecidable"] == [line.strip()]


def test_a_dry_run_tells_what_keeps_a_window_whole(lab: Command, tmp_path: Path) -> None:
    text = "experiment: e\nload: {users: 40, window: 10 min}\nstop_when_decided: true\n"
    whole = command.spec(tmp_path, f"{text}criteria: [throughput > 1/s, error_rate < 5 %]\n")
    why = "e: never stops early: 'throughput > 1/s' is no claim about a share of uploads"
    ended = lab("run", whole, "--dry-run")
    assert (ended.code, ended.err) == (0, "")
    assert [line.strip() for line in ended.out.splitlines()[1:]] == ["e", why]
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
