"""Where the lab's own files are, and what is said where one is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import paths
from lab.errors import MissingComponent


@pytest.mark.parametrize("name", ["compose", "experiments", "faults", "nginx"])
def test_what_the_lab_comes_with_is_found_from_anywhere(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert paths.data(name).is_dir()


def test_what_is_missing_is_named_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    with pytest.raises(MissingComponent) as caught:
        paths.data("nginx", "site.conf.template")
    assert caught.value.what.startswith(f"{tmp_path}/nginx/site.conf.template: no such file")
    assert str(caught.value).endswith("restore it with `git checkout`")
