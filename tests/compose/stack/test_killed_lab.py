"""A lab on the compose stack that is killed, interrupted or ended by another: nothing is left."""

from __future__ import annotations

import random
import signal
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import docker
import psutil
import pytest

from lab.stack import cleanup
from tests import command
from tests.compose.stack.kill_ten import begin, kill_at, left, names
from tests.compose.stack.lookalikes import LookAlikes, lookalikes
from tests.live import wait_until

pytestmark = pytest.mark.compose

END_WITHIN_S = 60
"""Far more than an interrupted lab may take: a hang is noticed, a busy machine is not."""

LONG = command.SHORT.replace("window: 10 s", "window: 600 s")


@pytest.fixture(scope="module")
def others(client: docker.DockerClient) -> Iterator[LookAlikes]:
    with lookalikes(client, uuid.uuid4().hex[:8]) as made:
        yield made


def run(folder: Path) -> tuple[str | Path, ...]:
    return ("run", command.spec(folder, LONG), "--stack", "compose")


@pytest.mark.parametrize(("earliest", "latest"), [(0.5, 3), (3, 7), (7, 12)])
def test_a_lab_that_is_killed_leaves_nothing_after_the_next_down(
    client: docker.DockerClient, others: LookAlikes, tmp_path: Path, earliest: float, latest: float
) -> None:
    moment = random.uniform(earliest, latest)
    said = kill_at(moment, tmp_path)
    ended = command.lab("down", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert left(client, tmp_path / "results") == [], (moment, said)
    others.assert_untouched()


def test_a_lab_that_is_killed_with_its_guardian_leaves_nothing_after_the_next_run_began(
    client: docker.DockerClient, others: LookAlikes, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    with command.started(*run(tmp_path), cwd=tmp_path) as process:
        command.wait_for_line(process, "stack: compose")
        [(folder, mine)] = [
            each for each in cleanup.replicas() if each[1].results == str(results.resolve())
        ]
        wait_until(lambda: len(names(client, mine.id)) > 3)  # Compose is at it
        [guardian] = [
            child
            for child in psutil.Process(process.pid).children()
            if child.cmdline()[-2:] == ["lab.stack.cleanup", str(folder)]
        ]
        guardian.kill()
        process.kill()
        process.communicate()
    assert names(client, mine.id)
    begin(tmp_path)
    assert names(client, mine.id) == []
    assert left(client, results) == []
    others.assert_untouched()


def test_a_lab_that_is_interrupted_while_the_replica_starts_leaves_nothing(
    client: docker.DockerClient, others: LookAlikes, tmp_path: Path
) -> None:
    with command.started(*run(tmp_path), cwd=tmp_path) as process:
        command.wait_for_line(process, "[1/2]", "settings")
        assert left(client, tmp_path / "results")
        process.send_signal(signal.SIGINT)
        interrupted(process)
    assert left(client, tmp_path / "results") == []
    others.assert_untouched()


def interrupted(process: subprocess.Popen[str]) -> None:
    """Assert that a lab ends as one that was interrupted."""
    out, err = process.communicate(timeout=END_WITHIN_S)
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1].startswith("lab: interrupted: 0 of 2 cells are kept - go on with")


def test_a_run_that_is_going_on_is_left_alone_by_down_and_ends_its_own_when_interrupted(
    client: docker.DockerClient, others: LookAlikes, tmp_path: Path
) -> None:
    with command.started(*run(tmp_path), cwd=tmp_path) as process:
        command.wait_for_line(process, "[1/2]", "window")
        before = left(client, tmp_path / "results")
        ended = command.lab("down", cwd=tmp_path)
        assert ended.returncode == 0, ended.stderr
        last = ended.stderr.splitlines()[-1]
        assert last.startswith("left alone: the replica of a run that is going on (lab process")
        assert str(process.pid) in last
        assert sorted(left(client, tmp_path / "results")) == sorted(before)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        interrupted(process)
    assert left(client, tmp_path / "results") == []
    others.assert_untouched()
