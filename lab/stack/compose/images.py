"""Which images the replica runs on, where they came from, and whether all are here."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import docker
from docker.errors import ImageNotFound

from lab import __version__, paths
from lab.errors import LabError, MissingComponent
from lab.stack.compose import engine
from lab.stack.compose.image_lock import ImageLock, digest_of

CHOSEN = paths.made("compose", ".env")
"""What `lab images` writes: this machine's images, and where its passwords are."""

LOCKS = (paths.made("compose", "images.lock"), paths.ROOT / "compose" / "images.lock")
"""What each official image must be: as this machine got it first, and as the lab comes with it."""

OFFICIAL = {
    "LAB_NGINX_IMAGE": "nginx:1.31.3",
    "LAB_POSTGRES_IMAGE": "postgres:18.6",
    "LAB_POOLER_IMAGE": "edoburu/pgbouncer:v1.24.1-p1",
    "LAB_STORAGE_IMAGE": "fsouza/fake-gcs-server:1.56.1",
    "LAB_TOXIPROXY_IMAGE": "ghcr.io/shopify/toxiproxy:2.12.0",
    "LAB_BACKEND_IMAGE": f"replica-lab/backend:{__version__}",
}
"""The defaults of the Compose file."""

ORIGIN_LABEL = "replica-lab.origin"
CODE_LABEL = "replica-lab.code"
"""On the backend's image: a digest of the code inside."""

BASE_LABEL = "replica-lab.base"
"""On the backend's image: which image it was built on, and its id."""

HELD = ("lab/__init__.py", "lab/model", "lab/services")
"""What the backend's Dockerfile copies, beside its lock."""

PACKAGES = Path(__file__).resolve().parents[3]
"""The folder that holds the package."""


def code() -> str:
    """A digest of the part of this lab's code that the backend's image contains."""
    digest = hashlib.sha256()
    for held in HELD:
        where = PACKAGES / held
        for file in sorted(where.rglob("*.py")) if where.is_dir() else [where]:
            name = file.relative_to(PACKAGES).as_posix()
            digest.update(f"\0{name}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Image:
    """One image on this engine.

    Args:
        variable: of the Compose file, that names it.
        tag: its name.
        id: its short id.
        origin: ``official``, ``stand-in`` or ``built``.
        current: False for one that holds other code than this lab.
        digest: by which a registry gave it to this engine; empty for one that was built here.
        base: what it was built on, by name and id; empty for one that was not built here.
    """

    variable: str
    tag: str
    id: str
    origin: str
    current: bool = True
    digest: str = ""
    base: str = ""

    @property
    def about(self) -> str:
        """Where it came from, its id, and its digest or what it was built on."""
        held = "" if self.current else "of other code than this lab"
        on = f"on {self.base}" if self.base else ""
        return ", ".join(filter(None, [self.origin, self.id, self.digest, on, held]))


def short(variable: str) -> str:
    """``nginx`` of ``LAB_NGINX_IMAGE``."""
    return variable.removeprefix("LAB_").removesuffix("_IMAGE").lower()


def tags(chosen: Path = CHOSEN) -> dict[str, str]:
    """The tag of each image, by the variable of the Compose file that names it.

    As with Compose, a variable of the environment overrides that of the file.
    """
    given = read_env(chosen) | {name: value for name, value in os.environ.items() if value}
    return {name: given.get(name) or official for name, official in OFFICIAL.items()}


def read_env(path: Path) -> dict[str, str]:
    """The variables of an env file; none if there is no file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else ()
    return dict(line.strip().split("=", 1) for line in lines if "=" in line and line[0] != "#")


def present(client: docker.DockerClient, wanted: dict[str, str]) -> dict[str, Image]:
    """Those of the wanted images that this engine has, by variable.

    Raises:
        MachineError: the engine does not answer.
    """
    here = {}
    with engine.answering("list its images"):
        for variable, tag in wanted.items():
            try:
                image = client.images.get(tag)
            except ImageNotFound:
                continue
            labels = image.labels or {}
            here[variable] = Image(
                variable,
                tag,
                image.id.removeprefix("sha256:")[:12],
                labels.get(ORIGIN_LABEL, "official"),
                labels.get(CODE_LABEL, code()) == code(),
                digest_of(tag, image.attrs.get("RepoDigests") or ()),
                labels.get(BASE_LABEL, ""),
            )
    return here


def require(client: docker.DockerClient) -> dict[str, Image]:
    """Every image that the replica needs.

    Raises:
        MissingComponent: an image is not on this engine, or holds other code than this lab.
        MachineError: an image is another than an ``images.lock`` says.
    """
    wanted = tags()
    here = present(client, wanted)
    missing = [tag for variable, tag in wanted.items() if variable not in here]
    if missing:
        raise MissingComponent(
            f"the engine has no image {', '.join(missing)}",
            "`lab images` pulls or builds what is missing; or use --stack embedded",
        )
    stale = [image.tag for image in here.values() if not image.current]
    if stale:
        raise MissingComponent(
            f"the image {', '.join(stale)} holds other code than this lab",
            "`lab images` builds it anew; or use --stack embedded",
        )
    lock = ImageLock(*LOCKS)
    for image in here.values():
        lock.check(image.tag, image.digest)
    return here


def origins(images: Iterable[Image]) -> str:
    """Where images came from, in a few words: ``images: 5 official``."""
    kinds = Counter(image.origin for image in images)
    return "images: " + ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))


def require_stack() -> None:
    """Check that the compose stack can be used.

    Raises:
        LabError: the first thing that is missing, with its remedy.
    """
    client = engine.connect()
    try:
        engine.compose_version()
        require(client)
    finally:
        client.close()


def preferred() -> tuple[str, str]:
    """The stack that ``auto`` means here, and why in a few words."""
    try:
        require_stack()
    except LabError as error:
        return "embedded", error.what
    return "compose", "an engine, Compose and every image are here"
