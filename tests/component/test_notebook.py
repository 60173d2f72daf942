"""``import lab``: what a notebook is offered, on a fake replica."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

import lab
from lab.cli import session
from lab.errors import LabError, UsageError
from lab.model.evidence import Cause
from tests import command
from tests.fakes import FakeStack, InstantLoad, RecordingInjector


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A spec of two cells, and a fake replica on which it is run."""
    stack = Named(tmp_path / "fake")

    @contextmanager
    def open_stack(chosen: tuple[str, str], *_rest: Any) -> Iterator[tuple[Named, str]]:
        assert "PGSERVICE" not in os.environ
        yield stack, chosen[1]

    monkeypatch.setenv("PGSERVICE", "of-the-notebook")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(session, "open_stack", open_stack)
    monkeypatch.setattr(session, "choose", lambda *_asked: ("fake", "asked for"))
    monkeypatch.setattr(session, "ToxiproxyInjector", RecordingInjector)
    monkeypatch.setattr(session, "LocustLoad", lambda: nullcontext(InstantLoad(uploads=20)))
    yield command.spec(tmp_path)
    stack.close()


class Named(FakeStack):
    """A replica that fails nothing, and that a run can name."""

    origins = "no real part"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, self.cause)

    def cause(self, _number: int) -> Cause | None:
        return None


def test_a_run_is_made_and_loaded(spec: Path) -> None:
    run = lab.run_experiment(spec, settings={"db_cap": 30}, speed=4)
    cells = run.summary().cells
    assert [cell.id for cell in cells] == ["workers=1", "workers=2"]
    assert {cell.metrics["attempts"] for cell in cells} == {20}
    assert {(cell.knobs["db_cap"], cell.knobs["speed"]) for cell in cells} == {(30, 4)}
    assert (run.path / "report.html").is_file()
    asked = json.loads((run.path / "run.json").read_text())["arguments"]
    assert asked == ["run", str(spec), "--speed=4", "--results=results", "--set=db_cap=30"]
    for ref in ("latest", run.info.name, run.path):
        assert lab.load_run(ref).summary() == run.summary()
    assert lab.load_run(results=run.path.parent).path.samefile(run.path)
    assert os.environ["PGSERVICE"] == "of-the-notebook"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"speed": 0}, "Invalid value for '--speed': 0.0 is not in the range 1<=x<=50."),
        ({"users": 0}, "Invalid value for '--users': 0 is not in the range 1<=x<=5000."),
        ({"stack": "docker"}, "'docker' is not one of 'auto', 'compose', 'embedded'."),
        ({"preset": "best"}, "'best' is not one of 'as-found', 'recommended'."),
        ({"settings": {"pol_size": 3}}, "did you mean 'pool_size'?"),
        ({"settings": {"workers": 99}}, "'workers': 99 is out of bounds - it must be <= 16"),
        ({"spec": "lawz"}, "neither a file nor a spec of the lab - did you mean 'laws'?"),
        ({"spec": "--help"}, "--help: neither a file nor a spec of the lab - known are: "),
        ({"results": "spec.yaml"}, "Directory 'spec.yaml' is a file."),
    ],
)
def test_what_is_wrong_is_said_in_a_line(spec: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        lab.run_experiment(**{"spec": spec, **given})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not Path("results").exists()


def test_a_run_that_is_not_there(spec: Path) -> None:
    for ref in ("latest", "2026", spec):
        with pytest.raises(LabError) as caught:
            lab.load_run(ref)
        assert "\n" not in str(caught.value)


def test_importing_the_lab_imports_nothing_until_it_is_asked() -> None:
    program = (
        "import sys; before = set(sys.modules); import lab; print(*set(sys.modules) - before);"
        "print(*dir(lab)); print(lab.load_run.__module__, hasattr(lab, 'load_runs'))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    imported, offered, asked = done.stdout.splitlines()
    assert imported == "lab"
    assert {"load_run", "run_experiment", "__version__"} <= set(offered.split())
    assert asked == "lab.notebook False"
