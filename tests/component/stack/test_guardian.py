"""A guardian that stands still, or was killed, keeps nobody waiting and nothing from its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from lab.stack import ownership
from lab.stack.ownership import Guardian
from tests.component.cloudrun.permitted import needs_cgroups
from tests.live import wait_until
from validation.struck import Blow, freeze


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def process_of(folder: Path) -> psutil.Process:
    """The process that guards this replica now: the only child that has its folder."""
    found: list[psutil.Process] = []

    def titled() -> bool:  # which a process is a moment after it was started
        children = psutil.Process().children()
        living = [child for child in children if child.status() != psutil.STATUS_ZOMBIE]
        found[:] = [child for child in living if str(folder) in child.cmdline()]
        return bool(found)

    wait_until(titled)
    [only] = found
    return only


def untouched(_process: psutil.Process) -> None: ...


def frozen(process: psutil.Process) -> None:
    process.suspend()
    wait_until(lambda: process.status() == psutil.STATUS_STOPPED)


def killed(process: psutil.Process) -> None:
    process.kill()


def hung_up(process: psutil.Process) -> None:
    """It ignores what a terminal sends as it closes."""
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        process.send_signal(number)


@pytest.mark.parametrize("what", [untouched, frozen, killed, hung_up])
def test_closing_takes_moments_and_ends_what_is_left(
    what: Callable[[psutil.Process], None], temporary: Path
) -> None:
    folder, mine = ownership.claim(temporary / "results")
    guardian = Guardian(folder)
    started(process_of(folder))
    env = {**os.environ, ownership.MARKER: mine.id}
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env=env
    ) as part:
        what(process_of(folder))
        before = time.monotonic()
        guardian.close()
        assert time.monotonic() - before < 10  # it was 65 s
        assert part.wait(5) == -signal.SIGKILL
    assert not folder.exists()


@needs_cgroups
def test_one_that_its_cgroup_has_frozen_is_replaced_in_moments(temporary: Path) -> None:
    folder, _ = ownership.claim(temporary / "results")
    guardian = Guardian(folder)
    first = process_of(folder)
    started(first)
    with ExitStack() as thawed:
        freeze(first.pid, Blow("freeze", 60.0), thawed)
        wait_until(lambda: guardian.down() == "frozen by its cgroup")
        before = time.monotonic()
        guardian.close()
        assert time.monotonic() - before < ownership.FROZEN_AFTER_S
        assert not folder.exists()


def started(process: psutil.Process) -> None:
    """Wait until it ignores signals: it has read the record, or is about to."""
    ignored = Path(f"/proc/{process.pid}/status")
    bit = 1 << (signal.SIGHUP - 1)
    wait_until(lambda: int(ignored.read_text().partition("SigIgn:")[2].split()[0], 16) & bit)


@pytest.mark.parametrize("what", [frozen, killed])
def test_another_takes_the_place_of_one_that_does_not_guard(
    what: Callable[[psutil.Process], None], temporary: Path
) -> None:
    folder, _ = ownership.claim(temporary / "results")
    guardian = Guardian(folder)
    first = process_of(folder)
    guardian.renew()
    assert process_of(folder) == first
    what(first)
    wait_until(lambda: first.status() in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE))
    guardian.renew()
    assert process_of(folder) != first
    guardian.close()
    assert not folder.exists()
