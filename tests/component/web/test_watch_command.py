"""``lab watch``, and ``lab run --watch``: where the page is, what is wrong, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from lab.cli import watcher
from lab.cli.watcher import adopt, listen, watched
from lab.errors import MachineError, UsageError
from lab.stack import ports
from tests.cli_fixture import Command, lab, the_line
from tests.command import environment, started
from tests.component.cli.faked import Faked
from tests.component.web.serving import events
from tests.fakes import FakeStack, sample_run
from tests.fakes.live_run import going_on

lab = lab

ADDRESS = re.compile(r"the live page: (http://127\.0\.0\.1:\d+) ")


@contextmanager
def watching(folder: Path, *more: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The command's page, once it is there, and its process."""
    [port] = ports.free(1)
    with started("watch", *more, "--port", str(port), cwd=folder) as process:
        assert process.stderr
        found = ADDRESS.search(process.stderr.readline())
        assert found
        address = found[1]
        yield address, process


def test_the_page_is_where_the_command_says_and_ends_by_ctrl_c(tmp_path: Path) -> None:
    run = sample_run.stored(tmp_path / "results", finished=2)
    with watching(tmp_path) as (address, process):
        assert run.info.name in requests.get(address, timeout=20).text
        ear = events(f"{address}/events")
        next(ear)
        process.send_signal(signal.SIGINT)
        *_, last = ear
        out, err = process.communicate(timeout=20)
    assert (last.name, process.returncode, out) == ("end", 130, "")
    assert err == "lab: interrupted\n"


def test_a_run_that_is_named_is_the_one_that_is_shown(tmp_path: Path) -> None:
    named = sample_run.stored(tmp_path / "elsewhere", finished=2)
    sample_run.create(tmp_path / "results")
    with watching(tmp_path, str(named.path)) as (address, _):
        assert named.info.name in requests.get(address, timeout=20).text
        assert named.info.name in requests.get(f"{address}/runs", timeout=20).text


def test_two_watchers_of_one_run_show_the_same(tmp_path: Path) -> None:
    sample_run.stored(tmp_path / "results", finished=2)
    with watching(tmp_path) as (one, _), watching(tmp_path) as (other, _):
        assert requests.get(one, timeout=20).text == requests.get(other, timeout=20).text


def taken_port(_folder: Path) -> tuple[list[str], int, str]:
    [port] = ports.free(1)
    holder = socket.create_server(("127.0.0.1", port))
    HELD.append(holder)
    what = f"port {port} on 127.0.0.1 cannot be used (Address already in use)"
    return ["--port", str(port)], 3, f"{what} - choose another with --port"


HELD: list[socket.socket] = []


def no_such_run(_folder: Path) -> tuple[list[str], int, str]:
    line = "'nothing' is neither a run in results nor a folder - `lab runs` lists the runs"
    return ["nothing"], 2, line


def a_folder_that_is_no_run(folder: Path) -> tuple[list[str], int, str]:
    (folder / "empty").mkdir()
    line = "empty is not a run folder (it holds no run.json) - `lab runs` lists the runs"
    return ["empty"], 2, line


def a_run_of_a_later_lab(folder: Path) -> tuple[list[str], int, str]:
    run = sample_run.stored(folder / "results", finished=1)
    info = (run.path / "run.json").read_text()
    (run.path / "run.json").write_text(info.replace('"schema_version": 2', '"schema_version": 99'))
    path = f"results/{run.path.name}/run.json"
    return (
        [run.path.name],
        2,
        f"{path}: written by a later lab (schema_version 99; this lab reads up to 2) - use the "
        "version of the lab that wrote it, or a later one",
    )


def a_run_that_is_half_written(folder: Path) -> tuple[list[str], int, str]:
    run = sample_run.stored(folder / "results", finished=1)
    (run.path / "run.json").write_text("{")
    path = f"results/{run.path.name}/run.json"
    return (
        [run.path.name],
        3,
        f"{path}:1: the file is damaged: Expecting property name enclosed in double quotes - "
        "restore the file from a copy, or run the experiment again",
    )


