"""The driver holds its promise whatever becomes of the generator."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

import lab
from lab.errors import PartFailed, SpecError, StoreError
from lab.load import driver
from lab.load.driver import LoadStart, LocustLoad, StoodStill
from lab.load.plan import PLAN_VARIABLE
from lab.load.session import LEAD
from lab.model.clock import BEAT_S, STILL_S
from lab.model.load import ClosedLoad, Load
from lab.model.run import LoadTick
from tests.component.load import programs
from tests.component.load.conftest import Service, cell_of, load_of, read_samples, wait_for

NOTICED_WITHIN_S = 4.0
"""Of these up to 2 s are the end of a generator that was frozen."""
LONG = {"users": 5, "ramp": 0, "warmup": 0, "window": 60, "think": 0.01}


def run(
    folder: Path,
    url: str,
    load: Load,
    tick: Callable[[LoadTick], None] = lambda _tick: None,
    on_start: Callable[[LoadStart], None] | None = None,
) -> None:
    samples, log = folder / "samples.jsonl", folder / "generator.log"
    LocustLoad().run(cell_of(load), url, samples, log, tick, on_start)


def test_what_a_tick_raises_ends_the_generator_and_leaves_whole_lines(
    tmp_path: Path, service: Service
) -> None:
    pids: list[int] = []

    def stop(tick: LoadTick) -> None:
        if tick.answered > 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, service.url, load_of(**LONG), stop, lambda start: pids.append(start.pid))
    assert not psutil.pid_exists(pids[0])
    assert len(read_samples(tmp_path / "samples.jsonl")) > 20


def test_the_process_id_is_known_from_the_start_and_gone_at_the_end(
    tmp_path: Path, service: Service
) -> None:
    load = LocustLoad()
    seen: list[int | None] = []
    samples, log = tmp_path / "samples.jsonl", tmp_path / "generator.log"
    cell = cell_of(load_of(burst=1))
    result = load.run(
        cell,
        service.url,
        samples,
        log,
        lambda _tick: seen.append(load.pid),
        lambda _start: seen.append(load.pid),
    )
    assert set(seen) == {result.pid}
    assert load.pid is None
    assert not psutil.pid_exists(result.pid)


def test_t_zero_is_told_before_the_first_upload(tmp_path: Path, service: Service) -> None:
    starts: list[tuple[float, float]] = []
    load = load_of(burst=1)
    run(
        tmp_path,
        service.url,
        load,
        on_start=lambda start: starts.append((start.t0, time.monotonic())),
    )
    ((t0, then),) = starts
    assert then - t0 < read_samples(tmp_path / "samples.jsonl")[0].latency_s + 5
    assert t0 - then <= LEAD


def test_a_generator_that_is_terminated_is_a_part_that_failed(
    tmp_path: Path, service: Service
) -> None:
    pids: list[int] = []

    def kill(tick: LoadTick) -> None:
        if tick.answered > 20 and pids:
            os.kill(pids.pop(), signal.SIGTERM)

    with pytest.raises(PartFailed, match=r"the load generator died \(exit code 143\): .+ - see "):
        run(tmp_path, service.url, load_of(**LONG), kill, lambda start: pids.append(start.pid))
    assert len(read_samples(tmp_path / "samples.jsonl")) > 20


def test_a_generator_that_cannot_start_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "PROGRAM", (f"{programs.__name__}:have_no_spoon",))
    with pytest.raises(PartFailed) as failed:
        run(tmp_path, "http://127.0.0.1:9", load_of(burst=1))
    assert str(failed.value) == (
        "the load generator did not start (exit code 1): no such spoon "
        f"- see {tmp_path / 'generator.log'}"
    )


def test_a_generator_that_cannot_be_imported_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "PROGRAM", ("lab.load.spoon",))
    said = "the load generator did not start (exit code 1): ModuleNotFoundError: No module named "
    with pytest.raises(PartFailed, match=re.escape(f"{said}'lab.load.spoon' - see ")):
        run(tmp_path, "http://127.0.0.1:9", load_of(burst=1))
    assert "'lab.load.spoon'" in (tmp_path / "generator.log").read_text()


def test_a_generator_that_never_gets_ready_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "PROGRAM", (f"{programs.__name__}:sleep",))
    monkeypatch.setattr(driver, "START_LIMIT", 0.3)
    with pytest.raises(PartFailed, match=r"was not ready within 0.3 s: it printed nothing"):
        run(tmp_path, "http://127.0.0.1:9", load_of(burst=1))


def test_a_generator_that_hangs_is_killed_at_its_deadline(
    tmp_path: Path, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped process does not even take SIGTERM."""
    monkeypatch.setattr(driver, "GRACE", 0.2)
    monkeypatch.setattr(driver, "TERM_LIMIT", 0.3)
    pids: list[int] = []

    def freeze(start: LoadStart) -> None:
        pids.append(start.pid)
        os.kill(start.pid, signal.SIGSTOP)

    with pytest.raises(PartFailed, match="the load generator did not end"):
        run(tmp_path, service.url, load_of(burst=1, timeout=0.1), on_start=freeze)
    assert not psutil.pid_exists(pids[0])


