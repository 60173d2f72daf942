"""A lesson's folder to a Lesson: every figure in its texts has a source, every place is there.

lab/lessons/NN-name/
    lesson.yaml   what is asked, changed and checked
    spec.yaml     what is measured: one cell
    read.md       before the run
    explain.md    after it; figures of it are {{ run.p50 }}
    solved.md     once the checks are met: {{ before.p50 }} and {{ after.p50 }}
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Collection, Iterator
from itertools import pairwise
from pathlib import Path

from pydantic import ValidationError

from lab.config.document import MAX_BYTES, Document, Loc, one_line, read_document
from lab.config.explain import validated, value_problem
from lab.errors import SpecError
from lab.model.experiment import Cell, unasked
from lab.model.knobs import Knobs
from lab.model.lessons import (
    AFTER,
    BEFORE,
    COMPARED,
    EXPLAIN,
    READ,
    SOLVED,
    SOLVING,
    SPEC,
    TEXTS,
    CodePlace,
    Lesson,
    LessonFolder,
)
from lab.model.suggest import suggest

Problem = tuple[str, str]
"""What is wrong, and the remedy."""

FILE = "lesson.yaml"
FOLDER = re.compile(r"(\d\d)-([a-z0-9]+(?:-[a-z0-9]+)*)")

TextCheck = Callable[[str, Collection[str], Collection[str], bool], Problem | None]
"""Why a text cannot be rendered: of the text, the roots of its figures, the names that are given,
and whether it is one expression; None where it can."""


def lesson_folders(folder: Path) -> list[Path]:
    """The folders of lessons, in their order.

    Raises:
        SpecError: there is none, or two have one number.
    """
    found = sorted(path for path in folder.glob("[0-9][0-9]-*") if path.is_dir())
    if not found:
        raise SpecError("no lesson is there", "a lesson is a folder NN-name", str(folder))
    for one, other in pairwise(found):
        if one.name[:2] == other.name[:2]:
            what = f"'{one.name}' and '{other.name}' have one number"
            raise SpecError(what, "give one of them another", str(folder))
    return found


def read_lesson(
    path: Path, root: Path, cells_of: Callable[[Path], Collection[Cell]], check: TextCheck
) -> LessonFolder:
    """Read one lesson.

    Args:
        path: its folder.
        root: what the places in the code are relative to.
        cells_of: the cells of a spec's file.
        check: why a text cannot be rendered.

    Raises:
        SpecError: anything wrong with it, as ``file:line:column: what - remedy``.
    """
    named = FOLDER.fullmatch(path.name)
    if named is None:
        what = f"'{path.name}' is not the name of a lesson's folder"
        raise SpecError(what, "call it as 03-async-def", str(path))
    document = read_document(path / FILE)
    lesson = validated(Lesson, document)
    if lesson.lesson != named[2]:
        what = f"the lesson is called '{lesson.lesson}', its folder '{named[2]}'"
        raise document.error(("lesson",), what, "give both one name")
    cell = _cell(path / SPEC, cells_of)
    lines = tuple(line_of(root, place) for place in lesson.code)
    found = LessonFolder(int(named[1]), path, lesson, _texts(path), cell, lines)
    for place, what, remedy in _problems(found):
        raise document.error(place, what, remedy)
    _check_texts(document, found, check)
    return found


def _cell(spec: Path, cells_of: Callable[[Path], Collection[Cell]]) -> Cell:
    cells = list(cells_of(spec))
    if len(cells) != 1:
        what = f"a lesson measures one cell, and the spec has {len(cells)}"
        raise SpecError(what, "leave the matrix out", str(spec))
    return cells[0]


def _texts(path: Path) -> dict[str, str]:
    return {name: _text(path / name) for name in TEXTS}


def _text(file: Path) -> str:
    if not file.is_file():
        raise SpecError("no such file", "a lesson has " + ", ".join(TEXTS), str(file))
    data = file.read_bytes()
    if len(data) > MAX_BYTES:
        raise SpecError(f"larger than {MAX_BYTES // 1000} KB", "shorten it", str(file))
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise SpecError("not UTF-8", "save the file as UTF-8", str(file)) from None
    if not text.strip():
        raise SpecError("the file is empty", "write the text", str(file))
    return text


def _problems(found: LessonFolder) -> Iterator[tuple[Loc, str, str]]:
    """What is wrong with a lesson for itself: where, what, and the remedy."""
    lesson = found.lesson
    for index, number in enumerate(lesson.needs):
        if number >= found.number:
            what = f"lesson {found.number} needs lesson {number}, which does not come before it"
            yield ("needs", index), what, "name earlier ones alone"
    asked = lesson.prediction
    if (asked.choices is None) == (asked.number is None):
        what = "a prediction has either choices or a number"
        yield ("prediction",), what, "write one of them"
    for index, name in enumerate(lesson.may_change):
        if name not in Knobs.model_fields:
            what = f"'{name}' is not a knob"
            yield ("may_change", index), what, suggest(name, Knobs.model_fields)
    yield from _check_problems(found)
    yield from _setting_problems(found)
    for index, (place, line) in enumerate(zip(lesson.code, found.lines, strict=True)):
        if line is None:
            what = f"{place.file} has no '{place.find}'"
            yield ("code", index), what, "name a function, method or line that is there"


def _check_problems(found: LessonFolder) -> Iterator[tuple[Loc, str, str]]:
    lesson = found.lesson
    for index, check in enumerate(lesson.checks):
        criterion, place = check.criterion, ("checks", index, "criterion")
        if problem := unasked(criterion, found.cell.load):
            yield place, *problem
        if criterion.relative and criterion.name not in COMPARED:
            what = f"criterion '{criterion}' is relative, and {criterion.name} is not compared"
            yield place, what, f"compare one of {', '.join(COMPARED)}, or give it a bound"
        if any(criterion == other.criterion for other in lesson.checks[:index]):
            yield place, f"criterion '{criterion}' stands here twice", "remove one"
    if not lesson.absolute:
        yield ("checks",), "every check is relative", "add one with a bound of its own"


def _setting_problems(found: LessonFolder) -> Iterator[tuple[Loc, str, str]]:
    lesson, checks = found.lesson, [one.criterion for one in found.lesson.checks]
    wrongs = [(("wrong", n, "set"), cure.set) for n, cure in enumerate(lesson.wrong)]
    for place, settings in ((("solution",), lesson.solution), *wrongs):
        for name in settings:
            if name not in lesson.may_change:
                what = f"'{name}' is not among 'may_change'"
                yield (*place, name), what, suggest(name, lesson.may_change, "add it there")
        try:
            found.cell.knobs.with_settings(settings)
        except ValidationError as error:
            detail = error.errors(include_url=False)[0]
            what, remedy = value_problem(detail, f"'{detail['loc'][0]}'")
            yield place, what, remedy or "see `lab knobs`"
    for index, cure in enumerate(lesson.wrong):
        if cure.misses not in checks:
            what = f"'{cure.misses}' is not one of the checks"
            yield ("wrong", index, "misses"), what, "name the one that must be missed"
        if cure.set == lesson.solution:
            yield ("wrong", index, "set"), "this is the solution", "name a mistake"


def line_of(root: Path, place: CodePlace) -> int | None:
    """The line in which a place of the code begins, from 1; None where it is not there."""
    file = root / place.file
    if not file.is_file():
        return None
    source = file.read_text(encoding="utf-8")
    if file.suffix != ".py":
        lines = source.splitlines()
        return next((n for n, line in enumerate(lines, start=1) if place.find in line), None)
    nodes: list[ast.AST] = [ast.parse(source)]
    for name in place.find.split("."):
        inner = (child for node in nodes for child in ast.walk(node))
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        nodes = [child for child in inner if isinstance(child, kinds) and child.name == name]
    lines_found = [node.lineno for node in nodes if isinstance(node, ast.stmt)]
    return lines_found[0] if lines_found else None


def _check_texts(document: Document, found: LessonFolder, check: TextCheck) -> None:
    given = found.lesson.given
    for place, text, roots, expression in _own_texts(found.lesson):
        if problem := check(text, roots, given, expression):
            raise document.error(place, *problem)
    for name, roots in ((READ, BEFORE), (EXPLAIN, AFTER), (SOLVED, SOLVING)):
        if problem := check(found.texts[name], roots, given, False):
            what, remedy = map(one_line, problem)
            raise SpecError(what, remedy, str(found.path / name))


def _own_texts(lesson: Lesson) -> Iterator[tuple[Loc, str, Collection[str], bool]]:
    """Every text in the file: where it stands, whose figures it may have, and whether it is an
    expression."""
    yield ("title",), lesson.title, BEFORE, False
    yield ("about",), lesson.about, BEFORE, False
    yield ("task",), lesson.task, BEFORE, False
    asked = lesson.prediction
    yield ("prediction", "question"), asked.question, BEFORE, False
    for letter, choice in (asked.choices or {}).items():
        yield ("prediction", "choices", letter, "says"), choice.says, BEFORE, False
        yield ("prediction", "choices", letter, "when"), choice.when, AFTER, True
    if asked.number:
        yield ("prediction", "number", "of"), asked.number.of, AFTER, True
    for index, hint in enumerate(lesson.hints):
        yield ("hints", index), hint, BEFORE, False
    because = {
        "checks": [one.because for one in lesson.checks],
        "wrong": [one.because for one in lesson.wrong],
    }
    for key, texts in because.items():
        for index, text in enumerate(texts):
            yield (key, index, "because"), text, BEFORE, False
    for index, place in enumerate(lesson.code):
        yield ("code", index, "about"), place.about, BEFORE, False
