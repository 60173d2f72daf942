"""Runs stored by an earlier lab are judged and reported as they were then, value by value.

Each archive under ``tests/fixtures/stored_runs`` is a run folder as it was written, verdicts
and answers included, without its logs. What is held is every outcome, metric, bound and
place in time; sentences may become better English.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from lab.capacity.runner import answers
from lab.judge import judge
from lab.model.run import as_json
from lab.paths import ROOT
from lab.store import CellFolder, RunFolder
from tests.cli_fixture import Command
from tests.cli_fixture import lab as lab

ARCHIVES = sorted((ROOT / "tests" / "fixtures" / "stored_runs").glob("*.tar.xz"))
CELLS = {
    "phase-2-gcs": 3,
    "phase-5-stress": 2,
    "scenario-3-cold-start": 3,
    "threshold": 6,
    "workers-x-pool": 12,
}
SENTENCES = {"reason", "reasons", "evidence", "text", "about"}
"""Keys of what people read; everything else is a value."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every stored run, unpacked, by its experiment."""
    folder = tmp_path_factory.mktemp("stored")
    unpacked = {}
    for archive in ARCHIVES:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
            unpacked[archive.name.removesuffix(".tar.xz")] = (
                folder / tar.getnames()[0].split("/")[0]
            )
    return unpacked


def values(data: Any) -> Any:
    """The same without its sentences."""
    if isinstance(data, dict):
        return {key: values(value) for key, value in data.items() if key not in SENTENCES}
    return [values(item) for item in data] if isinstance(data, list) else data


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_every_kind_of_run_is_among_them() -> None:
    assert {archive.name.removesuffix(".tar.xz") for archive in ARCHIVES} == set(CELLS)


@pytest.mark.parametrize("name", CELLS)
def test_every_stored_cell_is_judged_as_it_was(runs: dict[str, Path], name: str) -> None:
    folders = [file.parent for file in sorted((runs[name] / "cells").glob("*/verdict.json"))]
    judged = {}
    for path in folders:
        folder = CellFolder(path)
        judged[path.name] = json.loads(
            as_json(judge(folder.read_cell(), folder.read_observation()))
        )
    stored = {path.name: read(path / "verdict.json") for path in folders}
    assert len(judged) == CELLS[name]
    for cell in stored:
        assert values(judged[cell]) == values(stored[cell]), cell


def test_a_stored_search_gives_the_threshold_that_it_gave(runs: dict[str, Path]) -> None:
    run = RunFolder.open(runs["threshold"])
    stored = read(runs["threshold"] / "threshold.json")
    assert values(json.loads(as_json(answers(run)))) == values(stored)
    [threshold] = stored["cells"]
    assert (threshold["holds_at"], threshold["breaks_at"]) == (8, 10)


@pytest.mark.parametrize("name", CELLS)
def test_a_stored_run_is_reported_as_it_was(lab: Command, runs: dict[str, Path], name: str) -> None:
    stored = read(runs[name] / ("threshold.json" if name == "threshold" else "summary.json"))
    shown = lab("report", runs[name], "--json")
    assert shown.code == 0
    assert values(json.loads(shown.out)) == values(stored)
    for form in ((), ("--markdown",), ("--html",)):
        text = lab("report", runs[name], *form).out.replace("\\", "")
        for cell in stored["cells"]:
            assert cell["id"].split(",")[-1].split("=")[-1] in text
