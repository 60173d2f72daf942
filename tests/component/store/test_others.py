"""Whatever somebody else has put where the lab reads, writes or clears is as it was afterwards.

The places are those of a real run: every file and folder that it has left below the results folder,
the files that it writes for a moment, and a name that nobody foresaw in each of its folders.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lab.errors import LabError
from lab.paths import ROOT
from lab.runner import Lab, run_experiment
from lab.store import RunFolder
from tests.cli_fixture import run_main
from tests.fakes import FakeStack, InstantLoad, RecordingInjector
from validation.fresh_run import SPEC, make_fresh

CODES = {0, 2, 3, 4}
LIMIT_S = 10


def _file(path: Path, _others: Path) -> None:
    path.write_text("somebody else's")


def _link(path: Path, others: Path) -> None:
    path.symlink_to(others / "thesis.txt")


def _link_to_folder(path: Path, others: Path) -> None:
    path.symlink_to(others)


def _link_to_nothing(path: Path, others: Path) -> None:
    path.symlink_to(others / "none")


def _second_name(path: Path, others: Path) -> None:
    path.hardlink_to(others / "thesis.txt")


def _pipe(path: Path, _others: Path) -> None:
    os.mkfifo(path)


def _folder(path: Path, others: Path) -> None:
    shutil.copytree(others, path)


IN_PLACE = (_link, _link_to_folder, _link_to_nothing, _pipe, _folder)
"""What can be in place of a file or a folder of the lab's and is not the lab's: a file is."""

BESIDE = (*IN_PLACE, _file, _second_name)


def state(path: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """All that there is at a path: its kind, when it was written, its links, what it holds."""
    found = {}
    for one in [path, *sorted(path.rglob("*"))] if path.is_dir() else [path]:
        status = one.lstat()
        content = b""
        if stat.S_ISLNK(status.st_mode):
            content = bytes(one.readlink())
        elif stat.S_ISREG(status.st_mode):
            content = one.read_bytes()
        found[str(one)] = status.st_mode, status.st_mtime_ns, status.st_ino, content
    return found


def outcome(*arguments: str | Path) -> tuple[int, str]:
    """How a command ended, in this process: its exit code, and what it said on standard error."""
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()) as err:
        code = run_main(*arguments)
    return code, err.getvalue()


def measured(results: Path, resumed: Path | None = None) -> tuple[int, str]:
    """``lab run``, and with a run ``lab run --resume``, on a replica that is a fake."""
    stack = FakeStack(results.parent / "replica")
    try:
        if resumed is None:
            make_fresh(results)
            return 0, ""
        run = RunFolder.open(resumed)
        with run.lock():
            run_experiment(Lab(stack, RecordingInjector(), InstantLoad(3)), run, run.cells())
    except LabError as error:
        return error.exit_code, f"lab: {error}\n"
    finally:
        stack.close()
    return 0, ""


@dataclass(frozen=True)
class Ground:
    """A finished run and one that was interrupted, and what belongs to somebody else."""

    folder: Path

    @property
    def results(self) -> Path:
        return self.folder / "results"

    @property
    def others(self) -> Path:
        return self.folder / "others"

    def commands(self, finished: Path, interrupted: Path) -> list[Callable[[], tuple[int, str]]]:
        """All that a user may do with them, the spec of the runs beside them."""
        spec, at = self.folder / "spec.yaml", ("--results", self.results)
        return [
            *(lambda run=run: outcome("judge", run) for run in (finished, interrupted)),
            *(lambda run=run: outcome("report", run) for run in (finished, interrupted)),
            lambda: outcome("report", "latest", "--html", *at),
            lambda: outcome("runs", *at),
            lambda: outcome("summary", spec, *at),
            lambda: outcome("status", *at),
            lambda: outcome("down", *at),
            lambda: measured(self.results, interrupted),
            lambda: outcome("judge", interrupted),
            lambda: measured(self.results),
            lambda: outcome("judge", "latest", *at),
        ]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a ground is copied from."""
    folder = tmp_path_factory.mktemp("ground")
    (folder / "others").mkdir()
    (folder / "others" / "thesis.txt").write_text("three years of work")
    (folder / "spec.yaml").write_text(json.dumps(SPEC))
    for _ in range(2):
        run = make_fresh(folder / "results")
        outcome("judge", run.path)
    (run.cell(run.info.cells[1]).path / "verdict.json").unlink()
    (run.cell(run.info.cells[1]).path / "evidence.jsonl").unlink()
    outcome("summary", folder / "spec.yaml", "--results", folder / "results")
    return folder


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def places(results: Path) -> list[str]:
    """Every place below the results folder, and those that are there for a moment."""
    there = [path.relative_to(results) for path in sorted(results.rglob("*"))]
    folders = [Path(), *(path for path in there if _is_folder(results / path))]
    pid = os.getpid()
    moments = [
        folder / name
        for folder in folders
        for name in (f".summary.json.{pid}.tmp", f".cell.json.{pid}.tmp", f".latest.{pid}.tmp")
    ]
    unforeseen = [folder / "somebody's" for folder in folders]
    return [str(path) for path in [*there, *moments, *unforeseen]]


def test_every_kind_of_place_is_among_them(made: Path) -> None:
    names = {Path(place).name for place in places(made / "results")}
    assert names >= {
        *("latest", "summary.md", "run.json", "summary.json", "report.html", "report.md", ".lock"),
        *("cells", "workers=1", "cell.json", "samples.jsonl", "evidence.jsonl", "verdict.json"),
        *("logs", "generator.log", "server.log", "somebody's", "attempts", "1"),
    }


@pytest.fixture(scope="module", autouse=True)
def _own_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No replica of another lab's is looked at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(tmp_path_factory.mktemp("tmp")))
        yield


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_what_is_somebody_elses_is_as_it_was(
    made: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    ground = Ground(tmp_path_factory.mktemp("others"))
    shutil.copytree(made, ground.folder, symlinks=True, dirs_exist_ok=True)
    finished, interrupted = sorted(path for path in ground.results.iterdir() if _is_folder(path))
    place = ground.results / data.draw(st.sampled_from(places(made / "results")), label="place")
    in_place = os.path.lexists(place)
    plant = data.draw(st.sampled_from(IN_PLACE if in_place else BESIDE), label="what")
    if in_place:
        shutil.rmtree(place) if _is_folder(place) else place.unlink()
    if place.name.endswith(".tmp") and plant in (_file, _second_name):
        plant = _pipe  # a file of that name is the lab's own
    plant(place, ground.others)
    before = state(place), state(ground.others)
    for number, command in enumerate(ground.commands(finished, interrupted)):
        began = time.monotonic()
        code, said = command()
        assert time.monotonic() - began < LIMIT_S
        assert code in CODES, (number, code, said)
        assert "unexpected" not in said
        assert (state(place), state(ground.others)) == before, (number, said)


def test_make_clean_leaves_results_and_what_links_lead_to(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    kept = [tmp_path / "results" / "a-run" / "run.json", tmp_path / "others" / "thesis.txt"]
    for path in kept:
        path.parent.mkdir(parents=True)
        path.write_text("kept")
    for name in (".venv", ".tools", ".mypy_cache", ".coverage"):
        (tmp_path / name).symlink_to(tmp_path / "others")
    done = subprocess.run(["make", "clean"], cwd=tmp_path, check=False, capture_output=True)
    assert done.returncode == 0
    assert [path.read_text() for path in kept] == ["kept", "kept"]
