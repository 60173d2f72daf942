"""A container in the place of another is what Compose would have made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import docker
import pytest
from docker.errors import NotFound

from lab.errors import MachineError, PartFailed
from lab.model.knobs import TABLE, Knobs, Preset
from lab.stack import ownership
from lab.stack.compose import images, resources
from lab.stack.compose.environment import variables
from lab.stack.compose.project import Project
from lab.stack.compose.recreate import HASH, NOT_BY_COMPOSE, REPLACED, successor
from lab.stack.compose.resources import SERVICE_LABEL, services
from lab.stack.monitor import SUPERUSER, Monitor
from tests.live import wait_until

PARTS = services("vm")
AS_FOUND = Knobs()
ALL_OTHERS = Knobs.preset(Preset.RECOMMENDED).with_settings(
    {
        "gcs_call": "executor",
        "gcs_threads": 7,
        "db_call": "threadpool",
        "db_session": "hold",
        "db_cap": 20,
        "pool_timeout": "3 s",
        "pool_recycle": "60 s",
        "global_rate_limit": "100/min",
        "audio_threads": 3,
        "speech_threads": 4,
        "leak": "memory",
        "leak_every": 3,
        "vm_cpus": 1,
        "vm_memory": "512 MiB",
        "speed": 20,
    }
)
DEPENDS = "com.docker.compose.depends_on"


def container(service: str, **config: Any) -> dict[str, Any]:
    """What an engine has of a container, as far as it matters here."""
    return {
        "Id": "0123456789abcdef",
        "Config": {
            "Hostname": "0123456789ab",
            "Image": "postgres:18.6",
            "Env": ["LAB_WORKERS=1", "HOME=/", "EMPTY="],
            "Cmd": ["postgres", "-cmax_connections=28", "-cjit=off"],
            "Labels": {SERVICE_LABEL: service, HASH: "1", REPLACED: "lab-postgres-1"},
            **config,
        },
        "HostConfig": {
            "NetworkMode": "lab_far",
            "Binds": None,
            "Memory": 5,
            "MemorySwap": 5,
            "NanoCpus": 1,
        },
    }


def made(service: str, settings: Mapping[str, Any], **config: Any) -> dict[str, Any]:
    return successor(container(service, **config), variables(Knobs().with_settings(settings)))


def test_the_next_container_is_the_same_but_for_its_name_and_what_compose_notes() -> None:
    found = made("postgres", {})
    before = container("postgres")
    expected = {name: value for name, value in before["Config"].items() if name != "Hostname"}
    expected["Labels"] = {SERVICE_LABEL: "postgres", HASH: NOT_BY_COMPOSE}
    assert found == expected | {"HostConfig": before["HostConfig"]}


def test_what_follows_from_knobs_is_of_now() -> None:
    settings = {"workers": 4, "db_cap": 7, "vm_cpus": 1.5, "vm_memory": "1 GiB"}
    found = made("backend", settings)
    assert found["Env"][0] == "LAB_WORKERS=4"
    assert found["Cmd"] == ["postgres", "-cmax_connections=10", "-cjit=off"]
    limits = {name: found["HostConfig"][name] for name in ("Memory", "MemorySwap", "NanoCpus")}
    assert limits == {"Memory": 2**30, "MemorySwap": 2**30, "NanoCpus": 1_500_000_000}


def test_the_limits_of_other_parts_are_no_knobs() -> None:
    found = made("nginx", {"vm_cpus": 1.5, "vm_memory": "1 GiB"})["HostConfig"]
    assert (found["Memory"], found["MemorySwap"], found["NanoCpus"]) == (5, 5, 1)


def test_every_knob_that_a_container_is_told_differs_in_the_two_settings() -> None:
    here, there = AS_FOUND.as_text(), ALL_OTHERS.as_text()
    told = {row.name for row in TABLE if row.part in ("backend", "nginx", "postgres")}
    assert {name for name in told if here[name] == there[name]} == set()


def asked_for(client: docker.DockerClient, made: Any) -> dict[str, Any]:
    """All that was asked for of a container, without what is its own: id, times, addresses."""
    attrs = client.api.inspect_container(made.id)
    config = dict(attrs["Config"])
    own = attrs["Id"][:12]
    assert config.pop("Hostname") == own
    config["Env"] = sorted(config["Env"])
    labels = {k: v for k, v in config["Labels"].items() if k not in (HASH, REPLACED)}
    config["Labels"] = labels | {DEPENDS: sorted(labels.get(DEPENDS, "").split(","))}
    networks = {
        name: {
            "IPAMConfig": endpoint["IPAMConfig"],
            "Aliases": sorted(set(endpoint["Aliases"] or ()) - {own}),
            "Links": endpoint["Links"],
            "DriverOpts": endpoint["DriverOpts"],
        }
        for name, endpoint in attrs["NetworkSettings"]["Networks"].items()
    }
    same = ("Name", "Path", "Args", "Image", "Driver", "Platform", "AppArmorProfile")
    mounts = sorted(attrs["Mounts"], key=lambda mount: str(mount["Destination"]))
    host = attrs["HostConfig"]
    return {
        "Config": config,
        "HostConfig": host | {"Binds": sorted(host["Binds"] or ())},
        "Networks": networks,
        "Mounts": mounts,
        **{name: attrs[name] for name in same},
    }


def monitor_of(project: Project) -> Monitor:
    return Monitor(project.dsn(SUPERUSER, project.place.postgres_port))


@pytest.fixture(scope="module")
def project(
    client: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Project]:
    """A replica as found, made and started by Compose, without a lab around it."""
    folder, mine = ownership.claim(tmp_path_factory.mktemp("results"), stack="compose")
    try:
        (folder / "evidence").mkdir(mode=0o1777)
        found = Project(
            client, mine, folder / "evidence", None, True, images.require(client).values()
        )
        found.start(found.compose(AS_FOUND, PARTS, first=True))
        wait_until(monitor_of(found).answers)  # killed in the middle of initdb it stays broken
        yield found
    finally:
        resources.remove(client, mine.id)
        ownership.remove(folder)


@pytest.mark.compose
@pytest.mark.parametrize(
    ("before", "after"),
    [(AS_FOUND, ALL_OTHERS), (ALL_OTHERS, AS_FOUND)],
    ids=["all-knobs-change", "and-back"],
)
def test_it_is_what_compose_would_have_made(
    client: docker.DockerClient, project: Project, before: Knobs, after: Knobs
) -> None:
    project.start(project.compose(before, PARTS, first=False))
    ours = project.succeed(after, project.containers())
    project.start(ours)
    found = {part: asked_for(client, each) for part, each in ours.items()}
    assert set(found) == set(PARTS)
    compose = project.compose(after, PARTS, first=False)
    project.start(compose)
    for part in PARTS:
        assert found[part] == asked_for(client, compose[part]), part
    changed = {part for part in PARTS if project_differs(client, project, before, found, part)}
    assert changed == {"nginx", "backend", "postgres"}


def project_differs(
    client: docker.DockerClient,
    project: Project,
    before: Knobs,
    found: Mapping[str, Any],
    part: str,
) -> bool:
    """Whether a part's container is another one with the settings of before."""
    [made] = project.compose(before, [part], first=False).values()
    return bool(asked_for(client, made) != found[part])


