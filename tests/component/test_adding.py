"""Following `docs/adding.md` to the letter adds the thing, and touches what it names alone."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from lab.archives import unpack
from lab.paths import ROOT

STEP = re.compile(
    r"(?P<how>[Ii]n|[Aa]t\s+the\s+end\s+of|[Nn]ew\s+file)\s+`(?P<file>[\w./-]+)`"
    r"(?:,\s+(?P<side>before|in\s+place\s+of)\s+`(?P<anchor>[^`]+)`)?:\n\n"
    r"(?P<indent> +)```\w+\n(?P<code>.*?)\n(?P=indent)```",
    re.DOTALL,
)
COPIED = (
    *("lab", "compose", "faults", "experiments", "nginx", "tests", "validation", "docs"),
    "pyproject.toml",
)


def sections() -> dict[str, str]:
    """The guide's text by its headings: ``A knob``, ``A fault`` …"""
    guide = (ROOT / "docs" / "adding.md").read_text(encoding="utf-8")
    parts = re.split(r"^## (.+)$", guide, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def places(text: str) -> set[str]:
    """The files that a section says are touched."""
    named = re.search(r"Places:(.+?)\.\n\n", text, re.DOTALL)
    assert named, "a section says which places are touched"
    return set(re.findall(r"`([\w./-]+\.\w+)`", named[1]))


def follow(text: str, copy: Path) -> None:
    """Do what the steps of a section say."""
    steps = list(STEP.finditer(text))
    assert len(steps) == text.count("   ```") / 2, "a step that the test does not understand"
    for step in steps:
        file, anchor = copy / step["file"], step["anchor"]
        code = "\n".join(line.removeprefix(step["indent"]) for line in step["code"].split("\n"))
        source = file.read_text(encoding="utf-8") if file.exists() else ""
        assert bool(source) != step["how"].lower().startswith("new")
        if anchor is None:
            source += f"{code}\n"
        else:
            assert source.count(anchor) == 1, f"{anchor!r} is not one place of {step['file']}"
            kept = f"{code}\n{anchor}" if step["side"] == "before" else code
            source = source.replace(anchor, kept)
        file.parent.mkdir(exist_ok=True)
        file.write_text(source, encoding="utf-8")
    if "`make schema`" in text:
        for module in ("lab.config.schema", "lab.stack.compose.environment"):
            python(copy, "-m", module)
    for simulated in re.findall(r"`python (-m validation\.lesson_runs [^`]+)`", text):
        python(copy, *simulated.split())


def python(copy: Path, *arguments: str) -> str:
    """What Python prints when it runs in the copy."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def changed(copy: Path) -> set[str]:
    """The files of the copy that are new, or other than in the checkout."""
    files = [file.relative_to(copy) for file in copy.rglob("*") if file.is_file()]
    files = [file for file in files if file.parts[0] != ".hypothesis"]
    return {
        str(file)
        for file in files
        if not (ROOT / file).exists() or (ROOT / file).read_bytes() != (copy / file).read_bytes()
    }


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The checkout's files, as far as the guide can touch them."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            left_out = shutil.ignore_patterns("__pycache__", "wheels", ".env", "secrets")
            shutil.copytree(source, tmp_path / name, ignore=left_out)
        else:
            shutil.copy(source, tmp_path / name)
    return tmp_path


def stored_cell(copy: Path) -> Path:
    """A cell that was measured, as it is on disk."""
    with tarfile.open(ROOT / "tests/fixtures/stored_runs/phase-2-gcs.tar.xz") as tar:
        unpack(tar, copy / "results")
    [evidence] = (copy / "results").glob("*/cells/gcs_call=executor/evidence.jsonl")
    return evidence.parent


def judged(copy: Path) -> dict[str, object]:
    """The verdict of the copy's lab on a stored cell."""
    script = (
        "import sys; from pathlib import Path; from lab.judge import judge;"
        " from lab.model.run import as_json; from lab.store import CellFolder;"
        " folder = CellFolder(Path(sys.argv[1]));"
        " print(as_json(judge(folder.read_cell(), folder.read_observation())))"
    )
    cell = stored_cell(copy)
    verdict: dict[str, object] = json.loads(python(copy, "-c", script, str(cell)))
    shutil.rmtree(copy / "results")
    return verdict


def passes(copy: Path, *tests: str) -> None:
    """These tests of the copy pass, on its own code."""
    python(copy, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", *tests)


def works_as_a_knob(copy: Path) -> None:
    spec = "experiments/as-found.yaml"
    python(copy, "-m", "lab", "run", spec, "--dry-run", "--set", "backlog=7")
    assert "LAB_BACKLOG=2048" in (copy / "compose/as-found.env").read_text(encoding="utf-8")
    effect = "tests/replica/services/test_speed.py::test_uvicorn_is_told_how_many_may_wait"
    held_by = ("tests/unit/test_knob_coverage.py", "tests/unit/stack/test_life_cycle.py")
    passes(copy, *held_by, effect)


def works_as_a_fault(copy: Path) -> None:
    known = json.loads(python(copy, "-m", "lab", "faults", "--json"))
    assert "gcs-stutter" in {fault["fault"] for fault in known}


def works_as_a_rule(copy: Path) -> None:
    limit = judged(copy)["limit"]
    assert isinstance(limit, dict)
    [network] = [one for one in limit["candidates"] if one["resource"] == "network"]
    assert 0 < network["level"] < 0.1
    assert network["evidence"].endswith("of 125 MB a second")
    passes(copy, "tests/unit/judge/test_bottleneck.py")


def works_as_a_metric(copy: Path) -> None:
    assert "bytes_sent" in python(copy, "-m", "lab", "metrics", "--json")
    metrics = judged(copy)["metrics"]
    assert isinstance(metrics, dict)
    assert metrics["bytes_sent"] == metrics["attempts"] * 50_000
    judged_by = ("tests/unit/judge/test_metrics.py", "tests/unit/judge/test_decision.py")
    passes(copy, "tests/unit/config/test_schema.py", *judged_by)
    passes(copy, "tests/statistics/test_contradictions.py", "-k", "every_metric")


def works_as_a_stage(copy: Path) -> None:
    metrics = judged(copy)["metrics"]
    assert isinstance(metrics, dict)
    ends = ("", "_p50", "_p95", "_p99")
    assert [metrics[f"write_wait{end}"] <= metrics[f"pool_wait{end}"] for end in ends] == [True] * 4
    judged_by = [f"tests/unit/judge/test_{what}.py" for what in ("stages", "metrics", "decision")]
    passes(copy, "tests/unit/config/test_schema.py", *judged_by)
    passes(copy, "tests/statistics/test_contradictions.py", "-k", "every_metric")


def works_as_a_picture(copy: Path) -> None:
    script = (
        "import tempfile; from pathlib import Path; from lab.model.distribution import SizeClass;"
        " from lab.report import html_report; from tests.fakes import pictured_run;"
        " run = pictured_run.stored(Path(tempfile.mkdtemp()), pictured_run.cells(2));"
        " size = SizeClass(from_=50_000, to=100_000, attempts=8, failed=2);"
        " summary = run.summary();"
        " cells = [cell.model_copy(update={'sizes': (size,)}) for cell in summary.cells];"
        " summary = summary.model_copy(update={'cells': tuple(cells)});"
        " print(html_report(summary, run.info))"
    )
    page = python(copy, "-c", script)
    assert page.count('class="picture failed-by-size"') == 2
    assert page.count("Most of 50.0 KB - 100 KB failed: 25 %.") == 2


def works_as_an_experiment(copy: Path) -> None:
    spec = "experiments/storage-threads.yaml"
    plan = json.loads(python(copy, "-m", "lab", "run", spec, "--dry-run", "--json"))
    assert "gcs_threads=32" in json.dumps(plan)


def works_as_a_claim(copy: Path) -> None:
    [plan] = json.loads(
        python(copy, "-m", "lab", "claims", "threads-carry-the-few", "--dry-run", "--json")
    )
    assert plan["cells"] == ["case=as-found", "case=11-threads"]
    passes(copy, "tests/unit/claims/test_shipped.py")


def works_as_an_export_format(copy: Path) -> None:
    cell = stored_cell(copy)
    assert "a line a cell, for a shell" in python(copy, "-m", "lab", "export", "--help")
    run = str(cell.parents[1])
    out = python(copy, "-m", "lab", "export", run, "--to", "verdicts", "-o", "-")
    shutil.rmtree(copy / "results")
    lines = dict(line.split("\t") for line in out.splitlines())
    assert len(lines) == 3
    assert set(lines.values()) <= {"held", "broke", "undecided", "invalid"}
    passes(copy, "tests/unit/test_architecture.py", "-k", "verdicts")


def works_as_a_lesson(copy: Path) -> None:
    listed = json.loads(python(copy, "-m", "lab", "learn", "--json", "--learner", "nobody"))
    assert listed["lessons"][-1]["name"] == "slow-database"
    passes(copy, "tests/unit/lessons", "-k", "slow-database or test_there_are")


WORKS = {
    "A knob": works_as_a_knob,
    "A fault": works_as_a_fault,
    "A bottleneck rule": works_as_a_rule,
    "A metric": works_as_a_metric,
    "A stage": works_as_a_stage,
    "A picture": works_as_a_picture,
    "A claim": works_as_a_claim,
    "An export format": works_as_an_export_format,
    "An experiment": works_as_an_experiment,
    "A lesson": works_as_a_lesson,
}


def test_every_section_is_followed() -> None:
    assert set(sections()) == set(WORKS)


@pytest.mark.parametrize("kind", WORKS)
def test_what_is_added_works_and_touches_the_named_places_alone(kind: str, copy: Path) -> None:
    text = sections()[kind]
    follow(text, copy)
    assert changed(copy) == places(text)
    WORKS[kind](copy)
    python_files = sorted(place for place in places(text) if place.endswith(".py"))
    for check in (("check",), ("format", "--check")) if python_files else ():
        python(copy, "-m", "ruff", *check, "--no-cache", *python_files)
    if python_files:  # no new file of data changes how a stored run is judged
        passes(copy, "tests/unit/test_stored_runs.py")
    assert changed(copy) == places(text)
