"""The project's own specs: each can be run, and the report's are as the report has them."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from lab.config import read_experiment, read_faults
from lab.model.experiment import Cell, Question
from lab.model.replica import file_limit
from lab.paths import ROOT
from lab.plan import expand

FILES = sorted((ROOT / "experiments").glob("*.yaml"))
ASKED = [file for file in FILES if file.stem.startswith(("phase-", "scenario-"))]
FAULTS = read_faults(ROOT / "faults")


def cells(name: str) -> tuple[Cell, ...]:
    return expand(read_experiment(ROOT / "experiments" / f"{name}.yaml", FAULTS), FAULTS)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.stem))
def test_it_is_named_as_its_file_and_has_cells(file: Path) -> None:
    experiment = read_experiment(file, FAULTS)
    assert experiment.experiment == file.stem
    assert experiment.about.endswith("?") or "?" in experiment.about
    assert expand(experiment, FAULTS)


def test_every_kind_of_answer_is_asked_for() -> None:
    asked = {read_experiment(file, FAULTS).answers for file in FILES}
    assert asked == set(get_args(Question))


@pytest.mark.parametrize("file", ASKED, ids=lambda file: str(file.stem))
def test_each_of_the_reports_tests_has_its_answer_and_its_target(file: Path) -> None:
    assert read_experiment(file, FAULTS).answers != "general"
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    listed = makefile.partition("PHASE_1 :=")[2].partition("MATRIX :=")[0]
    assert f"experiments/{file.name}" in listed.split()
    kind, number = file.stem.split("-")[:2]
    assert f"\n{kind}-{number}: $(STAMP)" in makefile
    assert f"$({kind.upper()}_{number})" in makefile.partition("QUESTIONS :=")[2]


LOADS = [  # measured seconds, most users, criteria: as the report words them
    ("phase-1-pool", 120, 30, {"pg_connections <= 20"}),
    ("phase-2-gcs", 300, 100, {"p95 < 10 s", "error_rate < 5 %"}),
    ("phase-3-spike", 70, 50, {"p95 < 10 s", "error_rate < 5 %"}),
    ("phase-3-spike-cloudrun", 70, 50, {"p95 < 10 s", "error_rate < 5 %"}),
    ("phase-4-endurance", 1800, 20, {"error_rate < 5 %"}),
]


@pytest.mark.parametrize(("name", "seconds", "users", "criteria"), LOADS)
def test_a_phase_has_the_reports_load_and_criteria(
    name: str, seconds: float, users: int, criteria: set[str]
) -> None:
    for cell in cells(name):
        start, end = cell.load.measured
        assert (end - start, cell.load.peak_users) == (seconds, users)
        assert criteria <= {str(criterion) for criterion in cell.criteria}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.stem))
def test_the_reports_questions_have_its_files_and_the_others_say_why_not(file: Path) -> None:
    audio = {str(cell.load.audio) for cell in cells(file.stem)}
    if file in ASKED or file.stem in ("as-found", "workers-x-pool"):
        assert audio == {"2 MB"} if "scenario-4" in file.stem else {"50 KB - 2 MB"}
    if audio != {"50 KB - 2 MB"}:
        assert "# Files of " in file.read_text(encoding="utf-8")


@pytest.mark.parametrize("file", ASKED, ids=lambda file: str(file.stem))
def test_nginx_refuses_none_of_the_files_of_a_question_about_something_else(file: Path) -> None:
    for cell in cells(file.stem):
        limit = file_limit(cell.target, cell.knobs)
        assert limit is None or cell.load.audio.share_above(limit) == 0


def test_as_found_has_both_of_nginx_at_each_number_of_users() -> None:
    of = [(cell.knobs.nginx, cell.load.peak_users) for cell in cells("as-found")]
    users = (1, 5, 10, 20, 50)
    assert of == [(nginx, n) for nginx in ("as-found", "recommended") for n in users]


@pytest.mark.parametrize(
    ("name", "users"),
    [
        ("phase-5-stress", {300}),
        ("scenario-1-pool-exhaustion", {20, 50, 80}),
        ("scenario-2-gcs-backlog", {50, 100}),
    ],
)
def test_the_others_have_the_reports_users(name: str, users: set[int]) -> None:
    assert {cell.load.peak_users for cell in cells(name)} == users