@pytest.mark.compose
def test_there_is_one_container_of_a_part_and_what_it_keeps_it_keeps(
    client: docker.DockerClient, project: Project
) -> None:
    parts = ["postgres"]
    project.start(project.compose(AS_FOUND, parts, first=False))
    monitor = monitor_of(project)
    wait_until(monitor.answers)
    monitor.query("CREATE TABLE IF NOT EXISTS kept ()")
    monitor.query("CHECKPOINT")  # its end will be sudden
    monitor.release()
    before = project.containers()["postgres"]
    made = project.create(ALL_OTHERS, parts, first=False)
    project.start(made)
    wait_until(monitor.answers)
    assert monitor.query("SHOW max_connections") == [("24",)]
    assert monitor.query("SELECT count(*) FROM kept") == [(0,)]
    monitor.release()
    project.settle()
    found = [
        (each.id, each.name)
        for each in resources.containers(client, project.id)
        if each.labels[SERVICE_LABEL] == "postgres"
    ]
    assert found == [(made["postgres"].id, before.name)]
    assert made["postgres"].id != before.id


@pytest.mark.compose
def test_the_next_one_is_the_part_while_the_old_one_is_still_there(project: Project) -> None:
    project.start(project.compose(AS_FOUND, ["toxiproxy"], first=False))
    before = project.containers()["toxiproxy"]
    made = project.succeed(AS_FOUND, {"toxiproxy": before})["toxiproxy"]
    before.reload()
    assert (before.status, before.name) == ("exited", f"{before.id[:12]}-{made.name}")
    assert project.containers()["toxiproxy"].id == made.id
    project.start({"toxiproxy": made})
    project.settle()
    with pytest.raises(NotFound):
        before.reload()


@pytest.mark.compose
def test_what_the_engine_refuses_leaves_nothing_half_made(
    client: docker.DockerClient, project: Project
) -> None:
    project.start(project.compose(AS_FOUND, ["toxiproxy"], first=False))
    before = project.containers()["toxiproxy"]
    mine = {each.id for each in resources.containers(client, project.id)}
    taken = client.containers.create(before.attrs["Image"], name=f"{before.id[:12]}-{before.name}")
    try:
        with pytest.raises(PartFailed, match="is already in use by container"):
            project.succeed(AS_FOUND, {"toxiproxy": before})
    finally:
        taken.remove()
    assert {each.id for each in resources.containers(client, project.id)} == mine


@pytest.mark.compose
@pytest.mark.parametrize("state", ["stopped", "paused", "gone"])
def test_a_part_in_any_state_is_made_anew(project: Project, state: str) -> None:
    project.start(project.compose(AS_FOUND, ["toxiproxy"], first=False))
    [before] = (project.containers()[part] for part in ["toxiproxy"])
    {"stopped": before.kill, "paused": before.pause, "gone": lambda: before.remove(force=True)}[
        state
    ]()
    made = project.create(AS_FOUND, ["toxiproxy"], first=False)
    project.start(made)
    found = project.containers()["toxiproxy"]
    assert (found.id, found.status) == (made["toxiproxy"].id, "running")


@pytest.mark.compose
def test_another_image_of_the_same_name_is_refused(
    client: docker.DockerClient, project: Project
) -> None:
    before = project.containers()["toxiproxy"]
    before.attrs["Image"] = "sha256:0123"
    with pytest.raises(MachineError, match=r"the image .* has changed since .* - run again"):
        project.succeed(AS_FOUND, {"toxiproxy": before})
    assert project.containers()["toxiproxy"].id == before.id


@pytest.mark.compose
def test_what_the_engine_refuses_is_one_line(project: Project) -> None:
    project.start(project.compose(AS_FOUND, ["backend"], first=False))
    with pytest.raises(MachineError, match=r"fewer cores than vm_cpus asks for .* - set vm_cpus"):
        project.create(AS_FOUND.with_settings({"vm_cpus": 64}), ["backend"], first=False)
