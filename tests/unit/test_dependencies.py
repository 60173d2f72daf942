"""docs/dependencies.md against what is installed: each package, and what it brings along."""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict

from lab.paths import ROOT

ROW = re.compile(r"^\| `(?P<package>[\w.-]+)` \| (?P<why>[^|]+) \| (?P<brings>[^|]+) \|$", re.M)
PIN = re.compile(r"^(?P<package>[a-z0-9-]+)(\[.*\])?==", re.M)


def told() -> dict[str, set[str]]:
    """What the document says each package brings along."""
    text = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    return {
        row["package"]: set() if row["brings"] == "–" else set(row["brings"].split(", "))
        for row in ROW.finditer(text)
    }


def brought() -> dict[str, set[str]]:
    """By the lock: what each package needs itself."""
    needs: dict[str, set[str]] = defaultdict(set)
    blocks = re.split(r"(?m)^(?=[a-z0-9])", (ROOT / "requirements.lock").read_text("utf-8"))
    for block in blocks:
        if pin := PIN.match(block):
            for user in re.findall(r"^    #(?: via)? +(?!via$)(\S+)", block, re.M):
                needs[user].add(pin["package"])
    return needs


def test_the_table_has_every_dependency_and_what_it_brings_along() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [re.split(r"[<>=]", entry)[0] for entry in project["dependencies"]]
    needs = brought()
    assert len(wanted) > 20
    assert told() == {name: needs[name.replace(".", "-")] for name in wanted}


def test_the_lock_is_read_as_it_is_meant() -> None:
    assert brought()["toxiproxy-python"] == {"future", "requests"}
