"""A kill, or a file system that refuses, at any step leaves whole files and finished cells."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from lab.errors import StoreError
from lab.model.experiment import Cell
from lab.store import RunFolder, find
from tests.fakes import sample_run as sample

WRITER = """
import sys
from pathlib import Path
from lab.store import find
from tests.fakes import sample_run as sample
run = find(Path(sys.argv[1]), "latest")
with run.lock():
    print("writing", flush=True)
    while True:
        for cell in run.cells():
            if run.cell(cell.id).finished():
                run.cell(cell.id).finish(sample.verdict(cell))
                run.write_summary()
            else:
                sample.measure(run, cell)
"""


def _killed_after(seconds: float, results: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(results)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"writing\n"
        time.sleep(seconds)  # the moment of the kill, not a wait for readiness
        writer.send_signal(signal.SIGKILL)


def _intact(run: RunFolder, finished_before: set[str]) -> set[str]:
    finished = set()
    for cell in run.cells():
        folder = run.cell(cell.id)
        if folder.finished():
            assert folder.read_verdict() == sample.verdict(cell)
            assert len(folder.read_observation().samples) == 20
            finished.add(cell.id)
        elif folder.observed():
            assert len(folder.read_observation().samples) == 20
    assert finished_before <= finished
    if (run.path / "summary.json").exists():
        assert {cell.id for cell in sample.read_summary(run).cells} <= finished
    return finished


def test_what_finished_survives_a_kill_at_any_moment(tmp_path: Path) -> None:
    sample.create(tmp_path)
    moments = random.Random(7)
    finished: set[str] = set()
    for _ in range(5):
        _killed_after(moments.uniform(0, 0.06), tmp_path)
        finished = _intact(find(tmp_path, "latest"), finished)
    run = find(tmp_path, "latest")
    with run.lock():
        assert list(run.path.rglob("*.tmp")) == []
        for cell in run.cells():
            if not run.cell(cell.id).finished():
                sample.measure(run, cell)
    assert len(_intact(run, finished)) == 12


def _writes(how: object) -> bool:
    """Whether a file is opened to be made, by the flags of `os.open` or the mode of `Path.open`."""
    return bool(how & os.O_CREAT) if isinstance(how, int) else "w" in str(how)


@contextmanager
def _counting(
    patch: pytest.MonkeyPatch,
    at: int,
    *,
    before: Callable[[], object] = int,
    after: Callable[[], object] = int,
) -> Iterator[list[str]]:
    """Do something around the ``at``-th change of the file system; yields the changes made."""
    calls: list[str] = []

    def counted(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            if name == "open" and not _writes(args[1]):
                return real(*args, **kwargs)
            calls.append(name)
            here = len(calls) == at
            if here:
                before()
            result = real(*args, **kwargs)
            if here:
                after()
            return result

        return call

    with patch.context() as context:
        for owner, name in (
            (os, "fsync"),
            (os, "replace"),
            (os, "open"),
            (os, "mkdir"),
            (os, "symlink"),
            (os, "link"),
            (os, "unlink"),
            (Path, "open"),
        ):
            context.setattr(owner, name, counted(name, getattr(owner, name)))
        yield calls


@contextmanager
def _failing(patch: pytest.MonkeyPatch, at: int, number: int) -> Iterator[list[str]]:
    """Let the ``at``-th change of the file system raise an OSError."""

    def refuse() -> None:
        raise OSError(number, os.strerror(number))

    with _counting(patch, at, before=refuse) as calls:
        yield calls


def _killed_at(patch: pytest.MonkeyPatch, at: int, work: Callable[[], object]) -> bool:
    """Do ``work`` in a child that is killed after its ``at``-th change; whether it came to that."""
    child = os.fork()
    if not child:
        code = 1
        try:
            with _counting(patch, at, after=partial(os.kill, os.getpid(), signal.SIGKILL)):
                work()
            code = 0
        finally:
            os._exit(code)  # whatever happened: the child must not go on as a second pytest
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return code != 0


def test_a_kill_at_each_step_of_a_cell_leaves_it_whole_or_unfinished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at, killed = 0, True
    while killed:
        at += 1
        run = sample.create(tmp_path / f"at-{at}")
        first, second = run.cells()[:2]
        sample.measure(run, first)
        killed = _killed_at(monkeypatch, at, partial(sample.measure, run, second))
        assert _intact(run, {first.id}) <= {first.id, second.id}
        for stored in run.path.rglob("*.json"):
            json.loads(stored.read_bytes())
    assert at > 10


def test_a_kill_at_each_step_of_clearing_never_leaves_half_an_observation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at, killed = 0, True
    while killed:
        at += 1
        run = sample.create(tmp_path / f"at-{at}")
        cell = run.cells()[0]
        sample.measure(run, cell)
        (run.cell(cell.id).path / "verdict.json").unlink()
        (run.path / "summary.json").unlink()
        assert run.cell(cell.id).observed()
        killed = _killed_at(monkeypatch, at, partial(run.begin, cell))
        _intact(run, set())
    assert at > 5


def _brought_to_its_end(run: RunFolder, cell: Cell) -> None:
    """What a run does that goes on: judge what was observed, and make again what is invalid."""
    folder = run.cell(cell.id)
    if folder.observed() and not folder.finished():
        second = any(folder.attempts.read())
        folder.finish(sample.verdict(cell) if second else sample.disturbed(cell))
    if not folder.finished():
        sample.measure(run, cell)
    elif not folder.settled():
        sample.measure_again(run, cell)


def test_a_kill_at_each_step_from_an_attempt_to_the_next_keeps_it_and_counts_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at, killed = 0, True
    while killed:
        at += 1
        run = sample.create(tmp_path / f"at-{at}", sample.cells()[:1])
        cell = run.cells()[0]
        folder = run.cell(cell.id)
        sample.measure(run, cell, sample.disturbed(cell))
        evidence = folder.evidence.read_bytes()
        killed = _killed_at(monkeypatch, at, partial(sample.measure_again, run, cell))
        kept = list(run.path.glob("cells/*/attempts/1/*.jsonl"))
        assert folder.observed() or [one.read_bytes() for one in kept].count(evidence) == 1
        assert not run.summary().damaged
        with run.lock():
            _brought_to_its_end(run, cell)
        assert _intact(run, {cell.id}) == {cell.id}
        assert [verdict for _, verdict in folder.attempts.read()] == [sample.disturbed(cell)]
        assert [one.name for one in (folder.path / "attempts").iterdir()] == ["1"]
        assert run.foreign() == []
    assert at > 20


def test_a_file_system_that_refuses_between_two_attempts_loses_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = sample.create(tmp_path / "count", sample.cells()[:1])
    cell = run.cells()[0]
    sample.measure(run, cell, sample.disturbed(cell))
    with _failing(monkeypatch, at=0, number=0) as calls:
        sample.measure_again(run, cell)
    assert {"link", "unlink", "replace"} <= set(calls)
    for at in range(1, len(calls) + 1):
        run = sample.create(tmp_path / f"at-{at}", sample.cells()[:1])
        sample.measure(run, cell, sample.disturbed(cell))
        with (
            pytest.raises((StoreError, OSError), match="No space left"),
            _failing(monkeypatch, at, errno.ENOSPC),
        ):
            sample.measure_again(run, cell)
        _brought_to_its_end(run, cell)
        run.write_summary()
        assert _intact(run, set()) == {cell.id}
        assert len(list(run.cell(cell.id).attempts.read())) == 1


def test_creating_a_run_is_all_or_nothing_at_every_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = sample.cells()[:2]
    with _failing(monkeypatch, at=0, number=0) as calls:
        sample.create(tmp_path / "count", two)
    assert {"open", "mkdir", "fsync", "replace", "symlink"} <= set(calls)
    for at in range(1, len(calls) + 1):
        results = tmp_path / f"at-{at}"
        with pytest.raises(StoreError), _failing(monkeypatch, at, errno.ENOSPC):
            sample.create(results, two)
        folders = [one for one in results.glob("*") if not one.is_symlink()]
        for folder in folders:  # only `latest` was still missing
            assert RunFolder.open(folder).cells() == two
        assert not list(results.rglob("*.tmp"))


def test_a_cell_is_never_half_finished_at_any_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = sample.create(tmp_path / "count")
    with _failing(monkeypatch, at=0, number=0) as calls:
        sample.measure(run, run.cells()[0])
    assert {"open", "fsync", "replace"} <= set(calls)
    for at in range(1, len(calls) + 1):
        run = sample.create(tmp_path / f"at-{at}")
        cell = run.cells()[0]
        with (
            pytest.raises((StoreError, OSError), match="No space left"),
            _failing(monkeypatch, at, errno.ENOSPC),
        ):
            sample.measure(run, cell)
        _intact(run, set())
        if not run.cell(cell.id).finished():
            sample.measure(run, cell)
        run.write_summary()
        assert _intact(run, set()) == {cell.id}
        assert not list(run.path.rglob("*.tmp"))


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "No space left on device - free some space on its disk"),
        (errno.EROFS, "Read-only file system - its file system is read-only"),
        (errno.EACCES, "Permission denied - give this user the right to read and write it"),
        (errno.EIO, "Input/output error - its disk fails"),
    ],
)
def test_a_results_folder_that_refuses_is_named_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, remedy: str
) -> None:
    with pytest.raises(StoreError) as caught, _failing(monkeypatch, 1, number):
        sample.create(tmp_path / "results")
    assert remedy in str(caught.value)
    assert str(tmp_path / "results") in str(caught.value)
    assert "--results DIR" in str(caught.value)
    assert caught.value.exit_code == 3


def test_a_file_in_place_of_the_results_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("")
    with pytest.raises(StoreError, match="File exists - a file stands where"):
        sample.create(tmp_path / "results")


def test_a_folder_in_place_of_latest_is_named(tmp_path: Path) -> None:
    (tmp_path / "latest").mkdir()
    with pytest.raises(StoreError, match="latest: is a folder in place of a link of the lab's"):
        sample.create(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["latest"]