def no_port(_folder: Path) -> tuple[list[str], int, str]:
    line = "Invalid value for '--port': 0 is not in the range 1<=x<=65535 - see `lab watch --help`"
    return ["--port", "0"], 2, line


def no_socket(_folder: Path) -> tuple[list[str], int, str]:
    return ["--socket", "9999"], 2, "--socket 9999 is no socket on 127.0.0.1 - leave it out"


@pytest.mark.parametrize(
    "case",
    [
        *(taken_port, no_such_run, a_folder_that_is_no_run, a_run_of_a_later_lab),
        *(a_run_that_is_half_written, no_port, no_socket),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    tmp_path: Path, lab: Command, monkeypatch: pytest.MonkeyPatch, case: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, code, line = case(tmp_path)
    try:
        ended = lab("watch", *arguments)
    finally:
        while HELD:
            HELD.pop().close()
    assert (ended.code, ended.out, the_line(ended.err)) == (code, "", line)


def test_a_socket_that_others_could_reach_is_not_adopted() -> None:
    with socket.socket() as everywhere:
        everywhere.bind(("0.0.0.0", 0))
        everywhere.listen()
        with pytest.raises(UsageError, match="no socket on 127"):
            adopt(os.dup(everywhere.fileno()))


def test_a_run_takes_another_port_where_its_own_is_taken() -> None:
    with listen(0) as holder, pytest.raises(MachineError, match="choose another with --port"):
        listen(holder.getsockname()[1])
    with listen(0) as holder, listen(holder.getsockname()[1], or_any=True) as other:
        assert other.getsockname()[0] == "127.0.0.1"
        assert other.getsockname()[1] != holder.getsockname()[1]


def children() -> list[psutil.Process]:
    """Watchers that this process has."""
    found = psutil.Process().children()
    return [
        child for child in found if "watch" in child.cmdline() and "--socket" in child.cmdline()
    ]


def page_of(err: str) -> str:
    found = ADDRESS.search(err)
    assert found
    return found[1]


def test_the_page_beside_a_run_ends_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with going_on(tmp_path / "results") as run:
        with watched(tmp_path / "results", wanted=True):
            address = page_of(capsys.readouterr().err)
            [child] = children()
            ear = events(f"{address}/events")
            assert run.info.name in next(ear).data["head"]
        *_, last = ear
    assert last.name == "end"
    assert "lab watch latest" in last.data
    assert not child.is_running()
    with pytest.raises(requests.ConnectionError):
        requests.get(address, timeout=5)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_page_that_was_killed_or_hangs_is_nothing_to_its_run(
    tmp_path: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "END_S", 0.5)
    with watched(tmp_path / "results", wanted=True):
        [child] = children()
        child.send_signal(number)
    assert not child.is_running()


def test_a_run_without_a_page_has_no_process_more(tmp_path: Path) -> None:
    with watched(tmp_path / "results", wanted=False):
        assert children() == []


PARENT = """\
import os, sys, time
from pathlib import Path
from lab.cli.watcher import watched
with watched(Path("results"), wanted=True):
    print(flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_page_ends_when_its_lab_was_killed(tmp_path: Path, number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr
        address = page_of(process.stderr.readline())
        assert requests.get(address, timeout=20).status_code == 200
        [child] = psutil.Process(process.pid).children()
    finally:
        process.send_signal(number)
        process.communicate(timeout=10)
    child.wait(10)


def test_a_run_that_is_watched_ends_as_one_that_is_not(
    tmp_path: Path, lab: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = (
        "experiment: short\nload: {users: 6, ramp: 0 s, warmup: 1 s, window: 10 s, audio: 20 KB}\n"
    )
    faked = Faked(tmp_path, FakeStack(tmp_path / "stack"), spec)
    before = time.monotonic()
    with faked.wired(monkeypatch):
        plain = lab("run", faked.spec)
        beside = lab("run", faked.spec, "--watch")
    assert (beside.code, beside.out.split("\n")[0]) == (plain.code, plain.out.split("\n")[0])
    assert page_of(beside.err)
    assert not ADDRESS.search(plain.err)
    assert children() == []
    assert time.monotonic() - before < 60
