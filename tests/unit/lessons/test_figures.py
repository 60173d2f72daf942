"""Every figure in a text has a source, and is the run's; no text holds a number of its own."""

from __future__ import annotations

import re
from collections.abc import Collection

import pytest

from lab.errors import SpecError
from lab.judge.criteria import show
from lab.lessons.figures import ABSENT, evaluated, problem, rendered, sources
from lab.lessons.grade import grade
from lab.lessons.views import after_run, before_run, graded
from lab.model.lessons import AFTER, BEFORE, EXPLAIN, SOLVED, SOLVING, LessonFolder
from lab.model.metrics import plain
from tests.fakes.lesson_runs import kept, lesson, lessons
from validation.lesson_runs import BEFORE as AS_IT_IS
from validation.lesson_runs import SOLUTION

NAMES = [one.name for one in lessons()]
FIGURE = re.compile(r"\{\{\s*(run|before|after)(?:\.(\w+)|\[\"([^\"]+)\"\])\s*\}\}")
"""A figure that stands in a text as it was measured."""


@pytest.mark.parametrize(
    ("text", "roots", "message"),
    [
        ("It took 3.7 s.", AFTER, "figure '3.7' has no source"),
        ("There are 8 users.", AFTER, "figure '8' has no source"),
        ("{{ 3.7 }} s", AFTER, "a figure has no source"),
        ("{{ 'many' }}", AFTER, "a figure has no source"),
        ("{{ run.p51 }}", AFTER, "'run.p51' is not a metric"),
        ("{{ run['p95(nobody)'] }}", AFTER, "'run.p95(nobody)' is not a metric"),
        ("{{ run.p50 }}", BEFORE, "'run' has no figures here"),
        ("{{ after.p50 }}", AFTER, "'after' has no figures here"),
        ("{{ run }}", AFTER, "'run' alone is no figure"),
        ("{{ knob.gcs_thread }}", AFTER, "'knob.gcs_thread' has no source"),
        ("{{ load.people }}", AFTER, "'load.people' has no source"),
        ("{{ given.speed }}", AFTER, "'given.speed' has no source"),
        ("{{ run[load.users] }}", AFTER, "which figure of 'run' is meant is not plain"),
        ("{{ run.p50 ", AFTER, "not a template"),
        ("{% for x in run %}{% endfor %}", AFTER, "'run' alone is no figure"),
        ("{{ other }}", AFTER, "'other' has no figures here"),
    ],
)
def test_a_text_with_a_figure_without_a_source_is_refused(
    text: str, roots: Collection[str], message: str
) -> None:
    found = problem(text, roots, ("rate",), False)
    assert found
    assert found[0].startswith(message)
    assert found[1]


@pytest.mark.parametrize(
    "text",
    [
        'It took {{ run.p50 }}, and {{ run["p95(progress)"] }}.',
        "nginx answers `413`, or 413, and 504; set `--set pool_size=5`.",
        "{{ (load.users / run.throughput) | seconds }} with {{ given.rate }}",
        "```\nlab learn 3\n```",
        "{% if run.p50 > 3 %}slow{% endif %}",
    ],
)
def test_what_has_a_source_passes(text: str) -> None:
    assert problem(text, AFTER, ("rate",), False) is None


def test_what_is_worked_out_needs_a_unit() -> None:
    folder = lesson("littles-law")
    values = sources(folder, {"run": kept()[folder.name][AS_IT_IS]})
    with pytest.raises(SpecError, match="has no unit - end the expression with one of"):
        rendered("{{ load.users / run.throughput }}", values)
    told = rendered("{{ (load.users / run.throughput) | seconds }}", values)
    rate = kept()[folder.name][AS_IT_IS].metrics["throughput"]
    assert told == show("p50", 12 / rate)


def test_what_was_not_measured_says_so_and_decides_nothing() -> None:
    folder = lesson("littles-law")
    nothing = kept()[folder.name][AS_IT_IS].model_copy(update={"metrics": {}})
    values = sources(folder, {"run": nothing})
    assert rendered("{{ run.p50 }} {{ (run.p50 * 2) | seconds }}", values) == f"{ABSENT} {ABSENT}"
    assert evaluated("run.p50 > 1", values) is False
    assert evaluated("run.p50 * 2", values) is None


def test_a_template_reaches_nothing_but_figures() -> None:
    folder = lesson("littles-law")
    with pytest.raises(Exception, match=r"unsafe|cannot be rendered|undefined"):
        rendered("{{ load.users.__class__.__mro__ }}", sources(folder))


@pytest.mark.parametrize("folder", lessons(), ids=NAMES)
def test_every_figure_of_an_explanation_is_the_runs(folder: LessonFolder) -> None:
    runs = kept()[folder.name]
    shown = {"run": runs[AS_IT_IS], "before": runs[AS_IT_IS], "after": runs[SOLUTION]}
    for name, roots in ((EXPLAIN, ("run",)), (SOLVED, ("before", "after"))):
        text = folder.texts[name]
        figures = FIGURE.findall(text)
        assert {root for root, *_ in figures} == set(roots)
        values = sources(folder, {root: shown[root] for root in roots})
        told = rendered(text, values)
        for root, dotted, quoted in figures:
            metric = dotted or quoted
            value = shown[root].metrics.get(metric)
            expected = ABSENT if value is None else show(plain(metric), value)
            source = "{{ " + root + (f".{dotted}" if dotted else f'["{quoted}"]') + " }}"
            assert rendered(source, values) == expected
            assert expected in told


@pytest.mark.parametrize("folder", lessons(), ids=NAMES)
def test_an_explanation_has_all_of_its_figures(folder: LessonFolder) -> None:
    """With a run as the lesson makes it, nothing stays blank, before and after."""
    runs = kept()[folder.name]
    told = grade(folder.lesson, runs[AS_IT_IS], runs[SOLUTION])
    parts = (
        *before_run(folder),
        *after_run(folder, runs[AS_IT_IS], None),
        *graded(folder, told, runs[AS_IT_IS], runs[SOLUTION]),
    )
    names = [part.name for part in parts]
    assert names == ["read", "question", "explain", "code", "task", "check", "solved"]
    unserved = runs[AS_IT_IS].metrics["succeeded"] == 0  # then nothing has a latency
    for part in parts:
        assert "{{" not in part.text
        assert unserved or (ABSENT not in part.text) or part.name in UNREAD.get(folder.name, ())


UNREAD: dict[str, tuple[str, ...]] = {}
"""Parts with a figure of which the simulated replica has no reading."""


@pytest.mark.parametrize("folder", lessons(), ids=NAMES)
def test_no_text_holds_a_number_of_its_own(folder: LessonFolder) -> None:
    for name, roots in (("read.md", BEFORE), (EXPLAIN, AFTER), (SOLVED, SOLVING)):
        assert problem(folder.texts[name], roots, folder.lesson.given, False) is None
        spoilt = folder.texts[name] + "\nIt took 3.65 s.\n"
        assert problem(spoilt, roots, folder.lesson.given, False)
    for given in folder.lesson.given.values():
        assert given.source.startswith(("the incident report", "concurrent.futures"))
