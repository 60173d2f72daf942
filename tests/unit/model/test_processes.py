"""What the kernel says of processes, read from a /proc and cgroups made by hand."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.model import processes
from lab.model.processes import ProcessState
from tests.live import wait_until

REST = " ".join(["0"] * 17)


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A /proc with both versions of cgroups mounted, and nothing else."""
    monkeypatch.setattr(processes, "PROC", tmp_path)
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "mounts").write_text(
        f"cgroup {tmp_path}/v1 cgroup rw,freezer 0 0\ncgroup2 {tmp_path}/v2 cgroup2 rw 0 0\n"
    )
    processes._mounts.cache_clear()
    processes._freezers.cache_clear()
    yield tmp_path
    processes._mounts.cache_clear()
    processes._freezers.cache_clear()


def add(proc: Path, pid: int, letter: str, cgroups: str = "", name: str = "a program") -> None:
    folder = proc / str(pid)
    (folder / "task" / str(pid)).mkdir(parents=True)
    (folder / "stat").write_text(f"{pid} ({name}) {letter} 1 {REST} 4711 0 0\n")
    (folder / "cgroup").write_text(cgroups)
    (folder / "task" / str(pid) / "children").write_text("")


@pytest.mark.parametrize("name", ["nginx", "a) b (c", "x y"])
def test_a_state_is_read_whatever_a_process_is_called(proc: Path, name: str) -> None:
    add(proc, 7, "S", name=name)
    assert processes.state_of(7) == ProcessState("S", 4711)
    assert processes.state_of(8) is None


@pytest.mark.parametrize(
    ("letter", "runs"), [*((letter, True) for letter in "RSDTt"), ("Z", False), ("X", False)]
)
def test_a_process_runs_until_it_has_ended(proc: Path, letter: str, runs: bool) -> None:
    add(proc, 7, letter)
    assert processes.runs(7) is runs
    assert not processes.runs(8)


V1, V2 = "9:name=systemd:/\n6:cpu,freezer:/a\n0::/\n", "0::/b\n"


@pytest.mark.parametrize(
    ("letter", "cgroups", "files", "how"),
    [
        ("S", V1, {"v1/a/freezer.state": "THAWED\n"}, ""),
        ("D", V1, {"v1/a/freezer.state": "FROZEN\n"}, "frozen by its cgroup"),
        ("D", V1, {"v1/a/freezer.state": "FREEZING\n"}, "frozen by its cgroup"),
        ("S", V2, {"v2/b/cgroup.events": "populated 1\nfrozen 0\n"}, ""),
        ("S", V2, {"v2/b/cgroup.events": "populated 1\nfrozen 1\n"}, "frozen by its cgroup"),
        ("S", V1, {}, ""),  # the root of version 1 cannot be frozen, and has no such file
        ("T", V1, {}, "stopped (SIGSTOP)"),
        ("t", V1, {}, "held by a debugger"),
        ("R", "", {}, ""),
    ],
)
def test_how_a_process_is_kept_from_running(
    proc: Path, letter: str, cgroups: str, files: dict[str, str], how: str
) -> None:
    for name, content in files.items():
        (proc / name).parent.mkdir(parents=True)
        (proc / name).write_text(content)
    add(proc, 7, letter, cgroups)
    assert processes.held(7, ProcessState(letter, 4711)) == how
    (proc / "self" / "stat").touch()
    assert (processes.how_held(7), processes.how_held(6)) == (how, "")
    assert processes.held_among([6, 7]) == (f"process 7 was {how}" if how else "")


def test_where_there_is_no_proc_ps_tells_who_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "PROC", tmp_path)
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            assert processes.how_held(process.pid) == ""
            process.send_signal(signal.SIGSTOP)
            wait_until(lambda: processes.how_held(process.pid) == "stopped (SIGSTOP)")
        finally:
            process.kill()
    assert processes.how_held(process.pid) == ""


def test_all_that_descend_from_a_process_are_found(proc: Path) -> None:
    for pid in (1, 2, 3, 4):
        add(proc, pid, "S")
    (proc / "1" / "task" / "1" / "children").write_text("2 3 ")
    (proc / "3" / "task" / "3" / "children").write_text("4 ")
    assert processes.descendants(1) == [1, 2, 3, 4]


def test_a_title_is_its_command_line(proc: Path) -> None:
    add(proc, 7, "S")
    (proc / "7" / "cmdline").write_bytes(b"nginx: worker process\0\0\0")
    assert processes.title(7) == "nginx: worker process"
    assert processes.title(8) == ""


def test_this_process_is_one_that_runs() -> None:
    if processes.visible():
        assert processes.runs(os.getpid())
        assert "python" in processes.title(os.getpid())
