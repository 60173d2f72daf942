"""What the doctor says of a real engine and its images."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lab.doctor import examine
from tests.component.test_doctor import CONTAINERS


@pytest.mark.compose
@pytest.mark.usefixtures("client")
def test_with_an_engine_each_image_has_its_tag_and_where_it_came_from(tmp_path: Path) -> None:
    parts = {each.name: each for each in examine(tmp_path)}
    assert all(parts[name].ok for name in CONTAINERS)
    assert re.fullmatch(r"[\w.+~-]+ \(API \d+\.\d+\) at .+", parts["docker engine"].found)
    assert re.fullmatch(r"\d+\.\d+\..+", parts["docker compose"].found)
    for name in (name for name in CONTAINERS if name.endswith(" image")):
        origin = "built" if name == "backend image" else "(official|stand-in)"
        assert re.fullmatch(
            rf"\S+:\S+ \({origin}, [0-9a-f]{{12}}(, on \S+ sha256:[0-9a-f]{{64}})?\)",
            parts[name].found,
        )
    assert parts["--stack auto"].found.startswith("compose: ")


@pytest.mark.compose
@pytest.mark.usefixtures("client")
def test_an_image_that_is_missing_makes_auto_embedded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LAB_NGINX_IMAGE", "replica-lab/nosuch:1")
    parts = {each.name: each for each in examine(tmp_path)}
    assert (parts["nginx image"].ok, parts["postgres image"].ok) == (False, True)
    assert parts["nginx image"].found == "replica-lab/nosuch:1 (not on the engine)"
    assert parts["--stack auto"].found == "embedded: the engine has no image replica-lab/nosuch:1"
