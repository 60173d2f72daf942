"""What holds the containers in, tried out on a real replica; and nothing is left of it."""

from __future__ import annotations

import docker
import pytest

from lab.errors import PartFailed
from lab.model.replica import services
from lab.stack.compose.confinement import NO_NETWORK, ContainerConfinement, connects
from lab.stack.compose.confinement import running as running_container
from lab.stack.compose.stack import ComposeStack
from tests.fakes import make_cell

pytestmark = pytest.mark.compose


@pytest.fixture(scope="module")
def confinement(contained: ComposeStack) -> ContainerConfinement:
    """Of a replica whose backend has one core and 128 MiB."""
    contained.apply(make_cell({"vm_cpus": 1, "vm_memory": "128 MiB"}))
    return contained.confinement


def test_busy_loops_get_no_more_than_the_quota(confinement: ContainerConfinement) -> None:
    if confinement.cores == 1:
        pytest.skip("a quota of one core is all that this machine has")
    cores, _ = confinement.busy(1.0)
    assert 0 < cores < 1.15  # a period of 100 ms more


@pytest.mark.parametrize(("share", "killed"), [(0.5, False), (0.85, False), (1.1, True), (4, True)])
def test_memory_beyond_the_limit_kills(
    confinement: ContainerConfinement, share: float, killed: bool
) -> None:
    assert confinement.killed_for_memory(share) is killed


def test_only_a_container_that_may_reaches_outside(confinement: ContainerConfinement) -> None:
    reached = confinement.reached()
    assert reached, "the engine must run on this machine"
    assert reached.control
    assert reached.by_part == dict.fromkeys(services("vm"), False)


def test_it_takes_no_part_down_and_leaves_nothing(
    contained: ComposeStack, confinement: ContainerConfinement, client: docker.DockerClient
) -> None:
    confinement.killed_for_memory(1.1)
    confinement.reached()
    assert contained.down_parts() == {}
    mine = {"label": [f"{name}={value}" for name, value in contained.project.labels.items()]}
    assert len(client.containers.list(all=True, filters=mine)) == len(services("vm"))
    assert len(client.networks.list(filters=mine)) == 3


@pytest.mark.usefixtures("contained")
def test_a_probe_is_as_confined_as_a_part(client: docker.DockerClient) -> None:
    labels = {"replica-lab.test": "probe"}
    with running_container(client, "input()", labels=labels) as running:
        running.reload()
        host = running.attrs["HostConfig"]
        assert (host["CapDrop"], host["ReadonlyRootfs"], host["Init"]) == (["ALL"], True, True)
        assert host["SecurityOpt"] == ["no-new-privileges:true"]
        assert host["Memory"] == host["MemorySwap"] > 0
        assert running.attrs["Config"]["Labels"].items() >= labels.items()
        assert client.containers.list(all=True, filters={"label": "replica-lab.test=probe"})
    assert not client.containers.list(all=True, filters={"label": "replica-lab.test=probe"})


def test_a_probe_that_fails_in_another_way_is_no_wall(
    client: docker.DockerClient,
) -> None:
    with pytest.raises(PartFailed, match=r"a probe exited \(1\): .*ValueError"):
        connects(client, NO_NETWORK, "127.0.0.1", "none", {})  # type: ignore[arg-type]
