"""``lab summary``: one page of stored answers, and an exit code that is true."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lab.cli.options import known_faults
from lab.config import read_experiment
from lab.model.run import Summary
from lab.plan import expand
from lab.store import RunFolder
from tests.cli_fixture import Command
from tests.fakes import sample_run

OTHER = "experiment: other\nabout: and the other?\nload: {users: 5}\n"
SAMPLE = "experiment: workers-x-pool\nload: {users: 50}\n"


@pytest.fixture
def specs(tmp_path: Path) -> tuple[Path, Path]:
    files = tmp_path / "sample.yaml", tmp_path / "other.yaml"
    for file, text in zip(files, (SAMPLE, OTHER), strict=True):
        file.write_text(text)
    return files


def stored(results: Path, sound: bool) -> RunFolder:
    """A run of the sample, whole; its first two cells alone where all are to be sound."""
    cells = sample_run.cells()
    run = sample_run.create(results, cells[:2] if sound else cells)
    for cell in run.cells():
        sample_run.measure(run, cell)
    return run


def test_the_page_is_printed_and_stored(
    lab: Command, tmp_path: Path, specs: tuple[Path, Path]
) -> None:
    run = stored(tmp_path / "r", sound=True)
    ended = lab("summary", specs[0], "--results", tmp_path / "r")
    assert ended.code == 0
    assert ended.out == (tmp_path / "r" / "summary.md").read_text()
    assert run.info.name in ended.out
    assert "| 2 cells: 2 broke; not as the spec asks | workers-x-pool |" in ended.out
    assert not list((tmp_path / "r").glob(".*"))


@pytest.mark.parametrize(
    ("sound", "both", "since", "code"),
    [
        (True, False, None, 0),
        (True, False, "2026-11-24T08:15:00Z", 0),
        (True, False, "2026-11-24T08:15:01Z", 4),
        (True, True, None, 4),
        (False, False, None, 4),
    ],
    ids=["all-measured", "since-its-start", "since-later", "one-never-run", "some-invalid"],
)
def test_the_exit_code_says_whether_all_was_measured(
    lab: Command,
    tmp_path: Path,
    specs: tuple[Path, Path],
    sound: bool,
    both: bool,
    since: str | None,
    code: int,
) -> None:
    stored(tmp_path / "r", sound)
    after = ["--since", since] if since else []
    ended = lab("summary", *specs[: 1 + both], *after, "--results", tmp_path / "r")
    assert ended.code == code
    missing = both or since == "2026-11-24T08:15:01Z"
    assert ("Not measured: no run of it is stored." in ended.out) == missing


def test_the_latest_run_counts(lab: Command, tmp_path: Path, specs: tuple[Path, Path]) -> None:
    first, second = (stored(tmp_path / "r", sound=True) for _ in range(2))
    ended = lab("summary", specs[0], "--results", tmp_path / "r")
    assert f"run {second.path.name}," in ended.out
    assert f"run {first.path.name}," not in ended.out


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, None),
        ({"speed": 3}, None),
        (
            {"leak": "memory"},
            "**Not as the spec asks: workers-x-pool: knobs.leak was memory, is off.**",
        ),
    ],
    ids=["the-spec", "its-speed", "other-settings"],
)
def test_a_run_at_other_settings_than_the_specs_says_so(
    lab: Command,
    tmp_path: Path,
    specs: tuple[Path, Path],
    settings: dict[str, Any],
    told: str | None,
) -> None:
    [cell] = expand(read_experiment(specs[0], known_faults()), known_faults(), settings)
    sample_run.measure(sample_run.create(tmp_path / "r", [cell]), cell)
    out = lab("summary", specs[0], "--results", tmp_path / "r").out
    assert ("| 1 cell: 1 broke; not as the spec asks |" in out) == (told is not None)
    assert ("not as the spec asks" in out.lower()) == (told is not None)
    assert (told or "") in out.replace("\\", "")  # as escaped for Markdown


def test_a_run_that_cannot_be_read_is_not_passed_over(
    lab: Command, tmp_path: Path, specs: tuple[Path, Path]
) -> None:
    stored(tmp_path / "r", sound=True)
    latest = stored(tmp_path / "r", sound=True)
    (latest.path / "run.json").write_text("{")
    ended = lab("summary", specs[0], "--results", tmp_path / "r")
    assert ended.code == 4
    assert "the file is damaged" in ended.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "lab: no spec is given - write one, as `lab summary experiments/phase-*.yaml`"),
        (["none.yaml"], "lab: none.yaml: no such file"),
        (["--since", "yesterday", "none.yaml"], "lab: Invalid value for '--since': 'yesterday'"),
    ],
)
def test_bad_input(lab: Command, tmp_path: Path, arguments: list[str], message: str) -> None:
    ended = lab("summary", *arguments, "--results", tmp_path / "r")
    assert ended.code == 2
    assert ended.err.startswith(message)
    assert not (tmp_path / "r").exists()


def test_judging_anew_stores_the_answer_that_the_report_shows(lab: Command, tmp_path: Path) -> None:
    run = stored(tmp_path / "r", sound=True)
    lab("judge", "latest", "--results", tmp_path / "r")
    told = lab("report", "latest", "--json", "--results", tmp_path / "r").out
    assert told == (run.path / "summary.json").read_text()
    answer = Summary.model_validate_json(told).answer
    assert answer
    assert answer.text in " ".join((run.path / "report.html").read_text().split())
    text = lab("report", "latest", "--results", tmp_path / "r").out
    assert answer.text in " ".join(text.split())
