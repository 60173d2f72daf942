"""A container that is there takes other settings, and runs as one that Compose makes with them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import docker
import pytest

from lab.errors import MachineError
from lab.model.knobs import TABLE, Knobs
from lab.model.replica import SUPERUSER, services
from lab.stack import ownership
from lab.stack.compose import images, resources
from lab.stack.compose.project import Project
from lab.stack.compose.resources import SERVICE_LABEL
from lab.stack.monitor import Monitor
from tests.live import wait_until
from tests.unit.stack.test_life_cycle import OTHERS

PARTS = services("vm")
AS_FOUND = Knobs()
SAME_LIMITS = OTHERS.with_settings({"vm_cpus": 2, "vm_memory": "off"})


@pytest.fixture(scope="module")
def project(
    client: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Project]:
    """A replica's containers, as found, without a lab around them."""
    folder, mine = ownership.claim(tmp_path_factory.mktemp("results"), stack="compose")
    try:
        made = Project(client, mine, folder, None, True, images.require(client).values())
        made.start(made.prepare(AS_FOUND, PARTS).values())
        wait_until(monitor_of(made).answers)  # killed in the middle of initdb it stays broken
        yield made
    finally:
        resources.remove(client, mine.id)
        ownership.remove(folder, mine)


def monitor_of(project: Project) -> Monitor:
    return Monitor(project.dsn(SUPERUSER, project.place.postgres_port))


def move(project: Project, knobs: Knobs, parts: tuple[str, ...] = PARTS) -> None:
    """From one cell to the next."""
    project.kill(parts)
    project.start(project.prepare(knobs, parts).values())


def made_by_compose(project: Project, knobs: Knobs) -> None:
    """New containers, which have their settings from Compose alone."""
    project.kill(PARTS)
    project._make(knobs, PARTS, first=False)
    (project._settings / "now.env").unlink()
    project.start(project.containers().values())


LIMITS = ("NanoCpus", "Memory", "MemorySwap", "PidsLimit")
ENVIRONMENT = """
import os
for pid in filter(str.isdigit, os.listdir("/proc")):
    if open(f"/proc/{pid}/cmdline", "rb").read().startswith(b"python\\0-m\\0lab.services.backend"):
        print(open(f"/proc/{pid}/environ").read())
        break
"""
CONFIGURATION = "cat /tmp/nginx/nginx.conf /tmp/nginx/$(sed -n 's|.*include /tmp/nginx/||p' \
/tmp/nginx/nginx.conf | tr -d ';')"


def run(container: Any, *command: str) -> str:
    """What a program in a container prints, when it succeeds."""
    printed: list[str] = []

    def succeeds() -> bool:
        code, output = container.exec_run(list(command))
        printed[:] = [output.decode()]
        return code == 0 and bool(printed[0])

    wait_until(succeeds)
    return printed[0]


def settings_of(project: Project) -> dict[str, Any]:
    """What the programs in the containers run with, and the containers' limits."""
    containers = project.containers()
    monitor = monitor_of(project)
    wait_until(monitor.answers)
    environment = dict(
        line.split("=", 1)
        for line in run(containers["backend"], "python", "-ISc", ENVIRONMENT).split("\0")
        if "=" in line
    )
    told = {row.name: environment.get(row.variable) for row in TABLE if row.part == "backend"}
    found = {
        "backend": told,
        "nginx": run(containers["nginx"], "sh", "-c", CONFIGURATION),
        "postgres": monitor.query("SHOW max_connections"),
        "limits": {
            part: {name: container.attrs["HostConfig"][name] for name in LIMITS}
            for part, container in containers.items()
        },
    }
    monitor.release()
    return found


@pytest.mark.compose
@pytest.mark.parametrize(
    ("before", "after"),
    [(AS_FOUND, OTHERS), (OTHERS, AS_FOUND), (AS_FOUND, SAME_LIMITS)],
    ids=["all-knobs-change", "and-back", "all-but-the-limits"],
)
def test_it_runs_as_what_compose_would_have_made(
    project: Project, before: Knobs, after: Knobs
) -> None:
    move(project, before)
    first = settings_of(project)
    ids = {part: container.id for part, container in project.containers().items()}
    move(project, after)
    ours = settings_of(project)
    anew = {part for part, c in project.containers().items() if c.id != ids[part]}
    assert anew == ({"backend"} if first["limits"] != ours["limits"] else set())
    made_by_compose(project, after)
    assert ours == settings_of(project)
    assert {part for part in ours if ours[part] != first[part]} >= {"nginx", "backend", "postgres"}
    assert all(ours["backend"].values())


@pytest.mark.compose
def test_there_is_one_container_of_a_part_and_what_it_keeps_it_keeps(
    client: docker.DockerClient, project: Project
) -> None:
    move(project, AS_FOUND)
    monitor = monitor_of(project)
    wait_until(monitor.answers)
    monitor.query("CREATE TABLE IF NOT EXISTS kept ()")
    monitor.query("CHECKPOINT")  # its end will be sudden
    monitor.release()
    before = project.containers()["postgres"]
    move(project, OTHERS, ("postgres",))
    wait_until(monitor.answers)
    assert monitor.query("SHOW max_connections") == [("24",)]
    assert monitor.query("SELECT count(*) FROM kept") == [(0,)]
    monitor.release()
    assert [
        (container.id, container.name)
        for container in resources.containers(client, project.id)
        if container.labels[SERVICE_LABEL] == "postgres"
    ] == [(before.id, before.name)]


@pytest.mark.compose
@pytest.mark.parametrize("state", ["running", "stopped", "paused", "gone"])
def test_a_part_in_any_state_starts_anew(project: Project, state: str) -> None:
    move(project, AS_FOUND, ("toxiproxy",))
    before = project.containers()["toxiproxy"]
    {
        "running": lambda: None,
        "stopped": before.kill,
        "paused": before.pause,
        "gone": lambda: before.remove(force=True),
    }[state]()
    move(project, AS_FOUND, ("toxiproxy",))
    after = project.containers()["toxiproxy"]
    assert after.status == "running"
    assert after.attrs["State"]["StartedAt"] > before.attrs["State"]["StartedAt"]
    assert (after.id == before.id) == (state != "gone")


@pytest.mark.compose
def test_another_image_of_the_same_name_is_refused(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    tag = project.containers()["toxiproxy"].attrs["Config"]["Image"]
    monkeypatch.setitem(project._image_ids, tag, "0123456789ab")
    project.remove(["toxiproxy"])
    for _ in ("while it is made", "when it is there"):
        with pytest.raises(MachineError, match=r"the image .* has changed since .* - run again"):
            project.prepare(AS_FOUND, ["toxiproxy"])


@pytest.mark.compose
def test_what_the_engine_refuses_is_one_line_and_leaves_the_container_that_there_was(
    client: docker.DockerClient, project: Project
) -> None:
    move(project, AS_FOUND, ("backend",))
    mine = {container.id for container in resources.containers(client, project.id)}
    with pytest.raises(MachineError, match=r"fewer cores than vm_cpus asks for .* - set vm_cpus"):
        move(project, AS_FOUND.with_settings({"vm_cpus": 64}), ("backend",))
    assert {container.id for container in resources.containers(client, project.id)} == mine
    move(project, AS_FOUND, ("backend",))
    assert project.containers()["backend"].status == "running"
