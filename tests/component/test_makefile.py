"""What the targets of the Makefile run, seen with a ``lab`` that only says what it is asked."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.config import read_experiment, read_faults
from lab.paths import ROOT
from lab.plan import estimate, expand

Make = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Run ``make`` in the project with that ``lab``; it ends with the code that a spec is given."""
    lab = tmp_path / "lab"
    lab.write_text(
        '#!/bin/sh\necho "lab $*"\n'
        'for word; do case "$word" in *.yaml) spec=$(basename "$word" .yaml);; esac; done\n'
        'exit "$(cat "$(dirname "$0")/$1-$spec" 2>/dev/null || echo 0)"\n'
    )
    lab.chmod(0o755)
    stamp = tmp_path / "stamp"
    stamp.touch()

    def run(*words: str, **codes: int) -> subprocess.CompletedProcess[str]:
        for spec, code in codes.items():
            (tmp_path / f"run-{spec.replace('_', '-')}").write_text(str(code))
        command = ["make", f"BIN={tmp_path}", f"STAMP={stamp}", *words]
        outer = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")  # where make itself runs these tests
        env = {name: value for name, value in os.environ.items() if name not in outer}
        return subprocess.run(
            command, cwd=ROOT, env=env, text=True, capture_output=True, timeout=30
        )

    return run


def asked(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The commands, without the folder of the specs."""
    lines = [line for line in done.stdout.splitlines() if line.startswith("lab ")]
    return [" ".join(line.replace("experiments/", "").split()) for line in lines]


def test_the_list_of_targets_fits_a_terminal_and_has_every_one(make: Make) -> None:
    lines = make("help").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    told = re.findall(r"(?m)^([a-z0-9-]+):.*## (.*)$", (ROOT / "Makefile").read_text())
    assert told
    assert [f"{name} {about}" for name, about in told if f" {name} {about}" not in text] == []
    assert [line for line in lines if line.endswith((" cells,", " about"))] == []


@pytest.mark.parametrize(
    ("words", "pace"),
    [
        (["STACK=embedded"], ""),
        (["STACK=compose"], ""),
        (["STACK=compose", "SPEED=2"], "--speed 2 "),
        (["STACK=embedded", "SPEED=4", "ARGS=--gate"], "--speed 4 --gate "),
    ],
)
def test_a_speed_reaches_the_vm_alone_and_without_one_the_lab_chooses(
    make: Make, words: list[str], pace: str
) -> None:
    done = make("phase-3", *words)
    stack = words[0].removeprefix("STACK=")
    args = "--gate " if "--gate" in pace else ""
    assert asked(done) == [
        f"lab run --stack {stack} {pace}phase-3-spike.yaml",
        f"lab run --stack {stack} {args}phase-3-spike-cloudrun.yaml",
    ]
    assert done.returncode == 0


TOLD = re.findall(
    r"(?m)^([a-z0-9-]+):.*## .*\((\d+) cells, about (\d+) minutes?\)$",
    (ROOT / "Makefile").read_text(encoding="utf-8"),
)


@pytest.mark.parametrize(("target", "count", "minutes"), TOLD)
def test_the_cells_and_the_minutes_that_help_tells_are_those_of_a_dry_run(
    make: Make, target: str, count: str, minutes: str
) -> None:
    faults = read_faults(ROOT / "faults")
    specs = [ROOT / "experiments" / line.split()[-1] for line in asked(make(target))]
    cells = [cell for spec in specs for cell in expand(read_experiment(spec, faults), faults)]
    assert len(cells) == int(count)
    assert estimate(cells) / 60 == pytest.approx(float(minutes), rel=0.3, abs=0.5)


def test_a_spec_that_could_not_be_measured_does_not_leave_out_the_next(make: Make) -> None:
    done = make("phase-3", "STACK=embedded", phase_3_spike=4)
    assert len(asked(done)) == 2
    assert "Error 4" in done.stderr


def test_ctrl_c_ends_all(make: Make) -> None:
    done = make("all", "STACK=embedded", phase_2_gcs=130)
    assert [line.split()[-1] for line in asked(done)] == ["phase-1-pool.yaml", "phase-2-gcs.yaml"]
    assert "Error 130" in done.stderr


def test_all_asks_every_question_and_writes_the_page_of_this_time(make: Make) -> None:
    *runs, page = asked(make("all", "STACK=embedded", phase_1_pool=3, scenario_2_gcs_backlog=1))
    specs = [line.split()[-1] for line in runs]
    there = {path.name for path in (ROOT / "experiments").glob("*.yaml")}
    questions = {name for name in there if name.startswith(("phase-", "scenario-"))}
    assert set(specs) == questions | {"workers-x-pool.yaml"}
    assert page.startswith(f"lab summary {' '.join(specs)} --since 20")


def test_the_advice_is_judged_on_both_targets(make: Make) -> None:
    done = make("recommendations", "STACK=embedded", "SPEED=2", recommendations=4)
    assert asked(done) == [
        "lab run --stack embedded --speed 2 recommendations.yaml",
        "lab run --stack embedded recommendations-cloudrun.yaml",
    ]
    assert "Error 4" in done.stderr


@pytest.mark.parametrize("target", ["threshold", "matrix", "as-found", "client-timeout", "laws"])
def test_other_targets_run_their_spec(make: Make, target: str) -> None:
    [line] = asked(make(target, "STACK=compose", "SPEED=2"))
    assert "--stack compose --speed 2" in line
    assert (ROOT / "experiments" / line.split()[-1]).exists()


@pytest.mark.parametrize(
    ("words", "tests"),
    [
        (["check"], "pytest --quiet --numprocesses 2 tests/unit"),
        (["test"], "pytest --cache-clear --numprocesses 3 || { code=$?; \\"),
        (["test"], "pytest --last-failed --numprocesses 1 ; }"),
        (
            ["test", "LAYER=component"],
            "pytest --cache-clear --numprocesses 3 tests/component || { code=$?; \\",
        ),
        (
            ["test", "LAYER=unit replica", "ARGS=-x"],
            "pytest --last-failed --numprocesses 1 tests/unit tests/replica -x; }",
        ),
        (
            ["coverage"],
            "pytest --numprocesses 2 --cov --cov-report term tests/unit tests/component",
        ),
    ],
)
def test_what_is_tested(make: Make, words: list[str], tests: str) -> None:
    commands = [" ".join(line.split()) for line in make("--dry-run", *words).stdout.splitlines()]
    last = commands[-4:] if words[0] == "test" else commands[-1:]  # its recipe has two passes
    assert any(command.endswith(f"/{tests}") for command in last)
    lint = ["ruff check .", "mypy", "vulture", "pylint lab", "yamllint --strict ."]
    for program in lint if words[0] != "coverage" else ():
        assert any(command.endswith(f"/{program}") for command in commands), program


def test_an_environment_that_is_a_link_is_refused_and_what_it_leads_to_stays(
    tmp_path: Path,
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "kept").touch()
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / ".venv").symlink_to(shared)
    outer = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    env = {name: value for name, value in os.environ.items() if name not in outer}
    done = subprocess.run(
        # `false` would make no environment either, should the refusal ever be lost
        ["make", "PYTHON=false", "setup"],
        cwd=tmp_path, env=env, text=True, capture_output=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 2
    assert ".venv is a link" in done.stderr
    assert (shared / "kept").exists()