def test_a_generator_that_stands_still_is_noticed_and_ended_at_once(
    tmp_path: Path, service: Service
) -> None:
    starts: list[LoadStart] = []
    frozen: list[float] = []

    def freeze(tick: LoadTick) -> None:
        if tick.answered > 20 and not frozen:
            frozen.append(time.monotonic())
            os.kill(starts[0].pid, signal.SIGSTOP)

    with pytest.raises(StoodStill, match=r"^it stood still for 1\.[5-9] s, from \d+\.\d s$"):
        run(tmp_path, service.url, load_of(**LONG), freeze, starts.append)
    assert time.monotonic() - frozen[0] < NOTICED_WITHIN_S
    assert not psutil.pid_exists(starts[0].pid)


def test_a_generator_with_little_to_do_gives_signs_of_life_to_the_end(
    tmp_path: Path, service: Service
) -> None:
    load, samples = load_of(users=1, ramp=0, warmup=0, window=2, think=0.9), tmp_path / "s.jsonl"
    cell = cell_of(load)
    result = LocustLoad().run(cell, service.url, samples, tmp_path / "log", lambda _tick: None)
    lines = samples.read_text().split("\n")
    beats = [json.loads(line)["beat"] for line in lines if line.startswith('{"beat"')]
    [*_, last] = read_samples(samples)
    assert result.beat_s == BEAT_S
    assert beats[0] < 0
    assert beats[-1] > last.sent_at + last.latency_s - STILL_S
    assert max(later - before for before, later in pairwise(beats)) < STILL_S
    assert len(beats) > 10


def _to_a_link(path: Path, others: Path) -> None:
    path.rename(others.parent / "moved")
    path.symlink_to(others if (others.parent / "moved").is_dir() else others / path.name)


