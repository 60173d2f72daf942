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

from lab.archives import unpack
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

SINCE, AT, USERS = (
    ".course.crossings[0].since_users",
    ".course.crossings[0].users",
    ".course.failures[0].users",
)
CPU, CPU_MAX, LEVEL = (
    ".metrics.cpu_backend",
    ".metrics.cpu_worker_max",
    ".limit.candidates.cpu.level",
)

MENDED = {
    ("scenario-3-cold-start", "case=3-instances"): {
        SINCE: "1 is 50",
        AT: "20 is 50",
        USERS: "2 is 50",
        CPU: "0.030559 is 0.217447",
        CPU_MAX: "0.010344 is 0.073323",
        LEVEL: "0.020688 is 0.146646",
    },
    ("scenario-3-cold-start", "case=as-found"): {
        SINCE: "4 is 50",
        AT: "20 is 50",
        USERS: "4 is 50",
        CPU: "0.007914 is 0.055628",
        CPU_MAX: "0.007914 is 0.055628",
        LEVEL: "0.015828 is 0.111256",
    },
    ("scenario-3-cold-start", "case=kept-warm"): {
        SINCE: "1 is 50",
        AT: "20 is 50",
        USERS: "1 is 50",
    },
    ("workers-x-pool", "workers=1,pool=10+10,db_session=hold"): {USERS: "0 is 1"},
}
"""By run and cell, what an earlier lab told wrongly, by place: then and now.

An upload's sender is one of the users that there were when it was sent, and so are all of a
burst. An instance that was started in the window has used all of its CPU since.
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every stored run, unpacked, by its experiment."""
    folder = tmp_path_factory.mktemp("stored")
    unpacked = {}
    for archive in ARCHIVES:
        with tarfile.open(archive) as tar:
            unpack(tar, folder)
            unpacked[archive.name.removesuffix(".tar.xz")] = (
                folder / tar.getnames()[0].split("/")[0]
            )
    return unpacked


def differences(stored: Any, now: Any, place: str = "") -> list[str]:
    """Where a value is not what it was; what was not known then may stand beside it now."""
    if isinstance(stored, dict) and isinstance(now, dict):
        return [
            line
            for key in stored.keys() - SENTENCES
            for line in differences(stored[key], now.get(key, "nothing"), f"{place}.{key}")
        ]
    if isinstance(stored, list) and isinstance(now, list):
        if stored and isinstance(stored[0], dict) and "resource" in stored[0]:
            stored = [item for item in stored if item["level"]]  # a queue that is not there is gone
            stored, now = ({item["resource"]: item for item in side} for side in (stored, now))
            return differences(stored, now, place)
        if len(stored) == len(now):
            pairs = enumerate(zip(stored, now, strict=True))
            return [line for n, (a, b) in pairs for line in differences(a, b, f"{place}[{n}]")]
    return [] if stored == now else [f"{place}: {stored} is {now} now"]


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_value_that_is_not_what_it_was_is_noticed() -> None:
    pool = {"resource": "pool", "level": 0.5}
    stored = {"p95": 2.0, "reason": "then", "candidates": [pool]}
    now = {"p95": 2.0, "reason": "now", "candidates": [{"resource": "cpu"}, pool], "new": 1}
    assert differences(stored, now) == []
    changes: list[dict[str, Any]] = [
        {"p95": 2.1},
        {"candidates": []},
        {"candidates": [{**pool, "level": 0.6}]},
    ]
    for change in changes:
        assert len(differences(stored, now | change)) == 1
    assert len(differences(stored, {})) == 2


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
        mended = [f"{place}: {what} now" for place, what in MENDED.get((name, cell), {}).items()]
        assert sorted(differences(stored[cell], judged[cell])) == sorted(mended), cell


def test_a_stored_search_gives_the_threshold_that_it_gave(runs: dict[str, Path]) -> None:
    run = RunFolder.open(runs["threshold"])
    stored = read(runs["threshold"] / "threshold.json")
    assert differences(stored, json.loads(as_json(answers(run)))) == []
    [threshold] = stored["cells"]
    assert (threshold["holds_at"], threshold["breaks_at"]) == (8, 10)


@pytest.mark.parametrize("name", CELLS)
def test_a_stored_run_is_reported_as_it_was(lab: Command, runs: dict[str, Path], name: str) -> None:
    stored = read(runs[name] / ("threshold.json" if name == "threshold" else "summary.json"))
    shown = lab("report", runs[name], "--json")
    assert shown.code == 0
    assert differences(stored, json.loads(shown.out)) == []
    for form in ((), ("--markdown",), ("--html",)):
        text = lab("report", runs[name], *form).out.replace("\\", "")
        for cell in stored["cells"]:
            assert cell["id"].split(",")[-1].split("=")[-1] in text
