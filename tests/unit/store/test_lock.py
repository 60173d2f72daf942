from __future__ import annotations

import os
from pathlib import Path

import pytest

from lab.errors import StoreError
from tests.fakes import sample_run as sample


def test_two_labs_never_write_one_run(tmp_path: Path) -> None:
    run = sample.create(tmp_path)
    with (
        run.lock(),
        pytest.raises(StoreError, match=f"process {os.getpid()} is writing this run - wait"),
        run.lock(),
    ):
        pytest.fail("the second lock was granted")


def test_the_lock_is_free_again_afterwards_and_after_an_error(tmp_path: Path) -> None:
    run = sample.create(tmp_path)
    with pytest.raises(RuntimeError), run.lock():
        raise RuntimeError
    with run.lock():
        pass


def test_reading_needs_no_lock(tmp_path: Path) -> None:
    run = sample.stored(tmp_path, finished=2)
    with run.lock():
        assert len(run.summary().cells) == 2


def test_the_lock_clears_what_a_killed_writer_left(tmp_path: Path) -> None:
    run = sample.stored(tmp_path, finished=1)
    left = [
        run.path / ".summary.json.1.tmp",
        run.cell(run.info.cells[0]).path / ".verdict.json.1.tmp",
    ]
    for file in left:
        file.write_text("{")
    with run.lock():
        assert not any(file.exists() for file in left)
