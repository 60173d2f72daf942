"""However a lab ends, nothing of its replica stays: no process, no port, no folder."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from lab.paths import ROOT
from lab.stack import cleanup, ownership
from tests.live import upload, wait_until
from tests.somebody import PACKAGES, UNREACHED, python_of_nobody


@dataclass
class OneLab:
    """A lab in a process of its own, and what its replica is."""

    process: subprocess.Popen[str]
    about: dict[str, Any]

    @property
    def left(self) -> list[psutil.Process]:
        return ownership.processes(self.about["id"])

    @property
    def folder(self) -> Path:
        return Path(self.about["folder"])

    def ports(self) -> set[int]:
        """Ports on which anything of the replica listens."""
        return {port for process in self.left for port in ports_of(process.net_connections("inet"))}


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(folder), "HOME": str(folder), "PYTHONPATH": PACKAGES}


def where_compose_is() -> dict[str, str]:
    """The client's plugins may be in this user's home, which the lab is not given."""
    return {"DOCKER_CONFIG": os.environ.get("DOCKER_CONFIG", str(Path.home() / ".docker"))}


@contextmanager
def one_lab(
    folder: Path, *kind: str, user: str | None = None, python: str = sys.executable
) -> Iterator[OneLab]:
    process = subprocess.Popen(
        [python, "-m", "tests.one_lab", str(folder), *kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**environment(folder), **(where_compose_is() if "compose" in kind else {})},
        user=user,
        extra_groups=[] if user else None,
    )
    with process:
        try:
            assert process.stdout
            yield OneLab(process, json.loads(process.stdout.readline()))
        finally:
            process.kill()
            process.wait()
            for path, of in ownership.replicas():  # of this test's folder alone, where it failed
                if of.pid == process.pid:
                    cleanup.end(path, of)


def listening() -> set[int]:
    return ports_of(psutil.net_connections("inet"))


def ports_of(connections: Iterable[Any]) -> set[int]:
    return {each.laddr.port for each in connections if each.status == psutil.CONN_LISTEN}


def makers_of_segments() -> set[int]:
    """Process ids that made what is left of System V shared memory."""
    _, *rows = Path("/proc/sysvipc/shm").read_text().splitlines()
    return {int(row.split()[4]) for row in rows}


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary folder for replicas alone, which other users may enter as they may /tmp."""
    made = Path(tempfile.mkdtemp(prefix="replicas-"))
    made.chmod(0o1777)
    monkeypatch.setattr(tempfile, "tempdir", str(made))
    yield made
    shutil.rmtree(made)


@pytest.mark.replica
def test_closing_leaves_no_process_no_port_and_no_folder(folder: Path) -> None:
    with one_lab(folder) as lab:
        ports = lab.ports()
        # nginx, backend, Postgres, storage, speech service, Toxiproxy, its three proxies
        assert len(ports) == 9
        assert {pid for pids in lab.about["parts"].values() for pid in pids} <= {
            process.pid for process in lab.left
        }
        lab.process.communicate("close\n", timeout=30)
        assert lab.process.returncode == 0
        assert lab.left == []
        assert not lab.folder.exists()
        assert not ports & listening()


@pytest.mark.replica
def test_a_lab_that_is_killed_leaves_nothing_either(folder: Path) -> None:
    with one_lab(folder) as lab:
        ports, servers = lab.ports(), set(lab.about["parts"]["postgres"])
        assert servers & makers_of_segments()
        lab.process.send_signal(signal.SIGKILL)
        lab.process.wait()
        wait_until(lambda: not lab.folder.exists())
        assert lab.left == []
        assert not servers & makers_of_segments()
        assert not ports & listening()


@pytest.mark.replica
def test_a_replica_whose_lab_and_guardian_are_dead_is_ended_and_no_other(folder: Path) -> None:
    mine, _ = ownership.claim(folder)
    stays, _ = ownership.claim(folder, stays=True)
    with one_lab(folder) as lab:
        [guardian] = [
            child
            for child in psutil.Process(lab.process.pid).children()
            if "lab.stack.cleanup" in child.cmdline()
        ]
        assert cleanup.end_abandoned() == 0
        guardian.kill()
        lab.process.send_signal(signal.SIGKILL)
        lab.process.wait()
        assert len(lab.left) >= 5
        assert cleanup.end_abandoned() == 1
        assert lab.left == []
        assert not lab.folder.exists()
    assert {path for path, _ in ownership.replicas()} == {mine, stays}


@pytest.mark.replica
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else; then all runs are")
def test_it_needs_no_root(folder: Path) -> None:
    python = python_of_nobody()
    if python is None:
        pytest.skip(UNREACHED)
    me = pwd.getpwnam("nobody")
    with one_lab(folder, user="nobody", python=python) as lab:
        assert {process.uids().real for process in lab.left} == {me.pw_uid}
        assert upload(lab.about["url"]).status_code == 200
        lab.process.communicate("close\n", timeout=30)
        assert lab.process.returncode == 0
        assert not lab.folder.exists()
