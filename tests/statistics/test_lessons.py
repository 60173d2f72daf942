"""``python -m validation.lessons`` on kept runs: each grading counted as what it is."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

import pytest

from lab.cli import session
from tests.fakes.lesson_runs import KeptRuns
from tests.signal_handlers import handlers, restore
from validation import lessons


class Several(KeptRuns):
    """As `KeptRuns`, for several plans in one call."""

    def __call__(self, planned, *rest):  # type: ignore[no-untyped-def]
        for one in planned:
            yield from super().__call__([one], *rest)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Several:
    kept = Several()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lessons, "measure", kept)
    monkeypatch.setattr(session, "choose", lambda *_asked: ("embedded", "asked for"))
    return kept


def run(*words: str) -> int:
    before = handlers()
    try:
        return lessons.main(list(words))
    finally:
        restore(before)


def test_all_are_graded_as_is_right(runs: Several, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    text = capsys.readouterr().out
    assert "0 of " in text
    assert "WRONG" not in text
    assert "before: 10 right" in text
    assert "solution: 15 right" in text
    assert "unchanged: 15 right" in text
    assert len(runs.asked) == text.count("\nright") + 1


def test_what_is_graded_wrongly_or_not_at_all_is_counted(
    runs: Several, capsys: pytest.CaptureFixture[str]
) -> None:
    runs.next = ["", "invalid", "undecided"]
    assert run("--only", "03-*", "--json") == 1
    out, err = capsys.readouterr()
    rows = json.loads(out)
    assert [row["sign"] for row in rows][:4] == ["right", "open", "open", "right"]
    assert rows[1]["outcome"] == "invalid"
    assert "unchanged: 1 open" in err
    assert "0 of 6 gradings are wrong" in err


def test_a_check_that_passes_a_mistake_is_wrong(
    runs: Several, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    [case] = [one for one in lessons.cases(flags(), Path()) if one.name == "03-async-def"]
    assert case.folder
    solved = case.folder.lesson.solution
    changes = {**case.changes, "unchanged": solved, "wrong 1": solved, "solution": {}}
    spoilt = lessons.Case(case.name, case.spec, case.criteria, changes, case.folder)
    monkeypatch.setattr(lessons, "cases", lambda *_args: [spoilt])
    assert run("--repeat", "2") == 1
    text = capsys.readouterr().out
    assert text.count("WRONG  03") == 6
    assert "6 of 16 gradings are wrong" in text
    assert len(runs.asked) == 16


def flags() -> Namespace:
    return lessons.options().parse_args(["--exams", "--only", "03-*"])


def test_what_cannot_be_measured_is_told_and_the_next_goes_on(
    runs: Several, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lab.errors import PartFailed

    def fails(*_args: object) -> object:
        raise PartFailed("nginx did not come up")

    monkeypatch.setattr(lessons, "measure", fails)
    assert run("--only", "0[12]-*") == 1
    text = capsys.readouterr().out
    assert text.count("not measured") == 2
    assert "nginx did not come up" in text
    assert runs.asked == []


def test_a_run_that_takes_too_long_is_told(
    runs: Several, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lessons, "MOST_S", 0.0)
    assert run("--only", "01-*", "--no-wrong") == 1
    assert "and may take 0 s" in capsys.readouterr().out
    assert len(runs.asked) == 3


def test_a_dry_run_starts_nothing(runs: Several, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--dry-run") == 0
    text = capsys.readouterr().out
    lines = [line for line in text.splitlines() if line[:2].isdecimal()]
    first = [float(line.rpartition("about ")[2].removesuffix(" s")) for line in lines]
    assert len(first) >= 10
    assert max(first) <= lessons.MOST_S  # as long as a lesson may take
    assert sum(first) <= 20 * 60  # and all of them in one go
    assert "exam-5" in text
    assert runs.asked == []


def test_what_is_no_lesson_is_refused(runs: Several, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--only", "11-*") == 2
    assert "'11-*' takes nothing" in capsys.readouterr().err
    assert runs.asked == []
