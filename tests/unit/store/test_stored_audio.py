"""A stored run says which files it had, so that another default changes nothing of it."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from lab.paths import ROOT

ARCHIVES = sorted((ROOT / "tests" / "fixtures" / "stored_runs").glob("*.tar.xz"))


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda path: str(path.name))
def test_an_earlier_run_names_its_files_wherever_it_has_a_load(archive: Path) -> None:
    with tarfile.open(archive) as run:
        for member in run.getmembers():
            if not member.name.endswith(("run.json", "cell.json")):
                continue
            file = run.extractfile(member)
            assert file
            stored = json.load(file)
            load = stored.get("experiment", stored)["load"]
            assert load["audio"] in ("50 KB", "200 KB"), member.name
