"""A warm program forks processes that are as new as if each had been started by itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from lab.model import processes
from lab.paths import ROOT
from lab.warm import UNKNOWN, ForkedProcess, NotForked, Request, WarmProgram
from tests.component.load import programs
from tests.component.load.conftest import wait_for

WITHIN_S = 20.0


@pytest.fixture
def telling() -> Iterator[WarmProgram]:
    program = WarmProgram(f"{programs.__name__}:tell")
    yield program
    program.close()


@pytest.fixture
def sleeping() -> Iterator[WarmProgram]:
    program = WarmProgram(f"{programs.__name__}:sleep")
    yield program
    program.close()


def fork(program: WarmProgram, folder: Path, **given: object) -> ForkedProcess:
    request = Request(
        **{"title": "a test", "arguments": [], "env": {}, "folder": str(folder), **given}  # type: ignore[arg-type]
    )
    with (folder / "log").open("wb") as log:
        return program.fork(request, log.fileno())


def told(folder: Path) -> dict[str, object]:
    answer: dict[str, object] = json.loads((folder / "log").read_text())
    return answer


def test_a_process_has_what_was_asked_for_and_nothing_else(
    telling: WarmProgram, tmp_path: Path
) -> None:
    core = min(os.sched_getaffinity(0))
    process = fork(
        telling, tmp_path, arguments=["-f", "x"], env={"A": "b"}, umask=0o027, cores=[core]
    )
    assert process.wait(WITHIN_S) == 0
    assert told(tmp_path) == {
        "arguments": ["-f", "x"],
        "env": {"A": "b"},
        "folder": str(tmp_path),
        "umask": 0o027,
        "cores": [core],
        "input": "",
        "leader": True,
        "files": 4,  # three of its own, and the folder that it lists
        "calls": 1,
    }


def test_each_process_is_new(telling: WarmProgram, tmp_path: Path) -> None:
    first = fork(telling, tmp_path)
    assert first.wait(WITHIN_S) == 0
    second = fork(telling, tmp_path)
    assert second.wait(WITHIN_S) == 0
    assert first.pid != second.pid
    assert told(tmp_path)["calls"] == 1


def test_how_a_process_ended_is_told_as_of_a_child(sleeping: WarmProgram, tmp_path: Path) -> None:
    process = fork(sleeping, tmp_path)
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.1)
    process.kill()
    assert process.wait(WITHIN_S) == -signal.SIGKILL
    assert process.poll() == process.returncode == -signal.SIGKILL
    assert not psutil.pid_exists(process.pid)
    process.send_signal(signal.SIGTERM)


def test_its_title_is_its_own(sleeping: WarmProgram, tmp_path: Path) -> None:
    process = fork(sleeping, tmp_path, title="locust -f locustfile.py")
    wait_for(lambda: processes.title(process.pid) == "locust -f locustfile.py")
    assert "lab.warm" in processes.title(sleeping.start())
    process.kill()


def test_what_waits_takes_no_cpu(sleeping: WarmProgram, tmp_path: Path) -> None:
    process = fork(sleeping, tmp_path)
    warm = psutil.Process(sleeping.start())
    before = warm.cpu_times()
    time.sleep(0.5)
    assert warm.cpu_times() == before
    process.kill()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_one_that_is_dead_or_stopped_is_replaced(
    sleeping: WarmProgram, tmp_path: Path, number: signal.Signals
) -> None:
    pid = sleeping.start()
    os.kill(pid, number)
    wait_for(lambda: not (state := processes.state_of(pid)) or state.letter in "TZ")
    process = fork(sleeping, tmp_path)
    assert psutil.Process(process.pid).ppid() == sleeping.start() != pid
    assert not psutil.pid_exists(pid)
    process.kill()
    assert process.wait(WITHIN_S) == -signal.SIGKILL


def test_a_process_outlives_it_and_its_end_is_noticed(
    sleeping: WarmProgram, tmp_path: Path
) -> None:
    process = fork(sleeping, tmp_path)
    os.kill(sleeping.start(), signal.SIGKILL)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.2)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(WITHIN_S) == UNKNOWN


def test_a_program_that_cannot_be_imported_says_why(tmp_path: Path) -> None:
    program = WarmProgram("lab.load.spoon")
    with pytest.raises(NotForked) as failed:
        fork(program, tmp_path)
    said = "(exit code 1): ModuleNotFoundError: No module named 'lab.load.spoon'"
    assert str(failed.value) == said
    program.close()


def test_it_ends_with_who_has_started_it(tmp_path: Path) -> None:
    code = f"""
        import time
        from pathlib import Path
        from lab.warm import WarmProgram
        program = WarmProgram("json")
        Path({str(tmp_path / "pid")!r}).write_text(str(program.start()))
        time.sleep(60)
    """
    starter = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT)
    try:
        wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    finally:
        starter.kill()
        starter.wait()
    pid = int((tmp_path / "pid").read_text())
    wait_for(lambda: not processes.runs(pid))
