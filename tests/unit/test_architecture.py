"""The rooms of lab/ and who may import whom: the table of `docs/architecture.md`, held."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.paths import ROOT

ROW = re.compile(r"^\| `([\w.]+)` \| .+ \| ([\w. ]*)\|$", re.MULTILINE)
ROOMS = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").partition("## Rooms")[2]
MAY_IMPORT = {room: row.strip() for room, row in ROW.findall(ROOMS.partition("## Words")[0])}
"""Each may import itself too, and the version that lab/__init__.py holds."""

THIRD_PARTY = {
    "model": {"pydantic", "pydantic_core"},
    "errors": set[str](),
    "paths": {"platformdirs"},
    "plan": {"pydantic"},
}
"""The rooms that may use so much beside the standard library, and no more."""

ONE_IMPORTER = {
    "locust": "lab.load.locustfile",  # it patches the process that imports it
    "toxiproxy": "lab.faults.network",  # its class attributes and silent 5xx are kept in one place
}

LONGEST = 500


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of lab/ by its dotted name; a package by its own."""
    for file in sorted((ROOT / "lab").rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), file


MODULES = dict(modules())


def imports(module: str, source: str) -> Iterator[str]:
    """Dotted names that a module imports, wherever in it: ``lab.model.knobs.Knobs``."""
    package = module.split(".")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level] if node.level else []
            stem = ".".join([*base, *filter(None, [node.module])])
            yield from (f"{stem}.{name.name}" for name in node.names)


def within(name: str, room: str) -> bool:
    return name == f"lab.{room}" or name.startswith(f"lab.{room}.")


def violations(module: str, source: str) -> list[str]:
    """What a module imports and may not."""
    room = [*module.split("."), "__init__"][1]
    row = MAY_IMPORT.get(module.removeprefix("lab."), MAY_IMPORT.get(room, ""))
    allowed = [room, *row.split()]
    found = []
    for name in imports(module, source):
        top = name.partition(".")[0]
        if top == "lab":
            free = name in ("lab", "lab.__version__") or any(within(name, a) for a in allowed)
        else:
            only = ONE_IMPORTER.get(top, module)
            known = THIRD_PARTY.get(room, {top}) | sys.stdlib_module_names
            free = only == module and top in known
        if not free:
            found.append(f"{module} imports {name}")
    return found


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_its_room_may(module: str) -> None:
    assert violations(module, MODULES[module].read_text(encoding="utf-8")) == []


def test_every_room_has_a_row_and_every_row_a_room() -> None:
    rooms = {[*module.split("."), "__init__"][1] for module in MODULES}
    assert rooms == {row for row in MAY_IMPORT if "." not in row}
    assert all(f"lab.{row}" in MODULES for row in MAY_IMPORT if row != "__init__")
    for row in MAY_IMPORT.values():
        assert all(f"lab.{name}" in MODULES for name in row.split())


@pytest.mark.parametrize("module", MODULES)
def test_a_module_says_what_it_is_for_and_is_not_too_long(module: str) -> None:
    source = MODULES[module].read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(source)) or ""
    assert docstring or not source.strip()
    reason = f"{LONGEST} lines" in docstring
    assert len(source.splitlines()) <= LONGEST or reason, (
        "split it, or say why not in its docstring"
    )


def test_no_two_classes_have_one_name() -> None:
    classes: dict[str, list[str]] = {}
    for module, file in MODULES.items():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                classes.setdefault(node.name, []).append(module)
    assert {name: where for name, where in classes.items() if len(where) > 1} == {}


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("lab.plan.expand", "from lab.config import read_experiment"),
        ("lab.plan.expand", "import lab.config.document"),
        ("lab.plan.expand", "def f():\n    from lab.stack import base"),
        ("lab.plan.expand", "from ..spec import knobs"),
        ("lab.plan.expand", "from lab import store"),
        ("lab.plan.expand", "import yaml"),
        ("lab.model.load", "import yaml"),
        ("lab.model.load", "from lab.errors import LabError"),
        ("lab.errors", "import pydantic"),
        ("lab.services.backend.main", "from lab.plan import expand"),
        ("lab.services.backend.main", "from lab.stack import ports"),
        ("lab.runner", "from lab.stack.embedded import EmbeddedStack"),
        ("lab.cli", "from lab.services.backend import main"),
        ("lab.load.driver", "import locust"),
        ("lab.faults.process", "from toxiproxy import Toxiproxy"),
        ("lab.judge.metrics", "from lab.report import text"),
        ("lab", "from lab.model import knobs"),
        ("lab.unheard", "from lab.model import knobs"),
    ],
)
def test_the_rules_catch_what_breaks_them(module: str, source: str) -> None:
    assert len(violations(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("lab.plan.expand", "import json\nfrom lab.model import knobs\nfrom . import estimate"),
        ("lab.services.backend.main", "from lab.model.knobs import Knobs\nimport fastapi"),
        ("lab.services.backend.main", "from lab.services.backend.core import problems"),
        ("lab.report.html", "from lab.judge import show\nimport jinja2"),
        ("lab.load.locustfile", "import locust"),
        ("lab.cli", "from lab import __version__\nfrom lab.stack.embedded import EmbeddedStack"),
    ],
)
def test_the_rules_let_pass_what_keeps_them(module: str, source: str) -> None:
    assert violations(module, source) == []
