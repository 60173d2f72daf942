"""The examination: what is drawn, what is shown, how it is graded, and what a seal keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.errors import StoreError, UsageError
from lab.lessons.exam import (
    NAMES,
    ExamGrade,
    check_real,
    draw,
    graded,
    instructions,
    log_lines,
    read_name,
    symptoms,
    verdict_part,
    words,
)
from lab.lessons.exam_table import FIXED, HIDDEN_FAULTS, HiddenFault
from lab.lessons.sealed import seal, unseal
from lab.model.knobs import Knobs
from lab.model.verdict import Outcome, Resource
from tests.fakes.lesson_runs import kept


def test_there_are_enough_and_each_is_one_of_its_own() -> None:
    assert len(HIDDEN_FAULTS) >= 30
    assert len({row.name for row in HIDDEN_FAULTS}) == len(HIDDEN_FAULTS)
    assert len({str((row.knobs, row.load, row.target)) for row in HIDDEN_FAULTS}) == len(
        HIDDEN_FAULTS
    )
    assert len({row.limit for row in HIDDEN_FAULTS}) >= 12
    for row in HIDDEN_FAULTS:
        assert {row.limit, *row.also} <= set(NAMES)
        assert {*row.knobs, *row.cure} <= set(Knobs.model_fields)
        assert row.says.endswith(".")


def test_a_seed_gives_everybody_the_same_and_seeds_give_all() -> None:
    assert [draw(seed) for seed in range(50)] == [draw(seed) for seed in range(50)]
    assert {draw(seed).name for seed in range(2000)} == {row.name for row in HIDDEN_FAULTS}


@pytest.mark.parametrize(
    ("text", "name"),
    [("pool", "pool"), (" Event-Loop ", "event_loop"), ("own threads", "own_threads")],
)
def test_a_name_is_read(text: str, name: str) -> None:
    assert read_name(text) == name


@pytest.mark.parametrize("text", ["", "none", "unclear", "poool", "gcs"])
def test_what_could_not_be_named_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no limit that could be named - "):
        read_name(text)
    assert {*NAMES, "none", "unclear"} == {str(one) for one in Resource}


def test_only_what_an_operator_can_change_is_a_cure() -> None:
    check_real(["gcs_threads", "workers"])
    for name in FIXED:
        with pytest.raises(UsageError, match="is nothing that who runs the service can change"):
            check_real(["workers", name])


@pytest.mark.parametrize("row", HIDDEN_FAULTS, ids=lambda row: str(row.name))
def test_symptoms_give_neither_the_name_nor_the_settings_away(row: HiddenFault) -> None:
    runs = kept()[f"exam {row.name}"]
    for result in runs.values():
        text = symptoms(row, result, [("backend", "error: timed out after 3 s")]).text
        assert row.name not in text
        said = text.replace("of all workers", "").replace("busiest worker", "")
        for name in (row.limit, *row.knobs, *row.cure):
            if name not in ("pool", "cloudrun_memory", "workers"):  # in what a figure is, too
                assert name not in said
        for name, value in {**row.knobs, **row.cure}.items():
            assert f"{name}={value}" not in text
            assert f"{name} {value}" not in text
        for word in ("threads_busy", "threads_queued", "loop_", "pool_", "gcs_", "limit is"):
            assert word not in text
    assert "it is missed: " in symptoms(row, runs["before"], []).text
    assert "it is kept." in symptoms(row, runs["solution"], []).text
    assert row.limit in instructions(7).text  # among all the others


@pytest.mark.parametrize("row", HIDDEN_FAULTS, ids=lambda row: str(row.name))
def test_the_name_and_a_run_that_holds_are_graded(row: HiddenFault) -> None:
    runs = kept()[f"exam {row.name}"]
    other = next(name for name in NAMES if name not in (row.limit, *row.also))
    assert graded(row, row.limit, runs["solution"]) == ExamGrade(True, True)
    assert graded(row, other, runs["solution"]) == ExamGrade(False, True)
    assert graded(row, row.limit, runs["before"]) == ExamGrade(True, False)
    open_one = runs["before"].model_copy(update={"verdict": Outcome.UNDECIDED})
    assert graded(row, row.limit, open_one).held is None
    told = verdict_part(row, other, ExamGrade(False, True)).text
    assert f"it was **{row.limit}**" in told
    assert all(name in told for name in row.cure)


def test_lines_of_logs_are_counted_where_they_say_something() -> None:
    lines = [("nginx", f"upstream timed out 110 while 0x{n:x} 7f{n}") for n in range(5)]
    lines += [("backend", "started"), ("postgres", "FATAL: sorry, too many clients already")]
    assert log_lines(lines) == [
        "`nginx: upstream timed out 110 while 0x0 7f0` (5 such)",
        "`postgres: FATAL: sorry, too many clients already` (1 such)",
    ]


def test_a_sealed_run_is_not_in_plain_sight_and_opens_again(tmp_path: Path) -> None:
    run = tmp_path / "run-1"
    (run / "cells").mkdir(parents=True)
    (run / "cells" / "cell.json").write_text('{"gcs_threads": 2, "limit": "own_threads"}' * 50)
    closed = seal(run, words(3))
    assert b"gcs_threads" not in closed
    assert b"own_threads" not in closed
    into = tmp_path / "open"
    into.mkdir()
    unseal(closed, words(3), into)
    opened = into / "run-1" / "cells" / "cell.json"
    assert opened.read_text() == (run / "cells" / "cell.json").read_text()
    other = next(seed for seed in range(4, 99) if words(seed) != words(3))
    for spoilt, by in ((closed, words(other)), (closed[:-3], words(3)), (b"", words(3))):
        with pytest.raises(StoreError, match="a sealed run is damaged"):
            unseal(spoilt, by, into)
