"""Every knob has a test that shows its effect, marked ``@pytest.mark.knob("its name")``."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cache

import pytest

from lab.model.knobs import TABLE
from lab.paths import ROOT


def marked(source: str) -> Iterator[str]:
    """The knobs that tests of a module are marked with."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.knob":
                    yield from (ast.literal_eval(name) for name in mark.args)


def unmarked(knobs: Iterable[str], sources: Iterable[str]) -> set[str]:
    """The knobs that no test is marked with."""
    return set(knobs) - {name for source in sources for name in marked(source)}


@cache
def all_marked() -> frozenset[str]:
    """The knobs that any test is marked with; to parse them all takes half a second."""
    sources = (file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
    return frozenset(name for source in sources for name in marked(source))


@pytest.mark.parametrize("knob", [row.name for row in TABLE])
def test_the_knob_has_a_test_of_its_effect(knob: str) -> None:
    assert knob in all_marked(), f"no test is marked @pytest.mark.knob('{knob}')"


def test_no_test_is_marked_with_a_knob_that_is_not() -> None:
    assert all_marked() <= {row.name for row in TABLE}


def test_a_knob_without_a_test_is_noticed() -> None:
    source = '@pytest.mark.knob("a", "b")\ndef test_it() -> None: ...\ndef helper(): ...\n'
    assert unmarked(["a", "b", "c"], [source]) == {"c"}
    assert unmarked(["a"], [source.replace("test_it", "not_a_test")]) == {"a"}
