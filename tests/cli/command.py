"""The ``lab`` command as tests use it: its processes, its specs, and what they leave."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

from lab.stack import owner
from tests.test_architecture import ROOT

LIMIT_S = 120
"""After so long a command hangs; how long it takes says nothing."""

SHORT = """\
experiment: short
about: does a small load end?
knobs: {speed: 10, gcs_call: executor, gcs_latency: 200-500 ms}
matrix:
  workers: [1, 2]
load: {users: 4, ramp: 0 s, warmup: 1 s, window: 10 s, audio: 20 KB}
criteria: [error_rate < 50 %]
"""
"""Two cells of about three wall seconds each."""


def spec(folder: Path, text: str = SHORT) -> Path:
    """A spec file."""
    file = folder / "spec.yaml"
    file.write_text(text)
    return file


def environment(changes: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """This environment with some variables set, and those that are None taken out."""
    changed = {**os.environ, "PYTHONPATH": str(ROOT), **(changes or {})}
    changed.pop(owner.MARKER, None)  # of a replica that this process itself keeps
    return {name: value for name, value in changed.items() if value is not None}


def lab(
    *arguments: str | Path,
    cwd: Path,
    env: Mapping[str, str | None] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "lab", *map(str, arguments)],
        cwd=cwd,
        env=environment(env),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=LIMIT_S,
        check=False,
    )


@contextmanager
def started(*arguments: str | Path, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    """The command, running; killed if it still does at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "lab", *map(str, arguments)],
        cwd=cwd,
        env=environment(),
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


def replica_of(results: Path) -> tuple[Path, owner.Owner]:
    """The replica that belongs to a results folder."""
    [found] = [each for each in owner.replicas() if each[1].results == str(results.resolve())]
    return found


def listening(processes: list[psutil.Process]) -> set[int]:
    """The ports that processes listen on."""
    ports = set()
    for process in processes:
        for connection in process.net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN:
                ports.add(connection.laddr.port)
    return ports
