"""Cloud Run on the embedded stack: instances are processes in cgroups of their own."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from lab.errors import MissingComponent, PartFailed
from lab.model import environment
from lab.stack import gateway
from lab.stack.embedded import EmbeddedStack
from tests.component.cloudrun.permitted import needs_cgroups
from tests.fakes import make_cell
from tests.live import upload, wait_until
from tests.live_cloudrun import STORIES, Service
from tests.replica.stack.test_ownership import folder, one_lab

__all__ = ["folder"]


@pytest.mark.replica
@needs_cgroups
@pytest.mark.parametrize("story", STORIES, ids=lambda story: str(story.__name__))
def test_on_cloud_run(stack: EmbeddedStack, story: Callable[[Service], None]) -> None:
    story(Service(stack))


def left_over(pid: int) -> list[str]:
    """Cgroups and temporary files of this front's instances."""
    roots = (Path("/sys/fs/cgroup"), Path("/dev/shm"))  # noqa: S108 - looked at, not written
    return [str(found) for root in roots for found in root.rglob(f"replica-lab-front-{pid}-*")]


@pytest.mark.replica
@needs_cgroups
@pytest.mark.parametrize("how", ["closed", "killed"])
def test_neither_a_front_nor_an_instance_nor_a_cgroup_is_left(folder: Path, how: str) -> None:
    with one_lab(folder, "embedded", "cloudrun") as lab:
        [pid] = lab.about["parts"]["front"]
        [instance] = psutil.Process(pid).children()
        assert left_over(pid)
        if how == "closed":
            lab.process.communicate("close\n", timeout=60)
            assert lab.process.returncode == 0
        else:
            lab.process.send_signal(signal.SIGKILL)
        wait_until(lambda: not lab.folder.exists())
        assert lab.left == []
        assert not instance.is_running()
        assert left_over(pid) == []


@pytest.mark.replica
@needs_cgroups
def test_a_front_that_is_killed_is_a_part_that_is_down_and_is_swept_up(
    stack: EmbeddedStack,
) -> None:
    cell = make_cell({"cloudrun_min_instances": 1}, target="cloudrun")
    stack.apply(cell)
    [pid] = stack.gateway.pids()
    os.kill(pid, signal.SIGKILL)
    wait_until(stack.down_parts)
    assert stack.down_parts()["front"].startswith("killed by SIGKILL")
    replica = stack.apply(cell)
    assert left_over(pid) == []
    assert stack.down_parts() == {}
    assert upload(replica.url).status_code == 200


@pytest.mark.replica
@needs_cgroups
def test_an_instance_that_does_not_start_is_told_with_its_reason(
    stack: EmbeddedStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRONT_COMMAND", '["/bin/sh", "-c", "exit 3"]')
    monkeypatch.setenv(environment.PASS, "FRONT_COMMAND")
    with pytest.raises(PartFailed, match="front did not come up: it ended before it listened"):
        stack.apply(make_cell({"cloudrun_min_instances": 1}, target="cloudrun"))


def test_where_nothing_can_be_limited_a_cell_is_refused_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = "front: an instance cannot be limited here: no cgroups - run as root"
    monkeypatch.setattr(gateway, "PROGRAM", ["/bin/sh", "-c", f"echo '{said}' >&2; exit 3"])
    with pytest.raises(MissingComponent) as caught:
        gateway.check(make_cell().knobs)
    assert (caught.value.what, caught.value.remedy) == (
        "an instance cannot be limited here: no cgroups",
        "run as root",
    )
