"""The lab's notebooks, run from top to bottom by Jupyter's own kernel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lab.lessons import views
from lab.lessons.notebook import lesson_notebook
from lab.lessons.predict import held_against
from lab.paths import ROOT
from lab.report.notebooks import run_notebook
from tests.fakes.lesson_runs import kept, lesson, stored

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")


def executed(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The notebook with what its cells gave; it fails where one of them does."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    document = nbformat.reads(text, as_version=4)
    nbformat.validate(document)
    resources = {"metadata": {"path": str(folder)}}
    client = nbclient.NotebookClient(document, timeout=120, resources=resources)
    return client.execute()


def outputs(document: Any) -> str:
    return json.dumps([cell.get("outputs", []) for cell in document["cells"]])


def test_a_runs_notebook_loads_it_and_shows_its_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, result = lesson("limits"), kept()["limits"]["before"]
    run = stored(tmp_path / "results", folder.cell, result)
    told = outputs(executed(run_notebook(run.path.name, "limits"), tmp_path, monkeypatch))
    assert str(result.metrics["throughput"]) in told


def test_a_lessons_notebook_asks_measures_and_explains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a kept run in the place of what ``lab learn`` measures."""
    folder, result = lesson("async-def"), kept()["async-def"]["before"]
    run = stored(tmp_path / "results", folder.cell, result)
    parts = views.after_run(folder, result, held_against(folder, "B", result))
    told = {"run": str(run.path), "parts": [part.as_json() for part in parts]}
    (tmp_path / "told.json").write_text(json.dumps(told))
    lab = tmp_path / "python"
    lab.write_text('#!/bin/sh\necho "$@" >> asked.txt\ncat told.json\n')
    lab.chmod(0o755)
    text = lesson_notebook(folder)
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="answer first"):
        executed(text, tmp_path, monkeypatch)
    document = json.loads(text)
    for cell in document["cells"]:
        if cell["source"].startswith("ANSWER"):
            cell["source"] = 'ANSWER = "B"'
        cell["source"] = cell["source"].replace(
            "import sys\n", f"import sys\nsys.executable = {str(lab)!r}\n"
        )
        cell["source"] = cell["source"].replace("CHANGE = []", 'CHANGE = ["--set", "workers=2"]')
    shown = outputs(executed(json.dumps(document), tmp_path, monkeypatch))
    assert "You expected **B**" in shown
    assert str(result.metrics["p50"]) in shown
    asked = (tmp_path / "asked.txt").read_text().splitlines()
    assert asked == [
        "-m lab learn 3 --json --answer B --again",
        "-m lab learn 3 --json --check --set workers=2",
    ]
