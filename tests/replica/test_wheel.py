"""The wheel: built, installed in a fresh environment, and used by an ordinary user elsewhere.

Only the lab itself is fresh there; its dependencies are those that these tests run on.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

import pytest

from lab.paths import NEEDED, ROOT
from tests.somebody import PACKAGES, python_of_nobody

SOURCES = (*NEEDED, "lab", "pyproject.toml", "README.md", "LICENSE", ".gitignore")
SECRET = "LAB_APP_PASSWORD=of-this-machine"
OWN = (
    *("compose/.env", "compose/.env.4711", "compose/secrets/app"),
    "compose/backend/wheels/x.whl",
)
"""What a machine makes for itself in a checkout."""

LIMIT_S = 240


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that other users may enter, as pytest's own may not be."""
    made = Path(tempfile.mkdtemp(prefix="wheel-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def wheel(folder: Path) -> Path:
    """The wheel, of a checkout in which a machine's own files are."""
    copy = folder / "checkout"
    for name in SOURCES:
        if (ROOT / name).is_dir():
            left_out = shutil.ignore_patterns(
                *("__pycache__", ".env*", "secrets", "*.whl", "are-for")
            )
            shutil.copytree(ROOT / name, copy / name, ignore=left_out)
        else:
            shutil.copy(ROOT / name, copy / name)
    for name in OWN:
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_text(SECRET)
    flags = ("--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", folder)
    run(sys.executable, "-m", "pip", "wheel", *flags, copy)
    [built] = folder.glob("*.whl")
    return built


def run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stdout + done.stderr


@dataclass(frozen=True)
class Somebody:
    """An ordinary user, in an empty folder, with the lab installed.

    Args:
        environment: the folder of the virtual environment.
        here: the folder, which is empty.
        user: its name; None: who runs these tests.
    """

    environment: Path
    here: Path
    user: str | None

    @property
    def data(self) -> Path:
        """The lab's data, as it is installed."""
        [package] = self.environment.glob("lib/*/site-packages/lab")
        return package / "data"

    def runs(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A program of the environment."""
        home = str(self.here.parent)
        path = f"{self.environment / 'bin'}:{os.environ['PATH']}"
        return subprocess.run(
            [self.environment / "bin" / program, *arguments],
            cwd=self.here,
            env={"PATH": path, "HOME": home, "TMPDIR": home, "REPLICA_LAB_STACK": "embedded"},
            user=self.user,
            extra_groups=[] if self.user else None,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=LIMIT_S,
        )

    def lab(self, *arguments: str) -> str:
        """What the command prints; it ends well, or with what it could not decide."""
        done = self.runs("lab", *arguments)
        assert done.returncode in (0, 4), done.stderr
        return done.stdout

    def fails(self, *arguments: str) -> tuple[int, str]:
        """The exit code, and the one line."""
        done = self.runs("lab", *arguments)
        assert done.stderr.count("\n") == 1, done.stderr
        return done.returncode, done.stderr.removeprefix("lab: ").rstrip("\n")


@pytest.fixture(scope="module")
def environment(folder: Path, wheel: Path) -> Path:
    """A virtual environment in which the lab alone is fresh."""
    python = (python_of_nobody() if os.geteuid() == 0 else None) or sys.executable
    made = folder / "environment"
    run(python, "-m", "venv", "--without-pip", made)
    pip = (sys.executable, "-m", "pip", "--python", made / "bin" / "python")
    run(*pip, "install", "--quiet", "--no-index", "--no-deps", wheel)
    [packages] = made.glob("lib/*/site-packages")
    (packages / "dependencies.pth").write_text(PACKAGES.replace(os.pathsep, "\n"))
    return made


@pytest.fixture
def somebody(folder: Path, environment: Path) -> Iterator[Somebody]:
    """Nobody, where these tests are root's and nobody can reach Python; else who runs them."""
    user = "nobody" if os.geteuid() == 0 and python_of_nobody() else None
    home = Path(tempfile.mkdtemp(dir=folder))
    here = home / "empty"
    here.mkdir()
    if user:
        for made in (home, here):
            os.chown(made, pwd.getpwnam(user).pw_uid, -1)
    yield Somebody(environment, here, user)
    shutil.rmtree(home)


def test_the_wheel_holds_the_data_and_nothing_of_this_machine(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        held = {
            name.removeprefix("lab/data/"): archive.getinfo(name).external_attr >> 16
            for name in archive.namelist()
            if name.startswith("lab/data/")
        }
        assert not [name for name in archive.namelist() if SECRET.encode() in archive.read(name)]
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *NEEDED]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    tracked = {name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()}
    assert set(held) == tracked - {"compose/backend/wheels/.gitkeep"}
    for name, mode in held.items():
        assert bool(mode & 0o100) == os.access(ROOT / name, os.X_OK), name


@pytest.mark.long
def test_the_course_is_in_the_wheel(wheel: Path) -> None:
    with ZipFile(wheel) as files:
        held = set(files.namelist())
    own = [path for path in (ROOT / "lab" / "lessons").rglob("*") if path.is_file()]
    texts = {str(path.relative_to(ROOT)) for path in own if "__pycache__" not in path.parts}
    assert {Path(name).suffix for name in texts} >= {".yaml", ".md", ".j2", ".py"}
    assert texts <= held


def test_from_an_empty_folder_to_a_report(somebody: Somebody) -> None:
    doctor = json.loads(somebody.runs("lab", "doctor", "--json").stdout)
    [data] = [part for part in doctor if part["name"] == "data files"]
    assert (data["ok"], data["found"]) == (True, str(somebody.data))

    assert "12 cells" in somebody.lab("run", "workers-x-pool", "--dry-run")

    assert "experiments/as-found.yaml" in somebody.lab("init", ".")
    code, line = somebody.fails("init", ".")
    assert (code, line) == (
        2,
        "experiments/as-found.yaml is there already - name another folder, or move it away",
    )
    two_cells(somebody.here / "experiments" / "workers-x-pool.yaml")

    # Whether a cell is valid does not matter here: on a busy machine none is measured again.
    table = somebody.lab("run", "experiments/workers-x-pool.yaml", "--retries", "0")
    assert "2 cells: " in table
    [run] = (somebody.here / "results").glob("*-workers-x-pool-*")
    assert run.owner() == (somebody.user or pwd.getpwuid(os.geteuid()).pw_name)
    assert json.loads((run / "run.json").read_text())["git"] == ""
    assert somebody.lab("report", "latest", "--html").startswith("<!doctype html>")
    program = "import lab; print(len(lab.load_run().summary().cells), lab.__file__)"
    [cells, file] = somebody.runs("python", "-c", program).stdout.split()
    assert (cells, Path(file).parent) == ("2", somebody.data.parent)


def two_cells(spec: Path) -> None:
    """Leave two short cells of the copied spec."""
    text = spec.read_text()
    for old, new in {
        "[1, 2, 4]": "[1, 2]",
        "[hold, release]": "[release]",
        "    10+10: {pool_size: 10, max_overflow: 10}\n": "",
        "users: 85\n  ramp: 5 s\n  warmup: 10 s\n  window: 60 s\n  think: 4 s": (
            "users: 10\n  ramp: 1 s\n  warmup: 1 s\n  window: 10 s"
        ),
    }.items():
        assert old in text
        text = text.replace(old, new)
    spec.write_text(text)


@pytest.mark.parametrize("name", ["faults", "nginx/proxy.conf.template"])
def test_the_doctor_names_a_missing_file(somebody: Somebody, name: str) -> None:
    lost, elsewhere = somebody.data / name, somebody.environment / "elsewhere"
    shutil.move(lost, elsewhere)
    try:
        doctor = somebody.runs("lab", "doctor")
        failed = somebody.fails("faults") if name == "faults" else None
    finally:
        shutil.move(elsewhere, lost)
    [line] = [line for line in doctor.stdout.splitlines() if "data files" in line]
    assert doctor.returncode == 3
    remedy = "install the lab's wheel again"
    assert " ".join(line.split()) == f"MISS data files missing: {lost} - {remedy}"
    what = f"{lost}: no such file or folder, and the lab needs it"
    assert failed in (None, (3, f"{what} - {remedy}"))


def test_where_results_cannot_be_written(somebody: Somebody) -> None:
    if os.geteuid() == 0 and not somebody.user:
        pytest.skip("root may write everywhere")
    somebody.here.chmod(0o555)
    failed = somebody.fails("run", "laws")
    assert failed == (
        3,
        "results: cannot be written (Permission denied) - choose another with --results",
    )
