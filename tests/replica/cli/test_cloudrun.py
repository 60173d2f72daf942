"""The command on Cloud Run: a replica kept up by hand, and both targets in one run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests import command
from tests.component.cloudrun.permitted import needs_cgroups
from tests.live import upload

pytestmark = [pytest.mark.replica, needs_cgroups]

BOTH = """\
experiment: both
about: do two uploads get through on either?
knobs: {speed: 1}
matrix: {target: [vm, cloudrun]}
load: {burst: 2, audio: 20 KB}
faults: []
criteria: [error_rate < 50 %]
"""


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a replica on Cloud Run that is up."""
    folder = tmp_path_factory.mktemp("up")
    ended = command.lab("up", "--target", "cloudrun", "--no-faults", cwd=folder)
    assert ended.returncode == 0, ended.stderr
    left = command.Leftovers(folder / "results")
    yield folder
    assert command.lab("down", cwd=folder).returncode == 0
    left.assert_nothing_left()


def record(folder: Path) -> dict[str, Any]:
    [found] = json.loads(command.lab("status", "--json", cwd=folder).stdout)
    return dict(found)


def test_a_replica_on_cloud_run_stays_up_and_takes_uploads(up: Path) -> None:
    found = record(up)
    assert (found["target"], found["down"]) == ("cloudrun", [])
    assert set(found["parts"]) == {"postgres", "fake-gcs-server", "speech", "toxiproxy", "front"}
    assert upload(found["url"]).status_code == 200
    shown = command.lab("status", cwd=up).stdout.splitlines()
    assert shown[1].split() == ["target", "cloudrun"]
    assert shown[-1] == "all parts are running"


def test_a_front_that_is_stopped_is_shown(up: Path) -> None:
    front = psutil.Process(record(up)["parts"]["front"])
    front.suspend()
    stopped = command.lab("status", cwd=up)
    front.resume()
    assert (stopped.returncode, stopped.stdout.splitlines()[-1]) == (3, "DOWN: front")


def test_one_run_measures_both_targets_and_says_so(tmp_path: Path) -> None:
    ended = command.lab("run", command.spec(tmp_path, BOTH), cwd=tmp_path)
    assert ended.returncode in (0, 4), ended.stderr
    assert ended.stderr.splitlines()[1] == "target: vm and cloudrun"
    run = (tmp_path / "results" / "latest").resolve()
    cells = json.loads((run / "summary.json").read_text())["cells"]
    assert [(cell["id"], cell["target"]) for cell in cells] == [
        ("target=vm", "vm"),
        ("target=cloudrun", "cloudrun"),
    ]
    assert all(cell["metrics"]["succeeded"] == 2 for cell in cells)
    logs = {log.name for log in (run / "cells" / "target=cloudrun" / "logs").iterdir()}
    assert {"front.log", "front.jsonl", "instance-1.log"} <= logs
    assert not {"backend.log", "nginx.log"} & logs
