"""Templates in which every figure has a source, and none stands as a plain number.

    {{ run.p50 }}              a metric of the run just made (before, after: of two runs)
    {{ run["p95(progress)"] }} one of another journey, or with a dot in its name
    {{ knob.gcs_threads }}     a setting of the lesson's cell
    {{ load.users }}           a key of its load
    {{ given.rate }}           a number that somebody else said, as the lesson's file names it
    {{ (load.users / run.throughput) | seconds }}   worked out of these

A text is looked through before anything is measured: a name that is no metric, knob, key or given
number is refused, and so is a digit outside a template, but for HTTP statuses and code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache
from math import isnan, nan
from typing import Any

from jinja2 import StrictUndefined, TemplateSyntaxError, UndefinedError, nodes
from jinja2.sandbox import SandboxedEnvironment

from lab.errors import SpecError
from lab.judge.criteria import show
from lab.model.experiment import Cell
from lab.model.knobs import Knobs
from lab.model.lessons import Given, LessonFolder
from lab.model.load import FORMS
from lab.model.metrics import plain, row_of
from lab.model.run import CellResult
from lab.model.suggest import suggest
from lab.model.units import Span, format_duration

ABSENT = "(not measured)"
"""Stands for a figure of which the run has no evidence."""

RUNS = ("run", "before", "after")
STATUSES = frozenset(["200", "408", "413", "429", "499", "500", "502", "503", "504"])
"""Numbers that are names: HTTP statuses."""

SPANS = tuple(n for n, field in Knobs.model_fields.items() if isinstance(field.default, Span))
"""The knobs that are a range, of which there is a mean, too: ``knob.gcs_latency_mean``."""

_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
_TEMPLATE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")

Problem = tuple[str, str]


class SourcedFigure(float):
    """A number with its unit and its source; what is worked out of it is a plain float again."""

    text: str
    source: str

    def __new__(cls, value: float, text: str, source: str) -> SourcedFigure:
        made = super().__new__(cls, value)
        made.text, made.source = text, source
        return made

    def __str__(self) -> str:
        return ABSENT if isnan(self) else self.text

    __repr__ = __str__


class _Figures(Mapping[str, SourcedFigure]):
    """The metrics of a run: one without evidence is a figure that was not measured."""

    def __init__(self, root: str, metrics: Mapping[str, float]) -> None:
        self._root, self._metrics = root, metrics

    def __getitem__(self, name: str) -> SourcedFigure:
        if row_of(name) is None:
            raise KeyError(name)
        source = f"{self._root}.{name}"
        if name not in self._metrics:
            return SourcedFigure(nan, ABSENT, source)
        value = self._metrics[name]
        return SourcedFigure(value, show(plain(name), value), source)

    def __iter__(self) -> Iterator[str]:
        return iter(self._metrics)

    def __len__(self) -> int:
        return len(self._metrics)


def _filter(metric: str) -> Callable[[float], str]:
    """A filter that writes a number as figures of this metric are written."""
    return lambda value: ABSENT if isnan(value) else show(metric, float(value))


def _times(value: float) -> str:
    return ABSENT if isnan(value) else f"{float(value):.2g} times"


def _count(value: float) -> str:
    return ABSENT if isnan(value) else f"{float(value):.3g}"


FILTERS: Mapping[str, Callable[[float], str]] = {
    "seconds": _filter("p50"),
    "rate": _filter("throughput"),
    "share": _filter("error_rate"),
    "times": _times,
    "count": _count,
}
"""What writes a number that is worked out, with its unit."""


def _finish(value: Any) -> Any:
    """What stands in the text; a bare number has no unit, and is refused."""
    if isinstance(value, float) and not isinstance(value, SourcedFigure):
        raise SpecError(
            f"{value:g} is worked out and has no unit",
            f"end the expression with one of {', '.join(f'| {name}' for name in FILTERS)}",
        )
    return str(value) if isinstance(value, SourcedFigure) else value


@cache
def _environment() -> SandboxedEnvironment:
    made = SandboxedEnvironment(
        undefined=StrictUndefined, finalize=_finish, keep_trailing_newline=True
    )
    made.filters.update(FILTERS)
    return made


def problem(
    text: str, roots: Collection[str], given: Collection[str], expression: bool
) -> Problem | None:
    """Why a text cannot be rendered from its sources, and the remedy; None where it can.

    Args:
        text: a template, or one expression.
        roots: whose figures it may have.
        given: names of the numbers that are given.
        expression: whether the whole text is one expression.
    """
    try:
        tree = _environment().parse("{{ " + text + " }}" if expression else text)
    except TemplateSyntaxError as error:
        return f"not a template: {error.message}", "write a figure as {{ run.p50 }}"
    if found := next(_unsourced(tree, roots, given), None):
        return found
    return None if expression else _plain_number(text)


def _unsourced(
    tree: nodes.Template, roots: Collection[str], given: Collection[str]
) -> Iterator[Problem]:
    """What in a template has no source."""
    own = {name.name for name in tree.find_all(nodes.Name) if name.ctx == "store"}
    members = (*tree.find_all(nodes.Getattr), *tree.find_all(nodes.Getitem))
    inner = [node for node in members if isinstance(node, nodes.Getattr | nodes.Getitem)]
    owned = {id(node.node) for node in inner}
    for name in tree.find_all(nodes.Name):
        if name.ctx == "load" and name.name not in own and name.name not in roots:
            yield f"'{name.name}' has no figures here", f"use one of {', '.join(roots)}"
        if name.name in roots and id(name) not in owned:
            yield f"'{name.name}' alone is no figure", f"name one, as {name.name}.{_example(name)}"
    for node in inner:
        if isinstance(node.node, nodes.Name) and node.node.name in roots:
            yield from _member_problem(node.node.name, _key(node), given)
    for output in tree.find_all(nodes.Output):
        for part in output.nodes:
            if not isinstance(part, nodes.TemplateData) and not _has_figure(part, {*roots, *own}):
                yield "a figure has no source", "work it out of run, knob, load or given"


def _has_figure(node: nodes.Node, names: Collection[str]) -> bool:
    found = [node] if isinstance(node, nodes.Name) else []
    return any(name.name in names for name in (*found, *node.find_all(nodes.Name)))


def _example(name: nodes.Name) -> str:
    return {"given": "rate", "knob": "workers", "load": "users"}.get(name.name, "p50")


def _key(node: nodes.Getattr | nodes.Getitem) -> str | None:
    """The name that is asked for; None where it is worked out."""
    if isinstance(node, nodes.Getattr):
        return node.attr
    constant = node.arg.value if isinstance(node.arg, nodes.Const) else None
    return constant if isinstance(constant, str) else None


def _member_problem(root: str, key: str | None, given: Collection[str]) -> Iterator[Problem]:
    if key is None:
        yield f"which figure of '{root}' is meant is not plain", f'write {root}["name"]'
        return
    known = {
        "given": given,
        "knob": [*Knobs.model_fields, *(f"{name}_mean" for name in SPANS)],
        "load": sorted({field for form in FORMS.values() for field in form.model_fields}),
    }
    if root in known and key not in known[root]:
        yield f"'{root}.{key}' has no source", suggest(key, known[root], "see what there is")
    if root in RUNS and row_of(key) is None:
        yield f"'{root}.{key}' is not a metric", "`lab metrics` lists them"


def _plain_number(text: str) -> Problem | None:
    """The first number that stands in a text without a source."""
    bare = _TEMPLATE.sub(" ", _CODE.sub(" ", text))
    for number in _NUMBER.findall(bare):
        if number not in STATUSES:
            what = f"figure '{number}' has no source"
            return what, "take it from {{ run… }}, {{ knob… }}, {{ load… }} or {{ given… }}"
    return None


def sources(
    folder: LessonFolder, runs: Mapping[str, CellResult] | None = None
) -> dict[str, Mapping[str, Any]]:
    """What a lesson's templates are rendered from.

    Args:
        folder: the lesson.
        runs: by root (``run``, ``before``, ``after``), what was measured.
    """
    return {
        "given": _given(folder.lesson.given),
        "knob": _knobs(folder.cell),
        "load": _load(folder.cell),
        **{root: _Figures(root, result.metrics) for root, result in (runs or {}).items()},
    }


def _given(given: Mapping[str, Given]) -> dict[str, str]:
    return {name: one.value for name, one in given.items()}


def _knobs(cell: Cell) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, text in cell.knobs.as_text().items():
        value, source = getattr(cell.knobs, name), f"knob.{name}"
        numeric = isinstance(value, int | float) and not isinstance(value, bool)
        found[name] = SourcedFigure(value, str(text), source) if numeric else str(text)
        if isinstance(value, Span):
            found[f"{name}_mean"] = SourcedFigure(value.mean, format_duration(value.mean), source)
    return found


def _load(cell: Cell) -> dict[str, Any]:
    texts = cell.load.model_dump(mode="json")
    found: dict[str, Any] = {}
    for name in type(cell.load).model_fields:
        value, text = getattr(cell.load, name), texts.get(name)
        numeric = isinstance(value, int | float) and not isinstance(value, bool)
        if numeric:
            shown = format_duration(value) if isinstance(value, float) else str(value)
            found[name] = SourcedFigure(value, shown, f"load.{name}")
        else:
            found[name] = str(text)
    return found


def rendered(text: str, values: Mapping[str, Any]) -> str:
    """A template with its figures.

    Raises:
        SpecError: it asks for what has no source; `problem` finds that out before.
    """
    try:
        return _environment().from_string(text).render(values)
    except (UndefinedError, TypeError, ZeroDivisionError) as error:
        raise SpecError(f"a text cannot be rendered: {error}", "see its figures") from None


def evaluated(expression: str, values: Mapping[str, Any]) -> Any:
    """What an expression over figures comes to; None where one of them was not measured.

    Raises:
        SpecError: as `rendered`.
    """
    try:
        value = _environment().compile_expression(expression, undefined_to_none=False)(**values)
    except ZeroDivisionError:
        return None
    except (UndefinedError, TypeError) as error:
        raise SpecError(f"'{expression}' cannot be worked out: {error}", "see it") from None
    return None if isinstance(value, float) and isnan(value) else value
