"""The version: in one place, in step with what is tagged by it, and described by the changelog."""

from __future__ import annotations

import re
from datetime import date

from lab import __version__
from lab.paths import ROOT
from lab.stack.compose import images


def version(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split("."))


def test_the_backends_image_has_the_labs_version() -> None:
    tag = f"replica-lab/backend:{__version__}"
    assert images.OFFICIAL["LAB_BACKEND_IMAGE"] == tag
    services = (ROOT / "compose" / "replica.yaml").read_text()
    assert set(re.findall(r"replica-lab/backend:[\d.]+", services)) == {tag}


def test_the_changelog_begins_with_what_is_unreleased_and_dates_each_release() -> None:
    heads = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert heads[0] == "Unreleased"
    releases = [re.fullmatch(r"(\d+\.\d+\.\d+) - (\d{4}-\d\d-\d\d)", head) for head in heads[1:]]
    assert all(releases), heads
    pairs = [(version(found[1]), date.fromisoformat(found[2])) for found in releases if found]
    assert pairs == sorted(pairs, reverse=True)
    assert all(released <= version(__version__) for released, _ in pairs)
