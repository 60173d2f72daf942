"""The compose stack from cell to cell: what starts anew, what is read, what is diagnosed."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from lab.model.evidence import LoadDone, OomKill
from lab.model.probe import ProbeRecord
from lab.model.readings import Usage
from lab.model.replica import HEALTH_FILE, services
from lab.observe.observer import Observer
from lab.stack.base import Replica
from lab.stack.compose.stack import ComposeStack
from lab.stack.ports import HOST
from tests.fakes import make_cell
from tests.live import by_worker, causes, left_behind, upload, uploads, wait_until

pytestmark = pytest.mark.compose

BASE = {"speed": 20, "global_rate_limit": "off"}


def applied(stack: ComposeStack, settings: dict[str, Any]) -> Replica:
    return stack.apply(make_cell({**BASE, **settings}))


def lives(stack: ComposeStack) -> dict[str, str]:
    """When each part's container was started last."""
    containers = stack.project.containers().items()
    return {part: container.attrs["State"]["StartedAt"] for part, container in containers}


def test_nginx_has_room_for_the_bodies_of_as_many_uploads_as_come(contained: ComposeStack) -> None:
    settings = {"nginx_body": "3 MiB", "gcs_call": "executor", "gcs_threads": 40}
    replica = applied(contained, {**settings, "gcs_latency": "20 s"})
    assert causes(uploads(replica.url, 40, size=2_000_000)) == {"ok": 40}
    assert replica.shortages() == []


@pytest.mark.knob("pool_size", "nginx", "db_cap", "vm_cpus")
def test_only_what_changed_starts_anew(contained: ComposeStack) -> None:
    steps: list[tuple[dict[str, Any], list[str]]] = [
        ({}, []),
        ({"gcs_latency": "1 s", "db_rtt": "1 ms"}, []),
        ({"pool_size": 3}, ["backend"]),
        ({"pool_size": 3, "nginx": "recommended"}, ["nginx"]),
        ({"pool_size": 3, "nginx": "recommended", "db_cap": 7}, ["postgres", "backend"]),
        ({"vm_cpus": 1, "nginx": "recommended", "db_cap": 7}, ["backend"]),
        ({}, ["postgres", "backend", "nginx"]),
    ]
    applied(contained, {})
    before = lives(contained)
    for settings, expected in steps:
        replica = applied(contained, settings)
        after = lives(contained)
        changed = [part for part in services("vm") if after[part] != before[part]]
        assert (contained.restarted, changed) == (expected, expected), settings
        before = after
    assert causes([upload(replica.url)]) == {"ok": 1}


@pytest.mark.knob("balance", "workers")
def test_nginx_finds_each_worker_at_a_port_of_its_own(contained: ComposeStack) -> None:
    for workers in (3, 2):
        settings = {"workers": workers, "balance": "round_robin", "gcs_call": "executor"}
        replica = applied(contained, settings)
        assert {"backend", "nginx"} <= set(contained.restarted)
        answers = uploads(replica.url, 2 * workers)
        assert causes(answers) == {"ok": 2 * workers}
        assert sorted(by_worker(answers).values()) == [2] * workers


def test_the_next_cell_starts_without_rows_objects_or_progress(contained: ComposeStack) -> None:
    replica = applied(contained, {})
    uploads(replica.url, 3)
    assert left_behind(replica) == (3, 3)
    handed_in = "SELECT sum(recordings) FROM progress"
    assert replica.query(handed_in) == [(3,)]
    replica = applied(contained, {})
    assert contained.restarted == []
    assert left_behind(replica) == (0, 0)
    assert replica.query(handed_in) == [(0,)]


def test_what_each_part_uses_is_read(contained: ComposeStack) -> None:
    replica = applied(contained, {})
    wait_until(lambda: set(replica.usage()) == set(services("vm")))
    before = replica.usage()["backend"]
    uploads(replica.url, 20)
    wait_until(lambda: replica.usage()["backend"].cpu_s > before.cpu_s)
    assert all(used.memory > 0 for used in replica.usage().values())


