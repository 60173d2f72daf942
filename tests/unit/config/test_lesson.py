"""A lesson's folder: read as it is written, and refused with file, place and the remedy."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

import pytest

from lab.config import lesson_folders, read_experiment, read_faults, read_lesson
from lab.errors import SpecError
from lab.lessons.figures import problem
from lab.model.experiment import Cell
from lab.model.lessons import LessonFolder
from lab.paths import ROOT
from lab.plan import expand

FAULTS = read_faults(ROOT / "faults")
WHOLE = ROOT / "lab" / "lessons" / "03-async-def"


def cells(spec: Path) -> Collection[Cell]:
    return expand(read_experiment(spec, FAULTS), FAULTS)


def read(path: Path) -> LessonFolder:
    return read_lesson(path, ROOT, cells, problem)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a lesson, to spoil."""
    return Path(shutil.copytree(WHOLE, tmp_path / WHOLE.name))


def test_a_lesson_is_read_as_written(folder: Path) -> None:
    found = read(folder)
    assert (found.number, found.name, found.lesson.needs) == (3, "async-def", (1, 2))
    assert found.cell.knobs.gcs_call == "blocking"
    assert [str(one) for one in found.lesson.absolute] == ["loop_stood < 70 %"]
    assert all(found.lines)


BAD: dict[str, tuple[str, str, str, str]] = {
    "unknown-key": ("lesson.yaml", "task: >-", "tasks: >-", "'tasks' is not a key of a lesson"),
    "key-of-a-check": (
        "lesson.yaml",
        "    because: >-\n      The event loop",
        "    becuase: >-\n      The event loop",
        "'becuase' is not a key of a check - did you mean 'because'?",
    ),
    "key-of-a-cure": (
        "lesson.yaml",
        "  - set: {workers: 2}",
        "  - sets: {workers: 2}",
        "'sets' is not a key of a wrong cure - did you mean 'set'?",
    ),
    "key-of-a-choice": (
        "lesson.yaml",
        "      when: run.throughput * run.gcs_latency <= 1.5",
        "      wen: run.throughput",
        "'wen' is not a key of a choice - did you mean 'when'?",
    ),
    "key-of-a-place": (
        "lesson.yaml",
        "    find: upload_student_recording",
        "    name: upload_student_recording",
        "'name' is not a key of a place in the code",
    ),
    "name": ("lesson.yaml", "lesson: async-def", "lesson: async", "is called 'async'"),
    "later-lesson": ("lesson.yaml", "needs: [1, 2]", "needs: [1, 7]", "does not come before it"),
    "no-knob": ("lesson.yaml", "  - gcs_call\n", "  - gcs_cal\n", "did you mean 'gcs_call'?"),
    "no-choice": ("lesson.yaml", "    A:", "    X:", "'X'"),
    "no-metric": (
        "lesson.yaml",
        "criterion: loop_stood < 70 %",
        "criterion: loop_stod < 70 %",
        "'loop_stod' is not a metric - did you mean 'loop_stood'?",
    ),
    "unasked": (
        "lesson.yaml",
        "criterion: loop_stood < 70 %",
        "criterion: p95(health) < 1 s",
        "give it a health_every",
    ),
    "incomparable": (
        "lesson.yaml",
        "criterion: throughput > 2.5 x baseline",
        "criterion: threads_busy > 2.5 x baseline",
        "is relative, and threads_busy is not compared",
    ),
    "all-relative": (
        "lesson.yaml",
        "criterion: loop_stood < 70 %",
        "criterion: p50 < 0.5 x baseline",
        "every check is relative - add one with a bound of its own",
    ),
    "solution-elsewhere": (
        "lesson.yaml",
        "solution: {gcs_call: executor, gcs_threads: 12}",
        "solution: {db_cap: 12}",
        "'db_cap' is not among 'may_change'",
    ),
    "solution-out-of-bounds": (
        "lesson.yaml",
        "gcs_threads: 12}",
        "gcs_threads: 999}",
        "'gcs_threads': 999 is out of bounds",
    ),
    "misses-no-check": (
        "lesson.yaml",
        "  - set: {workers: 2}\n    misses: loop_stood < 70 %",
        "  - set: {workers: 2}\n    misses: p95 < 7 s",
        "'p95 < 7 s' is not one of the checks",
    ),
    "the-solution-is-no-mistake": (
        "lesson.yaml",
        "  - set: {workers: 2}",
        "  - set: {gcs_call: executor, gcs_threads: 12}",
        "this is the solution - name a mistake",
    ),
    "no-function": (
        "lesson.yaml",
        "find: AudioUploader.upload_audio",
        "find: AudioUploader.upload_sound",
        "audio_upload.py has no 'AudioUploader.upload_sound'",
    ),
    "no-code": (
        "lesson.yaml",
        "file: lab/services/backend/api/students.py",
        "file: lab/services/backend/api/pupils.py",
        "pupils.py has no 'upload_student_recording'",
    ),
    "number-in-a-hint": (
        "lesson.yaml",
        "    The call has to wait somewhere else",
        "    It takes 3.65 s. The call has to wait somewhere else",
        "figure '3.65' has no source",
    ),
    "run-before-it-was-made": (
        "lesson.yaml",
        "    The call has to wait somewhere else",
        "    {{ run.p50 }} The call has to wait somewhere else",
        "'run' has no figures here",
    ),
    "no-figure-in-a-choice": (
        "lesson.yaml",
        "when: run.throughput * run.gcs_latency <= 1.5",
        "when: run.throughputs < 1",
        "'run.throughputs' is not a metric",
    ),
    "number-in-a-text": (
        "explain.md",
        "## What happened",
        "## What happened in 42 s",
        "figure '42' has no source",
    ),
    "no-metric-in-a-text": (
        "explain.md",
        "{{ run.p50 }}",
        "{{ run.p51 }}",
        "'run.p51' is not a metric",
    ),
    "figure-before-the-run": (
        "read.md",
        "# A synchronous",
        "{{ run.p50 }}\n# A synchronous",
        "'run' has no figures here",
    ),
    "several-cells": (
        "spec.yaml",
        "preset: as-found",
        "matrix: {workers: [1, 2]}",
        "a lesson measures one cell, and the spec has 2 - leave the matrix out",
    ),
    "bad-spec": ("spec.yaml", "users: 6", "user: 6", "did you mean 'users'?"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_told_with_its_file(case: str, folder: Path) -> None:
    name, old, new, message = BAD[case]
    file = folder / name
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(SpecError) as error:
        read(folder)
    told = str(error.value)
    assert message in told
    assert told.startswith(str(file))
    assert "\n" not in told


def test_a_figure_of_another_run_is_refused(folder: Path) -> None:
    file = folder / "solved.md"
    file.write_text("{{ run.p50 }}\n")
    with pytest.raises(SpecError, match="'run' has no figures here - use one of given, knob"):
        read(folder)


@pytest.mark.parametrize("name", ["read.md", "explain.md", "solved.md"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file - a lesson has read.md, explain.md, solved.md"),
        (b" \n", "the file is empty - write the text"),
        (b"\xff", "not UTF-8 - save the file as UTF-8"),
        (b"x" * 200_001, "larger than 200 KB - shorten it"),
    ],
)
def test_a_text_that_cannot_be_read_is_told(
    folder: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(SpecError, match=message):
        read(folder)


@pytest.mark.parametrize("name", ["3-async-def", "03_async", "03-Async", "async-def"])
def test_a_folder_is_called_as_its_lesson(folder: Path, name: str) -> None:
    moved = folder.rename(folder.parent / name)
    with pytest.raises(SpecError, match="is not the name of a lesson's folder - call it as"):
        read(moved)


def test_folders_are_in_order_and_have_a_number_each(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no lesson is there"):
        lesson_folders(tmp_path)
    for name in ("02-b", "01-a", "__pycache__", "x"):
        (tmp_path / name).mkdir()
    assert [path.name for path in lesson_folders(tmp_path)] == ["01-a", "02-b"]
    (tmp_path / "02-c").mkdir()
    with pytest.raises(SpecError, match="'02-b' and '02-c' have one number"):
        lesson_folders(tmp_path)
