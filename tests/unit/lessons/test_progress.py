"""A learner's file: whole or not there, kept aside where it cannot be read, one writer."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from lab.errors import StoreError, UsageError
from lab.lessons.progress import ProgressFile, default_learner, learners_folder, measuring, read_all
from lab.model.lessons import LearnerProgress, LessonProgress


def file(tmp_path: Path, learner: str = "ada") -> ProgressFile:
    return ProgressFile(tmp_path / "learners", learner)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    progress = LearnerProgress(learner="ada").with_lesson(
        "limits", LessonProgress(answer="D", hints=2)
    )
    file(tmp_path).write(progress)
    assert file(tmp_path).read() == progress
    assert [path.name for path in (tmp_path / "learners").iterdir()] == ["ada.json"]


def test_nobody_yet_is_a_new_learner_and_nothing_is_made(tmp_path: Path) -> None:
    assert file(tmp_path).read() == LearnerProgress(learner="ada")
    assert not (tmp_path / "learners").exists()


@pytest.mark.parametrize(
    ("content", "why", "said"),
    [
        (b"{", "broken", "cannot be read"),
        (b"\xff\xfe", "broken", "cannot be read"),
        (b"[]", "broken", "cannot be read"),
        (b'{"learner": 3}', "broken", "cannot be read"),
        (b"[" * 100_000, "broken", "cannot be read"),
        (b'{"schema_version": 2, "learner": "ada", "more": 1}', "later", "by a later lab"),
    ],
)
def test_what_cannot_be_read_is_kept_aside_and_said(
    tmp_path: Path, content: bytes, why: str, said: str
) -> None:
    folder = tmp_path / "learners"
    folder.mkdir()
    (folder / "ada.json").write_bytes(content)
    kept = file(tmp_path)
    assert kept.read() == LearnerProgress(learner="ada")
    [note] = kept.notes
    [aside] = list(folder.iterdir())
    assert aside.name.startswith(f"ada.{why}-")
    assert aside.read_bytes() == content
    assert said in note
    assert aside.name in note
    (folder / "ada.json").write_bytes(content)
    kept.read()  # in the same second
    assert len(list(folder.iterdir())) == 2


def test_a_reset_keeps_what_there_was(tmp_path: Path) -> None:
    assert file(tmp_path).reset() is None
    file(tmp_path).write(LearnerProgress(learner="ada"))
    kept = file(tmp_path).reset()
    assert kept
    assert kept.is_file()
    assert file(tmp_path).read() == LearnerProgress(learner="ada")


def test_a_killed_writer_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = LearnerProgress(learner="ada").with_lesson("limits", LessonProgress(answer="A"))
    file(tmp_path).write(old)
    monkeypatch.setattr(
        os, "replace", lambda *_args, **_more: (_ for _ in ()).throw(OSError(28, ""))
    )
    with pytest.raises(StoreError, match="free some space"):
        file(tmp_path).write(LearnerProgress(learner="ada"))
    monkeypatch.undo()
    assert file(tmp_path).read() == old
    assert [path.name for path in (tmp_path / "learners").iterdir()] == ["ada.json"]


def test_two_of_one_learner_and_two_measurements_exclude_each_other(tmp_path: Path) -> None:
    busy = "another `lab learn` of ada is running - wait"
    with file(tmp_path).held(), file(tmp_path, "bob").held(), measuring(tmp_path):
        with pytest.raises(StoreError, match=busy), file(tmp_path).held():
            raise AssertionError("both have it")
        with pytest.raises(StoreError, match="another learner's lesson"), measuring(tmp_path):
            raise AssertionError("both measure")
    with file(tmp_path).held(), measuring(tmp_path):
        pass


@pytest.mark.parametrize("name", ["", "../x", "a b", "a/b", "x" * 61, ".x", "ada.json"])
def test_a_name_that_could_be_no_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="is no learner's name"):
        file(tmp_path, name)


def test_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REPLICA_LAB_LEARNERS", str(tmp_path))
    assert learners_folder() == tmp_path
    monkeypatch.delenv("REPLICA_LAB_LEARNERS")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert learners_folder() == tmp_path / "replica-lab" / "learners"
    monkeypatch.setenv("LOGNAME", "a b")
    assert default_learner() == "learner"


def test_a_class_is_read_and_a_file_that_cannot_be_is_told_and_left(tmp_path: Path) -> None:
    for name in ("bob", "ada"):
        file(tmp_path, name).write(LearnerProgress(learner=name))
    folder = tmp_path / "learners"
    (folder / "eve.json").write_text("{")
    (folder / "ada.reset-20260101T000000Z.json").write_text(json.dumps({"learner": "old"}))
    found, problems = read_all(folder)
    assert [one.learner for one in found] == ["ada", "bob"]
    assert problems == [f"{folder / 'eve.json'}: cannot be read, and is left out"]
    assert (folder / "eve.json").is_file()
    assert read_all(tmp_path / "nothing") == ([], [])