def test_bytes_on_the_network_are_what_nginx_logged_and_postgres_was_asked(
    contained: ComposeStack,
) -> None:
    """The engine's counts of a container have the headers of TCP, IP and Ethernet in them."""
    replica = applied(contained, {"gcs_call": "executor"})
    upload(replica.url)  # connections are made, and the containers' first readings are there
    wait_until(lambda: all(used.received for used in replica.usage().values()))
    time.sleep(2 * A_READING_S)
    before, since = replica.usage(), datetime.now(UTC)
    assert causes(uploads(replica.url, 12, size=900_000)) == {"ok": 12}
    wait_until(lambda: grown(before, replica.usage(), "fake-gcs-server", "received") > 12 * 900_000)
    time.sleep(2 * A_READING_S)
    after = replica.usage()
    lines = contained.project.log("nginx", since).splitlines()
    logged = [json.loads(line) for line in lines if line.startswith(b'{"at"')]
    read = sum(line["bytes"] for line in logged if line["bytes"] > 900_000)
    assert read > 12 * 900_000
    for part, way in (
        *(("nginx", "received"), ("nginx", "sent"), ("backend", "received"), ("backend", "sent")),
        ("fake-gcs-server", "received"),
    ):
        assert 1.0 <= grown(before, after, part, way) / read < 1.15, (part, way)
    for way in ("received", "sent"):
        assert 0 < grown(before, after, "postgres", way) < 0.05 * read


A_READING_S = 1.0
"""The engine counts once a second."""


def grown(before: Mapping[str, Usage], after: Mapping[str, Usage], part: str, way: str) -> float:
    """Bytes that a part's container has received or sent between two readings."""
    return float(getattr(after[part], way) - getattr(before[part], way))


@pytest.mark.knob("vm_cpus")
def test_a_backend_without_cpu_is_throttled(contained: ComposeStack) -> None:
    """A tenth of a core is granted by a busy machine too, and more is asked for."""
    replica = applied(contained, {"vm_cpus": 1})
    backend = contained.project.containers()["backend"]
    backend.reload()
    assert backend.attrs["HostConfig"]["NanoCpus"] == 1e9
    wait_until(lambda: "backend" in replica.usage())
    subprocess.run(["docker", "update", "--cpus", "0.1", backend.id], check=True)
    backend.exec_run(["timeout", "60", "sh", "-c", "while :; do :; done"], detach=True)
    wait_until(lambda: (replica.usage()["backend"].throttled_s or 0.0) > 0.0, within=60)


@pytest.mark.knob("db_cap")
def test_connections_that_the_database_refuses_are_counted(contained: ComposeStack) -> None:
    replica = applied(contained, {"db_cap": 1, "db_call": "threadpool", "pool_size": 5})
    found = causes(uploads(replica.url, 8))
    assert found.get("db_refused", 0) > 0
    wait_until(lambda: replica.refused() > 0)
    assert applied(contained, {"db_cap": 1}).refused() == 0


def test_logs_are_kept_of_this_cell_only(contained: ComposeStack, tmp_path: Path) -> None:
    def lines() -> int:
        contained.collect_logs(tmp_path)
        return len((tmp_path / "nginx-access.log").read_text().splitlines())

    uploads(applied(contained, {}).url, 5)
    wait_until(lambda: lines() >= 5)
    replica = applied(contained, {})
    assert lines() == 0
    upload(replica.url)
    wait_until(lambda: lines() == 1)
    assert {file.stem for file in tmp_path.iterdir()} == {*services("vm"), "nginx-access"}


