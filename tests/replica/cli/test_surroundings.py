"""The user's environment, umask and temporary folder neither reach the replica nor break it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from lab.store import find
from tests import command
from tests.live import upload

pytestmark = pytest.mark.replica

QUICK = command.SHORT.replace("speed: 5", "speed: 10").replace("[1, 2]", "[2]")

HOSTILE = {
    "PGSSLMODE": "require",
    "PGCHANNELBINDING": "require",
    "PGGSSENCMODE": "require",
    "PGOPTIONS": "-c statement_timeout=1",
    "PGCLIENTENCODING": "EUC_JP",
    "PGHOSTADDR": "192.0.2.1",
    "PGSERVICE": "of-the-user",
    "PGPASSFILE": "/nonexistent/pgpass",
    "PGDATA": "/nonexistent/data",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "ALL_PROXY": "http://127.0.0.1:9",
    "http_proxy": "http://127.0.0.1:9",
    "NO_PROXY": "example.org",
    "no_proxy": "example.org",
    "REQUESTS_CA_BUNDLE": "/nonexistent/ca",
    "SSL_CERT_FILE": "/nonexistent/ca",
    "PYTHONSTARTUP": "/nonexistent/startup.py",
    "PYTHONWARNINGS": "error",
    "PYTHONHASHSEED": "1",
    "LD_PRELOAD": "/nonexistent/preloaded.so",
    "LOCUST_USERS": "999",
    "LAB_WORKERS": "99",
    "STORAGE_EMULATOR_HOST": "http://192.0.2.1",
    "SPEECH_URL": "http://192.0.2.1",
    "GOOGLE_APPLICATION_CREDENTIALS": "/nonexistent/credentials",
    "NGINX": "9;",
    "BASH_ENV": "/nonexistent/bash_env",
    "ENV": "/nonexistent/env",
    "AWS_SECRET_ACCESS_KEY": "a-secret-of-the-user",
}
ARE_SET = {"LAB_WORKERS", "STORAGE_EMULATOR_HOST", "SPEECH_URL"}
"""What the backend is given by the lab, with values of its own."""


def test_a_hostile_environment_reaches_no_part_and_breaks_none(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / ".netrc").write_text("default login somebody password else\n")
    (home / ".netrc").chmod(0o600)
    env = {**HOSTILE, "HOME": str(home)}
    with command.started("run", command.spec(tmp_path, QUICK), cwd=tmp_path, env=env) as process:
        command.wait_for_line(process, "[1/1]", "window")
        told = {child.pid: _told(child) for child in psutil.Process(process.pid).children(True)}
        left = command.Leftovers(tmp_path / "results")
        _, err = process.communicate(timeout=command.LIMIT_S)
    assert process.returncode in (0, 4), err
    assert len(told) > 10  # two workers, their master, five of Postgres, the generator, …
    for variables in told.values():
        reached = {
            name
            for name, value in HOSTILE.items()
            if f"{name}={value}" in variables or (name not in ARE_SET and name in _names(variables))
        }
        assert reached == set()
    left.assert_nothing_left()
    [cell] = find(tmp_path / "results", "latest").summary().cells
    assert cell.metrics["error_rate"] == 0


def _told(process: psutil.Process) -> list[str]:
    """The environment and the arguments that a process was started with, as it has them now."""
    held = b""
    for file in ("environ", "cmdline"):
        try:
            held += Path(f"/proc/{process.pid}/{file}").read_bytes() + b"\0"
        except OSError:
            continue  # ended meanwhile
    return held.decode(errors="replace").split("\0")


def _names(variables: list[str]) -> set[str]:
    return {variable.partition("=")[0] for variable in variables}


@pytest.mark.parametrize(
    ("umask", "name"), [(0o027, "plain"), (0o077, """a b;c"d'e$f{g}#h*[i]\\j""")]
)
def test_uploads_succeed_whatever_the_umask_and_the_temporary_folder(
    umask: int, name: str, reachable: Path
) -> None:
    temporary = reachable / name
    temporary.mkdir(mode=0o711)
    env = {"TMPDIR": str(temporary)}
    before = os.umask(umask)
    try:
        up = command.lab("up", "--no-faults", "--speed", "20", "--json", cwd=reachable, env=env)
    finally:
        os.umask(before)
    try:
        assert up.returncode == 0, up.stderr
        record = json.loads(up.stdout)
        assert upload(record["url"], size=200_000).status_code == 200
        assert (Path(record["logs"]) / "nginx-access.log").read_text().count('"status":200') >= 1
    finally:
        down = command.lab("down", cwd=reachable, env=env)
    assert down.returncode == 0, down.stderr
    assert list(temporary.iterdir()) == []


@contextmanager
def small(folder: Path, size: str) -> Iterator[None]:
    """A file system of this size in the folder."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=1777", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this user may mount nothing")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


FULL = (
    r"(cannot write \S+: )?No space left on device - "
    r"free some space on its disk(, or choose another folder with --results DIR)?"
)
LOGS = (
    rf"(; and then the logs could not be kept: results/\S+/logs: {FULL}"
    r"|; every part's log is in results/\S+/logs)?"
)
"""Where they are, or that there was no room for them either."""
GO_ON = r"; 0 of 1 cells are kept - go on with `lab run --resume \S+/\d+T\d+Z-short-\w+`"


@pytest.mark.parametrize(
    ("where", "size", "line"),
    [
        (
            "temporary",
            "1m",
            r"postgres: initdb failed in {full}/replica-lab-\w+/postgres: "
            r".*could not write to file .*: No space left on device - "
            r"make room there, or set TMPDIR to another folder; "
            r"every part's log is in \S+",
        ),
        (
            "results",
            "80k",
            rf"results/\S+/cells/workers=2/?\S*: {FULL}{LOGS}",
        ),
    ],
    ids=["temporary", "results"],
)
def test_a_full_disk_is_told_with_the_file_and_how_to_go_on(
    where: str, size: str, line: str, reachable: Path
) -> None:
    folders = {name: reachable / name for name in ("temporary", "results")}
    for folder in folders.values():
        folder.mkdir()
    spec = command.spec(reachable, QUICK)
    env = {"TMPDIR": str(folders["temporary"])}
    with small(folders[where], size):
        ended = command.lab("run", spec, cwd=reachable, env=env)
        assert ended.returncode == 3
        last = ended.stderr.splitlines()[-1]
        assert re.match(f"lab: {line.format(full=folders[where])}{GO_ON}", last), last
        assert list(folders["temporary"].iterdir()) == []
