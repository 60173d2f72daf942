"""Runs with a baseline, of which what is stored is damaged."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli_fixture import Command
from tests.component.cli.faked import Faked
from tests.fakes import FakeStack

pytestmark = pytest.mark.long

SPEC = """\
experiment: beside
knobs: {speed: 1, global_rate_limit: "off"}
matrix: {pool_size: [10, 20, 30]}
baseline: {pool_size: 10}
load: {users: 10, ramp: 0 s, warmup: 10 s, window: 60 s, audio: 50 KB}
criteria: [error_rate < 5 %, throughput > 0.5 x baseline]
"""


@pytest.fixture
def faked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faked[FakeStack]]:
    fakes = Faked(tmp_path, FakeStack(tmp_path / "fake"), SPEC)
    with fakes.wired(monkeypatch):
        yield fakes


def test_a_baseline_that_cannot_be_read_leaves_the_others_their_verdicts(
    lab: Command, faked: Faked[FakeStack]
) -> None:
    assert lab("run", faked.spec).code in (0, 4)
    verdict = faked.path / "cells" / "pool_size=10" / "verdict.json"
    moved = verdict.rename(faked.folder / "moved.json")
    verdict.symlink_to(moved)
    ended = lab("judge", "latest", "--json")
    assert ended.code == 4, ended.err
    summary = json.loads(ended.out)
    assert [cell["id"] for cell in summary["damaged"]] == ["pool_size=10"]
    assert [cell["id"] for cell in summary["cells"]] == ["pool_size=20", "pool_size=30"]
    for cell in summary["cells"]:
        assert "the baseline, pool_size=10, is damaged" in cell["findings"][1]["reason"]
        assert cell["against"]["why_not"] == "the baseline is damaged"
