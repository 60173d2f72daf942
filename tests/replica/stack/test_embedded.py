"""The embedded stack from cell to cell: what restarts, what is diagnosed, what is kept."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from lab.errors import MachineError, MissingComponent, PartFailed, StoreError
from lab.load.upload import headers, multipart
from lab.model import processes
from lab.model.replica import STUDENTS, UPLOAD_PATH, address, token
from lab.stack import ownership, toxiproxy
from lab.stack.embedded import EmbeddedStack
from lab.stack.ports import HOST
from tests.fakes import make_cell
from tests.live import Live, left_behind, make_fault, raw, upload, uploads, wait_until


@pytest.mark.replica
@pytest.mark.parametrize(
    ("settings", "restarted"),
    [
        ({}, []),
        ({"gcs_latency": "1 s", "db_rtt": "1 ms"}, []),
        ({"pool_size": 3}, ["backend"]),
        ({"nginx": "recommended"}, ["nginx"]),
        ({"db_cap": 7}, ["postgres", "backend"]),
        ({"speed": 10}, ["backend", "nginx"]),
        ({"workers": 2, "balance": "round_robin"}, ["backend", "nginx"]),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else None,
)
def test_only_what_changed_starts_anew(
    live: Live, settings: dict[str, Any], restarted: list[str]
) -> None:
    live({})
    before = {part.name: part.pids() for part in live.stack.parts}
    live(settings)
    assert live.stack.restarted == restarted
    changed = [part.name for part in live.stack.parts if part.pids()[0] != before[part.name][0]]
    assert changed == restarted


@pytest.mark.replica
def test_the_next_cell_starts_without_rows_objects_or_progress(live: Live) -> None:
    replica = live({})
    uploads(replica.url, 3)
    assert left_behind(replica) == (3, 3)
    handed_in = "SELECT sum(recordings) FROM progress"
    assert replica.query(handed_in) == [(3,)]
    replica = live({})
    assert left_behind(replica) == (0, 0)
    assert replica.query(handed_in) == [(0,)]


@pytest.mark.replica
def test_a_backend_that_is_still_busy_with_the_last_cell_starts_anew(live: Live) -> None:
    replica = live({"gcs_call": "executor"})
    body = multipart(b"\0" * 1000, "a.wav")
    fields = {"Host": "lab", **headers(0), "Content-Length": str(len(body))}
    lines = [f"POST {UPLOAD_PATH} HTTP/1.1", *(f"{k}: {v}" for k, v in fields.items()), "", ""]
    with raw(replica.backend) as connection:
        connection.sendall("\r\n".join(lines).encode() + body[:500])
        wait_until(lambda: replica.inflight() == 1)
        live({"gcs_call": "executor"})
    assert live.stack.restarted == ["backend"]


PARTS = ["postgres", "fake-gcs-server", "speech", "toxiproxy", "backend", "nginx"]


@pytest.mark.replica
@pytest.mark.parametrize("name", PARTS)
def test_a_killed_part_is_named_and_started_again(live: Live, name: str) -> None:
    live({})
    assert live.stack.down_parts() == {}
    part = next(part for part in live.stack.parts if part.name == name)
    os.kill(part.pids()[0], signal.SIGKILL)
    wait_until(live.stack.down_parts)
    [(named, why)] = live.stack.down_parts().items()
    assert (named, why.partition(":")[0]) == (name, "killed by SIGKILL")
    replica = live({})
    assert name in live.stack.restarted
    assert live.stack.down_parts() == {}
    assert upload(replica.url).status_code == 200


@pytest.mark.replica
@pytest.mark.parametrize("name", PARTS)
def test_a_stopped_part_is_named(live: Live, name: str) -> None:
    live({})
    part = next(part for part in live.stack.parts if part.name == name)
    pid = part.pids()[0]
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(live.stack.down_parts)
        assert "stopped (SIGSTOP)" in live.stack.down_parts()[name]
    finally:
        os.kill(pid, signal.SIGCONT)
    assert "stopped (SIGSTOP)" in live.stack.down_parts()[name], "what was seen stays"
    live({})
    assert name in live.stack.restarted
    assert live.stack.down_parts() == {}


@pytest.mark.replica
def test_logs_are_kept_of_this_cell_only(live: Live, tmp_path: Path) -> None:
    def lines() -> int:
        live.stack.collect_logs(tmp_path)
        return len((tmp_path / "nginx-access.log").read_text().splitlines())

    live({"nginx": "recommended"})
    uploads(live({}).url, 5)
    wait_until(lambda: lines() >= 6)  # five uploads, and at least one look whether nginx is ready
    replica = live({})
    assert lines() == 0
    upload(replica.url)
    wait_until(lambda: lines() == 1)
    assert {file.stem for file in tmp_path.iterdir()} == {*PARTS, "nginx-access"}
    theirs = tmp_path / "thesis.txt"
    theirs.write_text("three years of work")
    (tmp_path / "nginx.log").unlink()
    (tmp_path / "nginx.log").symlink_to(theirs)
    with pytest.raises(StoreError, match=r"nginx\.log: is a link in place of a file of the lab's"):
        live.stack.collect_logs(tmp_path)
    assert theirs.read_text() == "three years of work"


@pytest.mark.replica
def test_a_part_that_cannot_come_up_ends_with_its_last_log_line(live: Live) -> None:
    live({})
    live.stack.storage.stop()
    taken = socket.create_server((HOST, live.stack.storage.port))
    said = r"fake-gcs-server did not come up: exited with code 1: .*address already in use.* - its"
    with taken, pytest.raises(PartFailed, match=said):
        live({})
    assert upload(live({}).url).status_code == 200  # where the port is free again, so is the way


@pytest.mark.replica
def test_a_backend_is_ready_when_it_answers(live: Live) -> None:
    for size in range(5, 10):
        replica = live({"pool_size": size})
        assert live.stack.restarted == ["backend"]
        assert requests.get(f"{replica.backend}/health", timeout=5).status_code == 200


def imports_of_its_own(pid: int) -> bool:
    """Whether a worker is an interpreter that was started for it, and not a fork."""
    return "multiprocessing.spawn" in processes.title(pid)


@pytest.mark.replica
@pytest.mark.skipif(not processes.visible(), reason="takes the titles of processes in /proc")
def test_workers_are_forked_but_where_their_memory_or_their_return_is_measured(live: Live) -> None:
    live({"workers": 2})
    workers = live.stack.workers.alive()
    assert [processes.title(pid) for pid in workers] == ["lab.services.backend: worker"] * 2
    os.kill(workers[0], signal.SIGKILL)
    wait_until(lambda: any(map(imports_of_its_own, live.stack.workers.alive())))
    live({"workers": 2, "vm_memory": "8 GB"})
    assert all(map(imports_of_its_own, live.stack.workers.alive()))
    assert len(live.stack.workers.alive()) == 2


@pytest.mark.replica
def test_what_the_backend_is_forked_of_waits_and_ends_with_the_stack(tmp_path: Path) -> None:
    stack = EmbeddedStack(tmp_path)
    try:
        stack.apply(make_cell({"workers": 1, "speed": 20}))
        warm = psutil.Process(psutil.Process(stack.backend.pids()[0]).ppid())
        assert warm.pid in [process.pid for process in ownership.processes(stack.ownership.id)]
        assert all(warm.pid not in part.pids() for part in stack.parts)
        before = warm.cpu_times()
        uploads(stack.nginx.url, 3)
        assert warm.cpu_times() == before
    finally:
        stack.close()
    assert not warm.is_running()


@pytest.mark.replica
def test_a_part_is_bound_to_loopback_only(live: Live) -> None:
    live({})
    listening = {
        connection.laddr.ip
        for part in live.stack.parts
        for pid in part.pids()
        for connection in psutil.Process(pid).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {HOST}


@pytest.mark.replica
def test_a_killed_database_leaves_nothing_in_the_machines_shared_memory(live: Live) -> None:
    replica = live({})
    assert replica.query("SHOW dynamic_shared_memory_type") == [("mmap",)]
    for pid in replica.parts["postgres"]():
        assert "PostgreSQL." not in Path(f"/proc/{pid}/maps").read_text()


def test_the_database_holds_the_test_students(live: Live) -> None:
    replica = live({})
    rows = replica.query("SELECT id, token FROM students ORDER BY id")
    assert rows == [(number, token(number)) for number in range(STUDENTS)]
    assert replica.query("SELECT count(*) FROM progress") == [(STUDENTS,)]
    assert len({address(number) for number in range(STUDENTS)}) == STUDENTS


@pytest.mark.replica
def test_the_application_may_do_no_more_than_it_needs(live: Live) -> None:
    replica = live({})
    rows = replica.query(
        "SELECT table_name, string_agg(privilege_type, ' ' ORDER BY privilege_type)"
        " FROM information_schema.role_table_grants WHERE grantee = 'app' GROUP BY table_name"
    )
    assert dict(rows) == {
        "students": "SELECT",
        "recordings": "INSERT SELECT",
        "scores": "INSERT SELECT",
        "progress": "SELECT UPDATE",
    }
    assert replica.query("SELECT rolsuper FROM pg_roles WHERE rolname = 'app'") == [(False,)]


@pytest.mark.replica
def test_a_cells_faults_are_no_matter_of_the_stack(live: Live) -> None:
    replica = live({})
    with live.injected(make_fault("gcs", down=True)):
        live({})
        assert live.stack.restarted == []
        assert live.stack.down_parts() == {}
    assert upload(replica.url).status_code == 200


def test_a_port_that_is_taken_is_told_before_anything_is_made(tmp_path: Path) -> None:
    before = set(Path(tempfile.gettempdir()).glob("replica-lab-*"))
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(MachineError) as caught:
            EmbeddedStack(tmp_path, port=port)
    assert str(caught.value) == (
        f"port {port} on 127.0.0.1 cannot be used (Address already in use) - "
        "choose another with --port"
    )
    assert set(Path(tempfile.gettempdir()).glob("replica-lab-*")) <= before


def test_a_real_toxiproxy_that_is_not_here_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toxiproxy, "find_real", lambda: None)
    with pytest.raises(MissingComponent, match="run `make toxiproxy`"):
        toxiproxy.ToxiproxyPart(tmp_path, 1, {}, "real")
    assert toxiproxy.ToxiproxyPart(tmp_path, 1, {}, "auto").variant == "embedded"
