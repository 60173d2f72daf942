"""Cloud Run on the Compose stack: instances are containers, made from the Compose file."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import psutil
import pytest

from lab.errors import MissingComponent
from lab.stack.compose import engine, resources
from lab.stack.compose.stack import ComposeStack
from tests.fakes import make_cell
from tests.live import upload, wait_until
from tests.live_cloudrun import STORIES, Service
from tests.replica.stack.test_ownership import folder, one_lab

__all__ = ["folder"]

WARM = make_cell({"cloudrun_min_instances": 1}, target="cloudrun")


@pytest.fixture(scope="module")
def stack(
    client: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ComposeStack]:
    opened = ComposeStack(tmp_path_factory.mktemp("results"))
    yield opened
    opened.close()
    assert resources.containers(client, opened.ownership.id) == []


@pytest.mark.compose
@pytest.mark.parametrize("story", STORIES, ids=lambda story: str(story.__name__))
def test_on_cloud_run(stack: ComposeStack, story: Callable[[Service], None]) -> None:
    story(Service(stack))


@pytest.mark.compose
def test_an_instance_is_confined_and_carries_the_replicas_labels(stack: ComposeStack) -> None:
    replica = stack.apply(WARM)
    [(name, container)] = stack.project.instances().items()
    assert name == "instance-1"
    assert container.labels[resources.ID_LABEL] == stack.ownership.id
    assert container.labels[resources.OWNER_LABEL] == stack.project.place.owner
    assert list(container.attrs["NetworkSettings"]["Networks"]) == [f"{stack.ownership.id}_near"]
    host = container.attrs["HostConfig"]
    limit = WARM.knobs.cloudrun_memory
    assert (host["Memory"], host["MemorySwap"], host["CpuQuota"]) == (limit, limit, 50_000)
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert set(host["Tmpfs"]) == {"/tmp"}  # noqa: S108 - the container's own
    assert "docker.sock" not in str(container.attrs)
    assert upload(replica.url, size=2_000_000).status_code == 200  # spools to its own memory


@pytest.mark.compose
@pytest.mark.parametrize("how", ["closed", "killed"])
def test_neither_a_front_nor_an_instance_nor_a_container_is_left(
    client: docker.DockerClient, folder: Path, how: str
) -> None:
    with one_lab(folder, "compose", "cloudrun") as lab:
        [front] = map(psutil.Process, lab.about["parts"]["front"])
        # Postgres, storage, speech, Toxiproxy, and an instance.
        assert len(resources.containers(client, lab.about["id"])) == 5
        if how == "closed":
            lab.process.communicate("close\n", timeout=60)
            assert lab.process.returncode == 0
        else:
            lab.process.send_signal(signal.SIGKILL)
        wait_until(lambda: not lab.folder.exists(), within=60)
        assert not front.is_running()
        assert resources.containers(client, lab.about["id"]) == []


@pytest.mark.compose
def test_a_front_that_is_killed_is_a_part_that_is_down_and_its_instances_are_removed(
    stack: ComposeStack,
) -> None:
    stack.apply(WARM)
    [pid] = stack.gateway.pids()
    [first] = stack.project.instances().values()
    os.kill(pid, signal.SIGKILL)
    wait_until(stack.down_parts)
    assert stack.down_parts()["front"].startswith("killed by SIGKILL")
    replica = stack.apply(WARM)
    assert first.id not in {each.id for each in stack.project.instances().values()}
    assert stack.down_parts() == {}
    assert upload(replica.url).status_code == 200


class Unlimited:
    """An engine whose kernel was booted without swap accounting."""

    def info(self) -> dict[str, bool]:
        return {"MemoryLimit": True, "SwapLimit": False, "CpuCfsQuota": True}


def test_an_engine_that_cannot_limit_is_refused_with_the_remedy() -> None:
    with pytest.raises(MissingComponent, match=r"the engine limits no swap - boot the kernel with"):
        engine.require_limits(Unlimited())