def _to_a_pipe(path: Path, _others: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("place", "replace", "kind"),
    [
        ("cells/c/samples.jsonl", _to_a_link, "a link"),
        ("cells/c/samples.jsonl", _to_a_pipe, "a named pipe"),
        ("cells/c/logs/generator.status.json", _to_a_link, "a link"),
        ("cells/c/logs/generator.status.json", _to_a_pipe, "a named pipe"),
        ("cells/c/logs", _to_a_link, "a link"),
        ("cells/c", _to_a_link, "a link"),
        ("cells", _to_a_link, "a link"),
        (".", _to_a_link, "a link"),
    ],
)
def test_what_somebody_puts_in_a_files_place_ends_the_load_and_is_left(
    tmp_path: Path,
    service: Service,
    place: str,
    replace: Callable[[Path, Path], None],
    kind: str,
) -> None:
    others, cell = tmp_path / "others", tmp_path / "run" / "cells" / "c"
    for folder in (others, others / "logs", others / "c" / "logs", others / "cells" / "c" / "logs"):
        folder.mkdir(parents=True, exist_ok=True)
    names = ("samples.jsonl", "generator.status.json", "generator.log")
    folders = [others, *(path for path in others.rglob("*") if path.is_dir())]
    theirs = [folder / name for folder in folders for name in names]
    for file in theirs:
        file.write_text("three years of work")
    there = sorted(others.rglob("*"))
    pids: list[int] = []

    def strike(tick: LoadTick) -> None:
        if tick.answered > 20 and pids[1:] == []:
            pids.append(0)
            replace(tmp_path / "run" / place, others)

    samples, log = cell / "samples.jsonl", cell / "logs" / "generator.log"
    load = cell_of(load_of(**LONG))
    with pytest.raises(StoreError, match=f"is {kind} in place of a (file|folder) of the lab's"):
        LocustLoad().run(
            load, service.url, samples, log, strike, lambda start: pids.append(start.pid)
        )
    assert not psutil.pid_exists(pids[0])
    assert sorted(others.rglob("*")) == there
    assert {file.read_text() for file in theirs} == {"three years of work"}


def test_a_full_disk_ends_the_load_with_its_reason(tmp_path: Path, service: Service) -> None:
    """A limit on the size of the generator's files stands for the disk."""

    def fill(start: LoadStart) -> None:
        resource.prlimit(start.pid, resource.RLIMIT_FSIZE, (2000, 2000))

    with pytest.raises(PartFailed, match=r"died \(exit code 1\): OSError: .*(disk|large)"):
        run(tmp_path, service.url, load_of(**LONG), on_start=fill)


def test_a_generator_without_a_file_left_ends_the_load_and_blames_nobody_else(
    tmp_path: Path, service: Service
) -> None:
    """Of what it lacked itself, each upload would look as if the service had cut it off."""

    def starve(start: LoadStart) -> None:
        room = len(list(Path(f"/proc/{start.pid}/fd").iterdir())) + 8
        resource.prlimit(start.pid, resource.RLIMIT_NOFILE, (room, room))

    said = (
        r"died \(exit code 1\): OSError: .*Too many open files(?!:)"  # not of a file: of a socket
    )
    with pytest.raises(PartFailed, match=said):
        run(tmp_path, service.url, load_of(burst=40), on_start=starve)


def test_a_load_that_cannot_be_offered_starts_nothing(tmp_path: Path) -> None:
    load = ClosedLoad.model_construct(users=5001)
    with pytest.raises(SpecError, match="5001 users"):
        run(tmp_path, "http://127.0.0.1:9", load)
    assert list(tmp_path.iterdir()) == []


def test_the_generator_does_not_outlive_a_driver_that_is_killed(
    tmp_path: Path, service: Service
) -> None:
    code = f"""
        from pathlib import Path
        from tests.component.load.conftest import load_of
        from tests.component.load.test_driver import LONG, run
        folder = Path({str(tmp_path)!r})
        write = lambda start: (folder / "pid").write_text(str(start.pid))
        run(folder, {service.url!r}, load_of(**LONG), on_start=write)
    """
    root = Path(lab.__file__).parents[1]
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], cwd=root)
    try:
        wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    finally:
        process.kill()
        process.wait()
    pid = int((tmp_path / "pid").read_text())
    wait_for(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie")


def test_settings_meant_for_locust_do_not_reach_the_generator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOCUST_RUN_TIME", "1s")
    monkeypatch.setenv(PLAN_VARIABLE, "/elsewhere")
    made = driver.generator_environment()
    assert not [name for name in made if name.startswith("LOCUST_") or name == PLAN_VARIABLE]


def test_importing_the_driver_patches_nothing() -> None:
    code = (
        "import sys, lab.load.driver, lab.load.web; "
        "print([m for m in ('gevent', 'locust', 'geventhttpclient') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
