"""Labs that share an engine, with each other and with others: each ends its own alone."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import docker
import psutil
import pytest
from docker.types import IPAMConfig, IPAMPool

from lab.errors import MachineError
from lab.model.experiment import Cell
from lab.stack import cleanup, ownership
from lab.stack.compose import images, project, resources
from lab.stack.compose.resources import ID_LABEL, OWNER_LABEL
from lab.stack.compose.stack import ComposeStack
from lab.stack.ownership import Ownership
from tests.compose.stack.lookalikes import LookAlikes, lookalikes
from tests.fakes import make_cell
from tests.live import causes, left_behind, upload, uploads

pytestmark = pytest.mark.compose

CELL: Cell = make_cell({"speed": 20, "global_rate_limit": "off"})


def left(client: docker.DockerClient, replica: str) -> list[str]:
    """The names of all that the engine has of a replica."""
    mine = {"label": f"{ID_LABEL}={replica}"}
    found = [
        *client.containers.list(all=True, filters=mine),
        *client.networks.list(filters=mine),
        *client.volumes.list(filters=mine),
    ]
    return [each.name for each in found]


@pytest.fixture(scope="module")
def others(client: docker.DockerClient) -> Iterator[LookAlikes]:
    with lookalikes(client, uuid.uuid4().hex[:8]) as made:
        yield made


def test_two_labs_do_not_disturb_each_other_and_each_ends_its_own(
    client: docker.DockerClient, contained: ComposeStack, others: LookAlikes, tmp_path: Path
) -> None:
    here = contained.apply(CELL)
    other = ComposeStack(tmp_path)
    try:
        there = other.apply(CELL)
        uploads(here.url, 3)
        uploads(there.url, 2)
        assert (left_behind(here), left_behind(there)) == ((3, 3), (2, 2))
        contained.apply(CELL)
        assert (left_behind(here), left_behind(there)) == ((0, 0), (2, 2))
        other.inject_fault("nginx", "kill")
        assert contained.down_parts() == {}
        assert left(client, other.ownership.id)
    finally:
        other.close()
    other.close()  # safe to call twice
    assert left(client, other.ownership.id) == []
    assert not other.folder.exists()
    assert contained.down_parts() == {}
    assert causes([upload(here.url)]) == {"ok": 1}
    others.assert_untouched()


def ended_owner(results: Path) -> Ownership:
    """A lab that was killed; its folder is gone too, as after a reboot."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    created = psutil.Process(process.pid).create_time()
    process.wait()
    folder, mine = ownership.claim(results, stack="compose")
    ownership.remove(folder, mine)
    return replace(mine, pid=process.pid, created=created)


def made(client: docker.DockerClient, mine: Ownership) -> None:
    """A container that runs, a network and a volume of a replica."""
    labels = {ID_LABEL: mine.id, OWNER_LABEL: json.dumps(asdict(mine))}
    prefix = project.free_prefix(project.taken_subnets(client))
    pool = IPAMConfig(pool_configs=[IPAMPool(subnet=f"{prefix}.0/28")])
    network = client.networks.create(f"{mine.id}_near", ipam=pool, labels=labels)
    client.volumes.create(f"{mine.id}_spool", labels=labels)
    client.containers.run(
        images.tags()["LAB_BACKEND_IMAGE"],
        ["python", "-ISc", "import time; time.sleep(600)"],
        labels=labels,
        network=network.name,
        volumes=[f"{mine.id}_spool:/tmp"],
        detach=True,
    )


def test_what_a_killed_lab_left_is_ended_by_its_label_and_nothing_else(
    client: docker.DockerClient, others: LookAlikes, tmp_path: Path
) -> None:
    gone = ended_owner(tmp_path)
    alive = replace(gone, id=f"{gone.id}a", pid=psutil.Process().pid)
    alive = replace(alive, created=psutil.Process().create_time())
    made(client, gone)
    made(client, alive)
    try:
        assert len(left(client, gone.id)) == 3
        assert cleanup.end_abandoned() >= 1
        assert left(client, gone.id) == []
        assert len(left(client, alive.id)) == 3
    finally:
        assert resources.remove(client, alive.id) == 3
    others.assert_untouched()


def test_several_may_remove_the_same_replica_at_once(
    client: docker.DockerClient, tmp_path: Path
) -> None:
    gone = ended_owner(tmp_path)
    made(client, gone)
    with ThreadPoolExecutor() as pool:
        for each in [pool.submit(resources.remove, client, gone.id) for _ in range(3)]:
            each.result()
    assert left(client, gone.id) == []


def test_networks_that_others_took_meanwhile_are_chosen_anew(
    client: docker.DockerClient,
    contained: ComposeStack,
    others: LookAlikes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    contained.apply(CELL)
    same = contained.project.place.net_prefix
    part = str(others.networks[0].attrs["IPAM"]["Config"][0]["Subnet"]).rpartition(".")[0]
    free = project.free_prefix(project.taken_subnets(client))
    prefixes = iter([same, part, free])
    monkeypatch.setattr(project, "free_prefix", lambda _taken: next(prefixes))
    other = ComposeStack(tmp_path)
    try:
        there = other.apply(CELL)
        assert other.project.place.net_prefix == free
        assert causes([upload(there.url)]) == {"ok": 1}
    finally:
        other.close()
    assert contained.down_parts() == {}


def test_what_cannot_be_removed_is_named_with_its_remedy(
    client: docker.DockerClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "REMOVE_WITHIN_S", 0.0)
    gone = ended_owner(tmp_path)
    volume = client.volumes.create(f"{gone.id}_spool", labels={ID_LABEL: gone.id})
    user = client.containers.create(
        images.tags()["LAB_BACKEND_IMAGE"], volumes=[f"{volume.name}:/tmp"]
    )
    try:
        with pytest.raises(MachineError, match=rf"still has {volume.name}: .* in use.* - remove"):
            resources.remove(client, gone.id)
    finally:
        user.remove()
        volume.remove()


@pytest.mark.usefixtures("client")
def test_an_engine_that_is_lost_is_told() -> None:
    away = docker.DockerClient("tcp://127.0.0.1:1", version="1.41")
    with pytest.raises(MachineError, match=r"the Docker engine did not remove .* `docker info`"):
        resources.remove(away, "replica-lab-nosuch")
    with pytest.raises(MachineError, match=r"the Docker engine did not list what it has"):
        list(resources.ownerships(away))
