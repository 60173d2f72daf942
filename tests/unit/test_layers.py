"""The layers of the tests: a folder each, and nothing heavy where nothing is started."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lab.paths import ROOT

LAYERS = {"unit", "component", "browser", "replica", "compose", "statistics"}


def test_what_all_tests_share_starts_no_part_and_imports_none() -> None:
    program = "import sys, tests.conftest; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert not {"docker", "testcontainers", "lab.stack", "locust"} & set(done.stdout.split())


def test_every_test_is_in_a_layer() -> None:
    files = (ROOT / "tests").rglob("test_*.py")
    assert {file.relative_to(ROOT / "tests").parts[0] for file in files} == LAYERS


def test_a_test_is_marked_with_its_layer(request: pytest.FixtureRequest) -> None:
    assert [mark.name for mark in request.node.iter_markers() if mark.name in LAYERS] == ["unit"]
