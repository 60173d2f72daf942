"""``lab learn``, on kept runs: what is shown and kept, and what each slip is answered with."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from lab.cli import lessons as desk
from lab.cli import session
from lab.lessons.exam import draw
from lab.lessons.progress import ProgressFile, measuring
from lab.model.lessons import LearnerProgress
from tests.cli_fixture import Command, the_line
from tests.fakes.lesson_runs import KeptRuns, lesson, lessons

pytestmark = pytest.mark.usefixtures("runs")

SOLVES = [f"--set={name}={value}" for name, value in lesson("async-def").lesson.solution.items()]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KeptRuns:
    """Every run is a kept one, and progress is kept in the test's folder."""
    kept = KeptRuns()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REPLICA_LAB_LEARNERS", str(tmp_path / "learners"))
    monkeypatch.setenv("REPLICA_LAB_LEARNER", "ada")
    monkeypatch.setattr(desk, "measure", kept)
    monkeypatch.setattr(session, "choose", lambda *_asked: ("embedded", "asked for"))
    return kept


def progress(learner: str = "ada") -> LearnerProgress:
    return ProgressFile(Path("learners"), learner).read()


def as_json(text: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(text)
    return told


def test_the_list_is_shown_and_says_what_comes_next(lab: Command, runs: KeptRuns) -> None:
    done = lab("learn")
    assert done.code == 0
    assert "10 scale-to-zero" in done.out
    assert f"ada: 0 of {len(lessons())} lessons passed; go on with `lab learn 1`" in done.out
    told = as_json(lab("learn", "--json").out)
    assert [one["lesson"] for one in told["lessons"]] == list(range(1, len(lessons()) + 1))
    assert runs.asked == []


def test_a_lesson_is_read_answered_measured_and_explained(lab: Command, runs: KeptRuns) -> None:
    done = lab("learn", "3", "--answer", "b")
    assert done.code == 0, done.err
    assert "lesson 3 builds on lessons 1 and 2: not passed yet" in done.err
    for part in ("event loop", "What do you expect?", "Your answer", "What happened", "Your turn"):
        assert part in done.out
    assert "You expected B. The run says C." in done.out
    assert "audio_upload.py:" in done.out
    mine = progress().of("async-def")
    assert (mine.answer, mine.prediction and mine.prediction.right) == ("B", False)
    assert Path(mine.run).is_dir()
    again = lab("learn", "3")  # from what is stored: nothing is measured
    assert again.code == 0
    assert "What happened" in again.out
    assert len(runs.asked) == 1


def test_a_change_is_graded_hinted_and_solved(lab: Command, runs: KeptRuns) -> None:
    lab("learn", "3", "--answer", "C")
    failed = lab("learn", "3", "--check", "--set", "workers=2")
    assert failed.code == 1
    assert "Not yet" in failed.out
    assert "missed `loop_stood < 70 %`" in failed.out
    hints = [lab("learn", "3", "--hint").out.strip().splitlines()[0] for _ in range(4)]
    assert hints == [f"Hint {n} of 3" for n in (1, 2, 3, 3)]
    done = lab("learn", "3", "--check", *SOLVES)
    assert done.code == 0
    assert "Done" in done.out
    assert "What your change did" in done.out
    mine = progress().of("async-def")
    assert [one.outcome for one in mine.attempts] == ["failed", "passed"]
    assert mine.attempts[0].missed[0] == "loop_stood < 70 %"
    assert mine.attempts[0].settings == {"workers": 2}
    assert (bool(mine.passed), mine.hints, mine.solution) == (True, 3, False)
    assert "gcs_call=executor" in lab("learn", "3", "--solution").out
    assert progress().of("async-def").solution is False  # it was read afterwards
    assert "passed" in lab("learn").out
    assert len(runs.asked) == 3


@pytest.mark.parametrize("folder", lessons(), ids=lambda one: str(one.name))
def test_each_lesson_from_its_question_to_its_solution(
    lab: Command, runs: KeptRuns, folder: Any
) -> None:
    number = str(folder.number)
    first = as_json(lab("learn", number, "--answer", "A", "--json").out)
    assert [part["part"] for part in first["parts"]] == [
        *("read", "question", "answer", "explain", "code", "task"),
    ]
    assert first["prediction"]["right"] in (True, False)
    assert lab("learn", number, "--check").code == 1
    words = [f"--set={name}={value}" for name, value in folder.lesson.solution.items()]
    done = lab("learn", number, "--check", "--json", *words)
    assert done.code == 0
    assert as_json(done.out)["grade"]["outcome"] == "passed"
    assert progress().of(folder.name).passed
    assert len(runs.asked) == 3


MEASURED = ("learn", "3", "--answer", "C")

SLIPS = [
    (("learn", "3"), "answer with --answer, as --answer A"),
    (("learn", "3", "--json"), "answer with --answer, as --answer A"),
    (("learn", "3", "--answer", "F"), "'F' is no choice - answer with one of A, B, C"),
    (("learn", "99"), "there is no lesson 99 - they are 1 to "),
    (("learn", "asyncdef"), "'asyncdef' is no lesson - did you mean 'async-def'?"),
    (("learn", "3", "--check"), "begin with `lab learn 3`"),
    (("learn", "3", "--solution"), "you have not tried lesson 3 yet - try with"),
    (("learn", "--check"), "which lesson is not said - write its number"),
    (("learn", "--answer", "A"), "which lesson is answered is not said"),
    (("learn", "3", "--hint", "--check"), "--check and --hint exclude each other"),
    (("learn", "3", "--give-up"), "--give-up goes with --solution"),
    (("learn", "3", "--set", "workers=2"), "--set changes nothing without --check"),
    (("learn", "3", "--seed", "4"), "--seed, --measure and --users are an exam's"),
    (("learn", "3", "--learner", "../x"), "'../x' is no learner's name"),
    (("learn", "--export", "class.xls"), "class.xls is neither .csv nor .json"),
    (("learn", "--from", "."), "--from goes with --export"),
    (("learn", "--page", "no/such/folder.html"), "name a file that can be written"),
    (("learn", "exam", "--check"), "which lesson is not said"),
    (("learn", "exam", "--answer", "pool"), "no examination is open - begin one"),
    (("learn", "exam", "--seed", "1", "--answer", "poool"), "did you mean 'pool'?"),
    (("learn", "exam", "--seed", "1", "--answer", "pool"), "no change is proposed"),
    (
        ("learn", "exam", "--seed", "1", "--answer", "pool", "--set", "db_cap=99"),
        "'db_cap' is nothing that who runs the service can change",
    ),
    (("learn", "exam", "--seed", "1", "--set", "workers=2"), "measure nothing alone"),
]


@pytest.mark.parametrize(("words", "message"), SLIPS, ids=[" ".join(w) for w, _ in SLIPS])
def test_a_slip_is_one_line_and_nothing_is_measured(
    lab: Command, runs: KeptRuns, words: tuple[str, ...], message: str
) -> None:
    done = lab(*words)
    assert done.code in (2, 3)
    lines = [line for line in done.err.splitlines() if "builds on" not in line]
    assert message in the_line("\n".join(lines) + "\n")
    assert runs.asked == []


AFTER = [
    (("--set", "db_cap=99"), "'db_cap' is not for you to change here - open are gcs_call"),
    (("--set", "worker=2"), "'worker' is not a knob - did you mean 'workers'?"),
    (("--set", "workers=99"), "'workers': 99 is out of bounds"),
    (("--set", "workers"), "not a setting - write it as pool_size=5"),
]


@pytest.mark.parametrize(("words", "message"), AFTER, ids=[w[1] for w, _ in AFTER])
def test_a_change_that_cannot_be_is_refused(
    lab: Command, runs: KeptRuns, words: tuple[str, ...], message: str
) -> None:
    lab(*MEASURED)
    done = lab("learn", "3", "--check", *words)
    assert done.code == 2
    assert message in the_line(done.err)
    assert progress().of("async-def").attempts == ()
    assert len(runs.asked) == 1


def test_an_answer_is_given_once(lab: Command, runs: KeptRuns) -> None:
    lab(*MEASURED)
    done = lab("learn", "3", "--answer", "A")
    assert the_line(done.err[done.err.index("lab: ") :]).startswith(
        "lesson 3 is answered already: C"
    )
    assert lab("learn", "3", "--answer", "A", "--again").code == 0
    assert progress().of("async-def").answer == "A"
    assert len(runs.asked) == 2


def test_an_invalid_run_is_measured_again_said_and_never_graded(
    lab: Command, runs: KeptRuns
) -> None:
    runs.next = ["invalid"]
    done = lab(*MEASURED)
    assert done.code == 0
    assert "the run was invalid (the generator was late): it is measured again" in done.err
    assert len(runs.asked) == 2
    runs.next = ["invalid"] * 3
    spoilt = lab("learn", "3", "--check", *SOLVES)
    assert spoilt.code == 4
    assert "it is not graded" in spoilt.err
    assert "Not graded" in spoilt.out
    assert progress().of("async-def").attempts == ()
    runs.next = ["invalid"] * 3
    first = lab("learn", "4", "--answer", "C")
    assert first.code == 4
    assert "Your answer is kept; measure again with `lab learn 4`." in first.out
    mine = progress().of("default-executor")
    assert (mine.answer, mine.prediction) == ("C", None)
    assert lab("learn", "4").code == 0  # the answer is kept


def test_too_little_is_neither_passed_nor_failed(lab: Command, runs: KeptRuns) -> None:
    lab(*MEASURED)
    runs.next = ["undecided"]
    done = lab("learn", "3", "--check", *SOLVES)
    assert done.code == 4
    assert "Too little was seen to tell" in done.out
    [attempt] = progress().of("async-def").attempts
    assert attempt.outcome == "undecided"
    assert not progress().of("async-def").passed


def test_an_interrupted_lesson_keeps_the_answer(lab: Command, runs: KeptRuns) -> None:
    runs.next = ["interrupt"]
    done = lab(*MEASURED)
    assert done.code == 130
    assert "interrupted: what you answered is kept - go on with `lab learn 3`" in done.err
    assert progress().of("async-def").answer == "C"
    resumed = lab("learn", "3")
    assert resumed.code == 0
    assert "your answer is kept: C" in resumed.err
    runs.next = ["interrupt"]
    checked = lab("learn", "3", "--check", "--set", "workers=2")
    assert checked.code == 130
    assert "go on with `lab learn 3 --check --set workers=2`" in checked.err
    assert progress().of("async-def").attempts == ()


def test_what_was_measured_stays_until_it_is_measured_anew(lab: Command, runs: KeptRuns) -> None:
    lab(*MEASURED)
    before = progress()
    runs.next = ["interrupt"]
    done = lab("learn", "3", "--answer", "A", "--again")
    assert done.code == 130
    assert "go on with `lab learn 3 --again`" in done.err
    assert progress() == before


def test_a_run_that_is_gone_or_of_elsewhere_is_made_again(lab: Command, runs: KeptRuns) -> None:
    lab(*MEASURED)
    shutil.rmtree(progress().of("async-def").run)
    done = lab("learn", "3", "--check", *SOLVES)
    assert done.code == 0
    assert "is not there any more: it is measured again" in done.err
    runs.stack = "compose"
    moved = lab("learn", "3", "--check", *SOLVES)
    assert moved.code == 0
    assert "was made elsewhere: it is measured again" in moved.err


@pytest.mark.parametrize(
    ("content", "why"),
    [("{", "cannot be read"), ('{"schema_version": 9}', "was written by a later lab")],
)
def test_a_progress_file_that_cannot_be_read_is_kept_aside_and_said(
    lab: Command, content: str, why: str
) -> None:
    Path("learners").mkdir()
    Path("learners/ada.json").write_text(content)
    done = lab(*MEASURED)
    assert done.code == 0
    assert why in done.err
    assert "and a new one is begun" in done.err
    [kept] = list(Path("learners").glob("ada.*-*.json"))
    assert kept.read_text() == content
    assert progress().of("async-def").answer == "C"


def test_two_learners_on_one_machine(lab: Command) -> None:
    with ProgressFile(Path("learners"), "ada").held():
        busy = lab(*MEASURED)
        assert busy.code == 3
        assert "another `lab learn` of ada is running" in the_line(busy.err)
        assert lab(*MEASURED, "--learner", "bob").code == 0
    with measuring(Path("learners")):
        waits = lab("learn", "4", "--answer", "C")
        assert waits.code == 3
        assert "another learner's lesson is being measured" in waits.err
    assert progress().of("default-executor").answer == "C"  # kept, though it had to wait
    assert progress("bob").of("async-def").prediction


def test_who_is_asked_in_a_terminal_is_asked_until_it_is_an_answer(
    lab: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = iter(["perhaps", "c"])
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("click.prompt", lambda *_text, **_more: next(said))
    done = lab("learn", "3")
    assert done.code == 0
    assert "'perhaps' is no choice" in done.err
    assert progress().of("async-def").answer == "C"


def test_a_reset_keeps_what_there_was(lab: Command) -> None:
    lab(*MEASURED)
    lab("learn", "4", "--answer", "A")
    assert "what there was is kept in" in lab("learn", "3", "--reset").err
    assert set(progress().lessons) == {"default-executor"}
    assert lab("learn", "--reset").code == 0
    assert progress().lessons == {}
    assert len(list(Path("learners").glob("ada.reset-*.json"))) == 2
    assert "there was nothing" in lab("learn", "--reset").err


def test_a_class_is_exported_with_what_others_collected(lab: Command) -> None:
    lab(*MEASURED)
    lab(*MEASURED, "--learner", "bob")
    Path("collected").mkdir()
    Path("learners/bob.json").rename("collected/bob.json")
    assert lab("learn", "--export", "class.csv", "--from", "collected").code == 0
    rows = list(csv.DictReader(Path("class.csv").read_text().splitlines()))
    assert {row["learner"] for row in rows} == {"ada", "bob"}
    assert [row["right"] for row in rows if row["name"] == "async-def"] == ["True", "True"]
    assert lab("learn", "--export", "class.json").code == 0
    assert as_json(Path("class.json").read_text())["schema_version"] == 1


def test_the_page_and_a_notebook_are_written(lab: Command) -> None:
    assert lab("learn", "--page", "all.html").code == 0
    assert Path("all.html").read_text().count("<article") == len(lessons())
    assert lab("learn", "3", "--notebook", "three.ipynb").code == 0
    assert as_json(Path("three.ipynb").read_text())["nbformat"] == 4


# The examination.

SEED = next(seed for seed in range(100) if draw(seed).name == "four-threads")
EXAM = ("learn", "exam", "--seed", str(SEED))
FOLDER = Path(f"results/exam-{SEED}-ada")
CURE = [f"--set={name}={value}" for name, value in draw(SEED).cure.items()]


def test_an_exam_shows_symptoms_and_hides_the_answer(lab: Command, runs: KeptRuns) -> None:
    done = lab(*EXAM)
    assert done.code == 0, done.err
    assert "What is seen" in done.out
    assert "nginx: 2026/01/01 [error] upstream timed out" in done.out
    assert "gcs_threads" not in done.out + done.err
    names = sorted(path.name for path in FOLDER.iterdir())
    assert names == ["run-1.sealed", "symptoms-1.md"]
    for path in FOLDER.iterdir():
        assert b"gcs_threads" not in path.read_bytes()
    assert list(Path("results").iterdir()) == [FOLDER]
    assert lab("learn", "exam").out == done.out  # the one that is open, from what is stored
    assert len(runs.asked) == 1


def test_an_exam_is_graded_on_the_name_and_on_a_run_that_holds(lab: Command) -> None:
    lab(*EXAM)
    right = lab(*EXAM, "--answer", "own-threads", *CURE)
    assert right.code == 0, right.err
    assert "2 of 2" in right.out
    assert "`four-threads`" in right.out
    exam = progress().exams[str(SEED)]
    assert (exam.name_right, exam.held, exam.points, exam.measured) == (True, True, 2, 2)
    opened = [path for path in FOLDER.iterdir() if (path / "run.json").is_file()]
    assert len(opened) == 2  # and now everything may be looked at
    assert "is graded already" in the_line(lab(*EXAM, "--answer", "pool", *CURE).err)
    assert "2 of 2" in lab(*EXAM).out
    assert "1 examined, best 2 of 2" in lab("learn").out


def test_a_wrong_name_is_told_the_right_one(lab: Command) -> None:
    done = lab(*EXAM, "--answer", "pool", *CURE, "--json")
    assert done.code == 1
    told = as_json(done.out)
    assert told["grade"] == {"name_right": False, "held": True, "points": 1}
    assert "it was **own_threads**" in told["parts"][0]["markdown"]


def test_an_exam_that_was_not_decided_is_not_graded(lab: Command, runs: KeptRuns) -> None:
    for what in (["undecided"], ["invalid"] * 3):
        runs.next = what
        done = lab(*EXAM, "--answer", "own_threads", *CURE)
        assert done.code == 4
        assert "not graded" in done.err
    assert not progress().exams or not progress().exams[str(SEED)].graded
    assert not list(FOLDER.glob("*/run.json"))


def test_seeds_are_drawn_where_none_is_given(lab: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.SystemRandom.randrange", lambda _self, _most: SEED)
    assert as_json(lab("learn", "exam", "--json").out)["exam"] == SEED
    assert str(SEED) in progress().exams
