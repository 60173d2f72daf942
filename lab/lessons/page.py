"""All lessons as one page to print, with room for the figures of one's own runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2 import Template as HtmlTemplate
from markdown_it import MarkdownIt

from lab.lessons.figures import rendered, sources
from lab.lessons.views import on_paper
from lab.model.lessons import LessonFolder
from lab.model.run import CellResult
from lab.model.text import clean


def course_page(
    course: Sequence[LessonFolder], runs: Mapping[str, CellResult] | None = None
) -> str:
    """One HTML document that needs no network.

    Args:
        course: the lessons, in order.
        runs: by a lesson's name, the run whose figures are printed; others are left blank.
    """
    lessons = [
        {
            "number": one.number,
            "title": rendered(one.lesson.title, sources(one)),
            "body": _markdown().render(on_paper(one, (runs or {}).get(one.name))),
        }
        for one in course
    ]
    return clean(_template().render(lessons=lessons))


def _markdown() -> MarkdownIt:
    """A renderer that shows HTML in a text as text."""
    return MarkdownIt("commonmark", {"html": False})


@cache
def _template() -> HtmlTemplate:
    environment = Environment(
        loader=PackageLoader("lab.lessons", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2")
