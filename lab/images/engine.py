"""The container engine, over its command line, which honours contexts and DOCKER_HOST."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from typing import IO

from lab.errors import MissingComponent, PartFailed
from lab.images.catalogue import VENDOR
from lab.paths import ENGINE
from lab.stack.compose.image_lock import digest_of

RECIPE = "replica-lab.recipe"
STANDS_FOR = "replica-lab.stands-for"
VENDOR_LABEL = "org.opencontainers.image.vendor"

ANSWER_S = 20


def last_line(text: str) -> str:
    """What a program said last, which is where it says why."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no message"


def docker(*arguments: str, given: IO[bytes] | None = None) -> str:
    """Run docker and return what it prints.

    Args:
        given: read as its standard input.

    Raises:
        PartFailed: it failed; with the last line it wrote.
    """
    done = subprocess.run(  # noqa: S603 - the engine's own client
        ["docker", *arguments],  # noqa: S607 - wherever it is on PATH
        capture_output=True,
        check=False,
        stdin=given,
    )
    if done.returncode:
        said = last_line(done.stderr.decode(errors="replace"))
        raise PartFailed(f"docker {arguments[0]}: {said}", "see `docker info` and `df -h`")
    return done.stdout.decode().strip()


def architecture() -> str:
    """The engine's, in Go's words: amd64, arm64. The first question put to the engine.

    Raises:
        MissingComponent: there is no client, or no engine answers it.
    """
    remedy = f"start it, or {ENGINE}"
    if shutil.which("docker") is None:
        raise MissingComponent("no container engine: `docker` is not on PATH", remedy)
    try:
        done = subprocess.run(
            ["docker", "version", "--format", "{{.Server.Arch}}"],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=ANSWER_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise MissingComponent(f"no engine answers in {ANSWER_S} s", remedy) from error
    if done.returncode:
        raise MissingComponent(f"no engine answers: {last_line(done.stderr)}", remedy)
    return done.stdout.strip()


def labels(image: str) -> dict[str, str] | None:
    """The labels of an image on the engine; None where it is not there."""
    done = subprocess.run(  # noqa: S603 - the engine's own client
        ["docker", "image", "inspect", "--format", "{{json .Config.Labels}}", image],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return None
    found: dict[str, str] | None = json.loads(done.stdout)
    return found or {}


def digest(image: str) -> str:
    """The digest by which a registry gave this image to the engine; empty if none did."""
    listed = docker("image", "inspect", "--format", "{{json .RepoDigests}}", image)
    return digest_of(image, json.loads(listed) or ())


def made_from(image: str, recipe: str) -> bool:
    """Whether the engine has this image, made from this recipe."""
    return (labels(image) or {}).get(RECIPE) == recipe


def label_flags(values: Mapping[str, str]) -> list[str]:
    """``--label`` for each, and our name as the vendor."""
    everything = {VENDOR_LABEL: VENDOR, **values}
    return [f"--label={key}={value}" for key, value in everything.items()]


def forget_replaced(label: str) -> None:
    """Remove images with a label that a newer one took the tag from and no container uses."""
    docker("image", "prune", "--force", f"--filter=label={label}")
