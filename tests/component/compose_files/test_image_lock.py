"""compose/images.lock: what is pinned at the first pull, and what is refused from then on."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.errors import LabError, MachineError
from lab.images.catalogue import OFFICIAL
from lab.images.pull import Registries
from lab.paths import ROOT
from lab.stack.compose import images
from lab.stack.compose.image_lock import HEAD, ImageLock, digest_of

ONE, OTHER = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"
NGINX = "nginx:1.31.3"

ENGINE = """#!/bin/bash
here=${0%/*}
case $1 in
  pull) echo "$2" >>"$here/pulled"; echo Pulling; touch "$here/has" ;;
  tag) echo "$2 $3" >"$here/tagged" ;;
  image)
    [[ -e $here/has ]] || exit 1
    [[ $4 == *RepoDigests* ]] && cat "$here/digests" || echo '{}' ;;
esac
"""
"""Has an image once it was pulled, with the digests in a file."""


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "engine"
    folder.mkdir()
    (folder / "docker").write_text(ENGINE)
    (folder / "docker").chmod(0o755)
    (folder / "digests").write_text(f'["nginx@{ONE}"]')
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "images.lock"


def get(file: Path) -> str | None:
    return Registries(ImageLock(file)).get(NGINX)


def test_the_first_pull_pins_and_the_next_ones_compare(engine: Path, file: Path) -> None:
    assert get(file) is None
    assert file.read_text() == f"{HEAD}{NGINX} {ONE}\n"
    assert get(file) is None
    (engine / "digests").write_text(f'["nginx@{OTHER}"]')
    with pytest.raises(MachineError) as raised:
        get(file)
    assert str(raised.value) == (
        f"the image {NGINX} is {OTHER}, not {ONE} as images.lock says - `docker image rm {NGINX}` "
        "and `lab images` get that one; or remove the line, if another is wanted"
    )
    assert (engine / "pulled").read_text() == f"{NGINX}\n"


def test_what_is_pinned_is_pulled_by_its_digest(engine: Path, file: Path) -> None:
    file.write_text(f"{NGINX} {ONE}\n")
    assert get(file) is None
    assert (engine / "pulled").read_text() == f"nginx@{ONE}\n"
    assert (engine / "tagged").read_text() == f"nginx@{ONE} {NGINX}\n"


def test_an_image_that_no_registry_gave_is_not_pinned(engine: Path, file: Path) -> None:
    (engine / "digests").write_text("null")
    assert get(file) is None
    assert not file.exists()
    file.write_text(f"{NGINX} {ONE}\n")
    with pytest.raises(MachineError, match=f"{NGINX} is of no registry, not {ONE}"):
        get(file)


@pytest.mark.parametrize(
    "line",
    [NGINX, f"{NGINX} sha256:12", f"nginx {ONE}", f"{NGINX} {ONE} x", f"nginx@{ONE}", "\x00"],
)
def test_a_line_that_is_none_is_named_with_its_place(file: Path, line: str) -> None:
    file.write_text(f"# a comment\n\n{line}\n")
    with pytest.raises(LabError) as raised:
        ImageLock(file)
    assert str(raised.value).startswith(
        f"{file}:3: {line[:80]!r} is not an image and its digest - write"
    )


def test_what_the_lab_comes_with_goes_first_and_is_not_written(file: Path) -> None:
    shipped = file.with_name("shipped.lock")
    shipped.write_text(f"{NGINX} {ONE}\n")
    file.write_text(f"{NGINX} {OTHER}\n")
    lock = ImageLock(file, shipped)
    assert lock.digest(NGINX) == ONE
    mine = file.with_name("new") / "images.lock"
    lock = ImageLock(mine, shipped)
    lock.record(NGINX, OTHER)
    assert not mine.exists()
    lock.record("postgres:18.6", OTHER)
    assert mine.read_text() == f"{HEAD}postgres:18.6 {OTHER}\n"
    assert shipped.read_text() == f"{NGINX} {ONE}\n"


@pytest.mark.parametrize(
    ("image", "digests", "found"),
    [
        (NGINX, [f"other@{OTHER}", f"nginx@{ONE}"], ONE),
        ("ghcr.io/shopify/toxiproxy:2.12.0", [f"ghcr.io/shopify/toxiproxy@{ONE}"], ONE),
        ("localhost:5000/nginx:1", [f"nginx@{ONE}"], ""),
        (NGINX, [], ""),
    ],
)
def test_the_digest_of_an_image_is_that_of_its_repository(
    image: str, digests: list[str], found: str
) -> None:
    assert digest_of(image, digests) == found


def test_the_file_of_this_checkout_names_official_images_alone() -> None:
    lock = ImageLock(*images.LOCKS)
    lines = (ROOT / "compose" / "images.lock").read_text().splitlines()
    pinned = {line.split()[0] for line in lines if "sha256" in line}
    assert pinned <= {*(image.official for image in OFFICIAL), "python:3.13-slim"}
    assert all(lock.digest(image) for image in pinned)
