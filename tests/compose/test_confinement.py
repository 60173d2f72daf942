"""What holds the containers in, tried out on a real replica; and nothing is left of it."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

import docker
import pytest

from lab.errors import PartFailed
from lab.model.replica import services
from lab.stack.compose.confinement import NO_NETWORK, ContainerConfinement, connects
from lab.stack.compose.confinement import running as running_container
from lab.stack.compose.passwords import ROLES
from lab.stack.compose.stack import ComposeStack
from tests.fakes import make_cell
from tests.live import wait_until

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


API, STORAGE, DATABASE = 8474, 4443, 5432
"""Ports of Toxiproxy: its own, and those of its proxies."""

REACHES = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor

def reaches(asked):
    around, host, port = asked
    with socket.socket() as end:
        end.settimeout(2)
        try:
            if around:  # as a program without rights may: past the table of routes
                end.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
                end.setsockopt(socket.SOL_SOCKET, socket.SO_DONTROUTE, 1)
            end.connect((host, port))
        except OSError:
            return False
    return True

with ThreadPoolExecutor() as pool:
    print(json.dumps(list(pool.map(reaches, json.loads(sys.argv[1])))))
"""
"""Tries out all that it is given, as [around, host, port]."""


def toxiproxy_at(stack: ComposeStack) -> dict[str, str]:
    """Toxiproxy's address in each network, by the network's short name."""
    networks = stack.project.containers()["toxiproxy"].attrs["NetworkSettings"]["Networks"]
    return {name.rpartition("_")[2]: found["IPAddress"] for name, found in networks.items()}


def test_the_backend_cannot_reach_what_its_faults_are_removed_by(
    contained: ComposeStack, confinement: ContainerConfinement, client: docker.DockerClient
) -> None:
    assert confinement.cores
    inside = f"container:{contained.project.containers()['backend'].id}"
    _holds_back(contained, client, inside)


def _holds_back(stack: ComposeStack, client: docker.DockerClient, inside: str) -> None:
    """Assert that from in there proxies are reached, and the API is not, at any address."""
    at = toxiproxy_at(stack)
    proxies = [(False, at["near"], STORAGE), (False, "toxiproxy", DATABASE)]
    proxies += [(True, at["near"], STORAGE)]  # else the way around would be none
    apis = [(False, host, API) for host in (*at.values(), "toxiproxy", "toxiproxy-api")]
    apis += [(True, host, API) for host in at.values()]
    asked = json.dumps([*proxies, *apis])
    labels = stack.project.labels
    with running_container(client, REACHES, asked, labels=labels, network=inside) as probe:
        assert probe.wait()["StatusCode"] == 0
        reached = json.loads(probe.logs())
    assert reached == [True] * len(proxies) + [False] * len(apis), (at, asked)


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


def test_an_instance_on_cloud_run_cannot_either(
    contained: ComposeStack, client: docker.DockerClient
) -> None:
    contained.apply(make_cell({"cloudrun_min_instances": 1}, target="cloudrun"))
    wait_until(contained.project.instances)
    (instance,) = contained.project.instances().values()
    _holds_back(contained, client, f"container:{instance.id}")


def test_no_password_is_shown_by_the_engine(contained: ComposeStack) -> None:
    contained.apply(make_cell({"cloudrun_min_instances": 1}, target="cloudrun"))
    wait_until(contained.project.instances)
    project = contained.project
    passwords = {urlsplit(project.dsn(role, 1)).password for role in ROLES}
    assert len(passwords) == 2
    for container in (*project.containers().values(), *project.instances().values()):
        shown = json.dumps(container.attrs)
        assert not [password for password in passwords if str(password) in shown], container.name
