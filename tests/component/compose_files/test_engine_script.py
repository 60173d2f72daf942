"""What `make engine` starts holds nothing of whoever asked for it."""

from __future__ import annotations

import fcntl
import os
import subprocess
from pathlib import Path

import psutil
import pytest

from lab.paths import ROOT

PROGRAMS = {
    "docker": 'case "$1" in compose) echo 2 ;; *) test -e {folder}/runs && echo 1 ;; esac',
    "dockerd": "echo $$ >{folder}/runs.new; mv {folder}/runs.new {folder}/runs; exec sleep 60",
    "mmdebstrap": "",
    "apt-get": "",
    "id": "echo 0",
}


@pytest.mark.skipif(Path("/run/systemd/system").is_dir(), reason="systemd starts the engine here")
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="an engine runs on Linux")
def test_an_engine_that_it_starts_does_not_hold_a_lock_of_its_caller(tmp_path: Path) -> None:
    for name, text in PROGRAMS.items():
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{text.format(folder=tmp_path)}\n")
        program.chmod(0o755)
    env = {
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "LAB_ENGINE_LOG": str(tmp_path / "log"),
        "HOME": str(tmp_path),
    }
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(
            [ROOT / "compose" / "images" / "engine.sh"],
            env=env,
            pass_fds=[lock.fileno()],
            capture_output=True,
            text=True,
            timeout=60,
        )
    daemon = psutil.Process(int((tmp_path / "runs").read_text()))
    try:
        assert done.returncode == 0, done.stderr
        assert sorted(path.name for path in Path(f"/proc/{daemon.pid}/fd").iterdir()) == [
            *("0", "1", "2")
        ]
        assert os.getsid(daemon.pid) == daemon.pid
        with (tmp_path / "lock").open() as again:
            fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        daemon.kill()
