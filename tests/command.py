"""The ``lab`` command as tests use it: its processes, its specs, and what they leave."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from lab.paths import ROOT
from lab.stack import ownership, ports

LIMIT_S = 240
"""After so long a command hangs; how long it takes says nothing."""

SHORT = """\
experiment: short
about: does a small load end?
knobs: {speed: 5, gcs_call: executor}
matrix:
  workers: [1, 2]
load: {users: 6, ramp: 0 s, warmup: 1 s, window: 10 s, audio: 20 KB}
criteria: [error_rate < 50 %]
"""
"""Two cells of about four wall seconds each."""


def spec(folder: Path, text: str = SHORT) -> Path:
    """A spec file."""
    file = folder / "spec.yaml"
    file.write_text(text)
    return file


def environment(changes: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """This environment with some variables set, and those that are None taken out."""
    changed = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "REPLICA_LAB_STACK": "embedded",
        "REPLICA_LAB_RETRIES": "0",  # a busy machine is no failure, and would be waited for
        **(changes or {}),
    }
    changed.pop(ownership.MARKER, None)  # of a replica that this process itself keeps
    return {name: value for name, value in changed.items() if value is not None}


def lab(
    *arguments: str | Path,
    cwd: Path,
    env: Mapping[str, str | None] | None = None,
    limit: float = LIMIT_S,
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, which it reaches within so many seconds."""
    return subprocess.run(
        [sys.executable, "-m", "lab", *map(str, arguments)],
        cwd=cwd,
        env=environment(env),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=limit,
        check=False,
    )


@contextmanager
def started(
    *arguments: str | Path, cwd: Path, env: Mapping[str, str | None] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """The command, running; killed if it still does at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "lab", *map(str, arguments)],
        cwd=cwd,
        env=environment(env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for_line(process: subprocess.Popen[str], *words: str) -> str:
    """Read the command's standard error up to the line that holds all these words."""
    assert process.stderr
    read = []
    for line in process.stderr:
        read.append(line)
        if all(word in line for word in words):
            return line
    raise AssertionError(f"{words} did not come: {''.join(read)}")


class Leftovers:
    """All that a replica is made of now, to see later that none of it is left.

    Args:
        results: the results folder that the replica belongs to.
    """

    def __init__(self, results: Path) -> None:
        here = str(results.resolve())
        [found] = [each for each in ownership.replicas() if each[1].results == here]
        self.folder, self.owner = found
        self.ports = set(self._listening())

    def processes(self) -> list[psutil.Process]:
        """Its processes that are there now."""
        return ownership.processes(self.owner.id)

    def gone(self) -> bool:
        """Whether its processes and its folder are gone, as they are a moment after a SIGKILL."""
        return not self.processes() and not self.folder.exists()

    def _listening(self) -> Iterator[int]:
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                for connection in process.net_connections("inet"):
                    if connection.status == psutil.CONN_LISTEN:
                        yield connection.laddr.port

    def assert_nothing_left(self) -> None:
        """No process, no folder, and nothing that listens where it did."""
        assert self.processes() == []
        assert not self.folder.exists()
        assert [port for port in self.ports if ports.accepts(port)] == []
