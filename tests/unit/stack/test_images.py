"""Which images the replica runs on: where each came from, and whether it holds this code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from docker.errors import ImageNotFound

from lab.errors import MachineError, MissingComponent
from lab.stack.compose import images


class Here:
    """One image of an engine."""

    id = "sha256:0123456789abcdef"

    def __init__(self, *digests: str, **labels: str) -> None:
        self.labels = labels
        self.attrs = {"RepoDigests": list(digests)}


class Engine:
    """An engine that has these images."""

    def __init__(self, here: dict[str, Here]) -> None:
        self._here = here
        self.images = self

    def get(self, tag: str) -> Here:
        if tag not in self._here:
            raise ImageNotFound(tag)
        return self._here[tag]


def engine(**changed: Here | None) -> Any:
    """An engine with every image that is wanted, but for those that are changed."""
    here = {tag: Here() for tag in images.tags().values()}
    for variable, image in changed.items():
        tag = images.tags()[variable]
        del here[tag]
        here |= {tag: image} if image else {}
    return Engine(here)


def test_an_image_without_a_label_is_official() -> None:
    origins = {image.origin for image in images.require(engine()).values()}
    assert origins == {"official"}


def test_a_backend_of_this_code_will_do() -> None:
    built = Here(**{images.ORIGIN_LABEL: "built", images.CODE_LABEL: images.code()})
    found = images.require(engine(LAB_BACKEND_IMAGE=built))["LAB_BACKEND_IMAGE"]
    assert found.about == "built, 0123456789ab"


def test_a_backend_of_other_code_is_told_and_not_run() -> None:
    built = Here(**{images.ORIGIN_LABEL: "built", images.CODE_LABEL: "0" * 16})
    with pytest.raises(MissingComponent, match="holds other code than this lab - `lab im"):
        images.require(engine(LAB_BACKEND_IMAGE=built))
    here = images.present(engine(LAB_BACKEND_IMAGE=built), images.tags())
    assert here["LAB_BACKEND_IMAGE"].about.endswith("of other code than this lab")


def test_a_missing_image_is_named() -> None:
    with pytest.raises(MissingComponent, match=images.tags()["LAB_NGINX_IMAGE"]):
        images.require(engine(LAB_NGINX_IMAGE=None))


def test_a_built_image_says_what_it_was_built_on() -> None:
    labels = {images.ORIGIN_LABEL: "built", images.BASE_LABEL: "python:3.13-slim sha256:b"}
    found = images.require(engine(LAB_BACKEND_IMAGE=Here(**labels)))["LAB_BACKEND_IMAGE"]
    assert found.about == "built, 0123456789ab, on python:3.13-slim sha256:b"


ONE, OTHER = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"
NGINX = images.OFFICIAL["LAB_NGINX_IMAGE"]


@pytest.fixture
def pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Official images, of which one must be what compose/images.lock says."""
    lock = tmp_path / "images.lock"
    lock.write_text(f"{NGINX} {ONE}\n")
    monkeypatch.setattr(images, "LOCKS", [lock])
    monkeypatch.setattr(images, "tags", lambda: images.OFFICIAL)


@pytest.mark.usefixtures("pinned")
def test_a_replica_starts_on_what_is_pinned_and_says_what_it_is() -> None:
    here = images.require(engine(LAB_NGINX_IMAGE=Here(f"nginx@{ONE}")))
    assert here["LAB_NGINX_IMAGE"].about == f"official, 0123456789ab, {ONE}"


@pytest.mark.parametrize(
    ("digests", "found"), [([f"nginx@{OTHER}"], OTHER), ([], "of no registry")]
)
@pytest.mark.usefixtures("pinned")
def test_a_replica_does_not_start_on_another_image_of_that_name(
    digests: list[str], found: str
) -> None:
    with pytest.raises(MachineError, match=f"the image {NGINX} is {found}, not {ONE} as images"):
        images.require(engine(LAB_NGINX_IMAGE=Here(*digests)))
