"""A part's process: waited for, diagnosed in one line, ended with its descendants."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

import psutil
import pytest

from lab.errors import MachineError, MissingComponent, PartFailed
from lab.stack import ports
from lab.stack.process import Process, last_line
from tests.live import wait_until

SLEEPS = "import time; time.sleep(60)"
PARENT = (
    "import subprocess, sys, time;"
    f"print(subprocess.Popen([sys.executable, '-c', '{SLEEPS}']).pid, flush=True);"
    "time.sleep(60)"
)


def python(code: str, log: Path) -> Process:
    return Process("part", [sys.executable, "-c", code], log)


def test_a_program_that_is_not_here_is_told(tmp_path: Path) -> None:
    with pytest.raises(MissingComponent) as caught:
        Process("part", [tmp_path / "absent"], tmp_path / "log")
    assert str(caught.value) == (
        f"part: {tmp_path}/absent cannot be started (No such file or directory) - "
        "run `make setup`, then `lab doctor`"
    )


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise SystemExit(3)", "exited with code 3"),
        ("print('out of luck'); print(); raise SystemExit(1)", "exited with code 1: out of luck"),
        ("import os; os.kill(os.getpid(), 9)", "killed by SIGKILL"),
    ],
)
def test_one_that_ends_before_it_is_ready_is_told_with_its_last_line(
    tmp_path: Path, code: str, said: str
) -> None:
    log = tmp_path / "log"
    with pytest.raises(PartFailed) as caught:
        python(code, log).wait_ready(lambda: False)
    assert str(caught.value) == f"part did not come up: {said} - its log is {log}"


def test_one_that_does_not_get_ready_is_told(tmp_path: Path) -> None:
    process = python(SLEEPS, tmp_path / "log")
    with pytest.raises(PartFailed, match="part did not come up: not ready after 0 s"):
        process.wait_ready(lambda: False, within=0.05)
    assert process.down() is None
    process.kill()
    assert process.down() == "killed by SIGKILL"


@pytest.mark.parametrize("ask", [signal.SIGTERM, signal.SIGKILL])
def test_it_ends_with_its_descendants(tmp_path: Path, ask: signal.Signals) -> None:
    process = python(PARENT, tmp_path / "log")
    process.wait_ready(lambda: last_line(tmp_path / "log").isdigit())
    child = int(last_line(tmp_path / "log"))
    assert process.pids() == [process.pid, child]
    process.stop(ask)
    assert process.pids() == []
    wait_until(lambda: not psutil.pid_exists(child) or _zombie(child))


def test_a_stopped_descendant_that_has_left_its_group_is_ended_too(tmp_path: Path) -> None:
    leaves = PARENT.replace("-c', '", "-c', 'import os; os.setsid(); ")
    process = python(leaves, tmp_path / "log")
    process.wait_ready(lambda: last_line(tmp_path / "log").isdigit())
    child = int(last_line(tmp_path / "log"))
    wait_until(lambda: os.getsid(child) == child)
    os.kill(child, signal.SIGSTOP)
    process.stop(signal.SIGTERM)
    assert not psutil.pid_exists(child) or _zombie(child)


def _zombie(pid: int) -> bool:
    """An orphan that is dead, in a container without an init that would bury it."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_one_that_does_not_end_when_asked_is_killed(tmp_path: Path) -> None:
    deaf = "import signal; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True);" + SLEEPS
    process = python(deaf, tmp_path / "log")
    process.wait_ready(lambda: last_line(tmp_path / "log") == "deaf")
    process.stop(signal.SIGTERM, grace=0.1)
    assert process.down() == "killed by SIGKILL: deaf"


def test_free_ports_are_different_and_free() -> None:
    found = ports.free(20)
    assert len(set(found)) == 20
    assert not any(ports.accepts(port) for port in found)
    assert ports.check(found[0]) == found[0]


def test_a_free_port_is_none_that_an_outgoing_connection_may_take_meanwhile() -> None:
    low, high = map(int, ports.OUTGOING.read_text().split())
    assert not [port for port in ports.free(50) if low <= port <= high]


@pytest.mark.parametrize(
    ("told", "allowed"),
    [
        ("20000 30000", set(range(30001, 32768))),
        ("1024 65535", set(ports.SPAN)),
        ("not a range", set(ports.SPAN)),
    ],
)
def test_free_ports_are_found_whatever_the_system_keeps(
    told: str, allowed: set[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "range"
    kept.write_text(told)
    monkeypatch.setattr(ports, "OUTGOING", kept)
    assert set(ports.free(1)) <= allowed


def test_a_port_that_is_taken_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    [taken, other] = ports.free(2)
    monkeypatch.setattr(ports, "SPAN", range(min(taken, other), max(taken, other) + 1))
    with socket.create_server((ports.HOST, taken)):
        assert all(ports.free(1) != [taken] for _ in range(20))
        monkeypatch.setattr(ports, "SPAN", range(taken, taken + 1))
        with pytest.raises(MachineError, match=r"1 free ports on 127.0.0.1 were not found"):
            ports.free(1)


def test_a_port_that_was_asked_for_is_none_of_the_free_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    [asked, other] = ports.free(2)
    monkeypatch.setattr(ports, "SPAN", (asked, other))
    assert all(ports.free(1, but=asked) == [other] for _ in range(20))


def test_the_last_line_of_a_log_is_the_last_with_text(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert last_line(log) == ""
    log.write_bytes(b"x" * 20_000 + b"\nlast \xff\n\n  \n")
    assert last_line(log) == "last \N{REPLACEMENT CHARACTER}"
