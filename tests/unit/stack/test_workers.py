"""What the workers' files say of them: who lives, since when, by whose clock."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from lab.errors import PartFailed
from lab.model.clock import clock_name
from lab.stack.backend import LINE_S, Workers, wrote_lately


def wrote(folder: Path, pid: int, at: float, **more: Any) -> Path:
    """A worker's file, whose own time on the file system is of no account."""
    file = folder / f"worker-{pid}.jsonl"
    file.write_text(json.dumps({"at": at, "clock": clock_name(), "inflight": 2, **more}) + "\n")
    return file


def test_a_worker_lives_that_has_written_lately_by_the_monotonic_clock(tmp_path: Path) -> None:
    now = time.monotonic()
    wrote(tmp_path, 7, now)
    wrote(tmp_path, 8, now - 10 * LINE_S)
    (tmp_path / "worker-9.jsonl").write_text('{"at": 1')  # half a line
    workers = Workers(tmp_path, wrote_lately)
    assert sorted(workers.seen()) == [7, 8, 9]
    assert workers.alive() == [7]
    assert workers.inflight() == 2
    everyone = Workers(tmp_path, lambda _pid, _file: True)
    assert everyone.alive(since=now) == [7]
    assert sorted(everyone.alive()) == [7, 8, 9]


def test_a_worker_of_another_clock_is_an_error_not_a_dead_one(tmp_path: Path) -> None:
    file = wrote(tmp_path, 7, time.monotonic(), clock="of another boot time:[7]")
    with pytest.raises(PartFailed, match=r"^worker-7: its evidence is stamped by another clock"):
        wrote_lately(7, file)