@pytest.mark.knob("vm_memory")
def test_a_backend_that_passes_its_memory_is_killed_comes_back_and_is_not_down(
    contained: ComposeStack, tmp_path: Path
) -> None:
    replica = applied(contained, {"vm_memory": "128 MiB"})
    observer = Observer(replica, contained.down_parts, speed=20)
    samples = tmp_path / "samples.jsonl"
    samples.touch()
    with observer.watch:
        begun = time.monotonic()
        # Shared memory cannot be dropped, so the largest process has to go: the worker.
        fill = ["dd", "if=/dev/zero", "of=/dev/shm/filler", "bs=1M", "count=64"]
        contained.project.containers()["backend"].exec_run(fill)
        wait_until(lambda: contained.workers.alive(begun + 1))  # it was let start again
        wait_until(lambda: upload(replica.url).status_code == 200)
    assert observer.down() == {}
    done = LoadDone(t=0.0, window=(0.0, 1.0), generator_exit=0)
    evidence = list(observer.evidence(begun, samples, [], done))
    assert len([line for line in evidence if isinstance(line, OomKill)]) == 1


@pytest.mark.knob("health_probe")
def test_a_backend_that_fails_its_probes_is_started_anew_and_is_not_down(
    contained: ComposeStack, tmp_path: Path
) -> None:
    """It answers the second probe of a minute with 429, which is no good answer."""
    probed = {"health_probe": "10 s", "health_timeout": "10 s", "health_failures": 2}
    replica = applied(contained, {**probed, "global_rate_limit": "1/min"})
    before = lives(contained)["backend"]
    observer = Observer(replica, contained.down_parts, speed=20)
    samples = tmp_path / "samples.jsonl"
    samples.touch()
    begun, noted = time.monotonic(), replica.evidence / HEALTH_FILE
    with observer.watch:
        wait_until(lambda: noted.exists() and '"back"' in noted.read_text())
    assert observer.down() == {}
    assert lives(contained)["backend"] != before
    done = LoadDone(t=0.0, window=(0.0, 1.0), generator_exit=0)
    evidence = list(observer.evidence(begun, samples, [], done))
    events = [line.event for line in evidence if isinstance(line, ProbeRecord)]
    assert events[:4] == ["failed", "failed", "ended", "back"]
    replica = applied(contained, {})
    assert contained.down_parts() == {}
    assert causes([upload(replica.url)]) == {"ok": 1}


def test_a_backend_that_dies_by_itself_is_down_although_the_engine_starts_it_again(
    contained: ComposeStack,
) -> None:
    applied(contained, {})
    die = "import os; [os.kill(int(p), 9) for p in os.listdir('/proc') if p.isdigit() and p != '1']"
    backend = contained.project.containers()["backend"]
    started = backend.attrs["State"]["StartedAt"]
    backend.exec_run(["python", "-ISc", die])
    wait_until(contained.down_parts)

    def restarted() -> bool:
        backend.reload()
        state = backend.attrs["State"]
        return bool(state["Running"] and state["StartedAt"] != started)

    wait_until(restarted)
    assert contained.down_parts() == {"backend": "was killed by signal 9"}
    replica = applied(contained, {})
    assert contained.restarted == ["backend"]
    assert contained.down_parts() == {}
    assert causes([upload(replica.url)]) == {"ok": 1}


def test_it_listens_on_loopback_alone(contained: ComposeStack) -> None:
    applied(contained, {})
    place = contained.project.place
    published = {
        place.nginx_port,
        place.postgres_port,
        place.storage_port,
        place.toxiproxy_port,
        place.gcs_proxy_port,
        place.db_proxy_port,
        place.speech_port,
        place.speech_proxy_port,
    }
    bindings = [
        binding
        for container in contained.project.containers().values()
        for bound in container.attrs["NetworkSettings"]["Ports"].values()
        for binding in bound or ()
    ]
    assert {int(binding["HostPort"]) for binding in bindings} == published
    assert {binding["HostIp"] for binding in bindings} == {HOST}
    listening = [
        each.laddr.ip
        for each in psutil.net_connections("inet")
        if each.laddr and each.status == psutil.CONN_LISTEN and each.laddr.port in published
    ]
    assert set(listening) <= {HOST}  # none where the kernel forwards
