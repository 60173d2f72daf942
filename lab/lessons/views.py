"""What a learner reads: made of a lesson and of what is stored, and of nothing else.

    lesson ─────────────┐
    progress ───────────┼─> LessonPart, … (Markdown) ─> a terminal, JSON, a page, a notebook
    the runs' results ──┘

A part has a name, by which a page finds its place, and its text in Markdown, every figure in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

from lab.lessons.course import next_lesson, open_needs
from lab.lessons.figures import ABSENT, rendered, sources
from lab.model.lessons import (
    EXPLAIN,
    READ,
    SOLVED,
    CheckFinding,
    Grade,
    LearnerProgress,
    LessonFolder,
    PredictionResult,
)
from lab.model.run import CellResult
from lab.model.verdict import Outcome
from lab.report.blocks import Block, Heading, Items, Paragraph, Table, Value
from lab.report.terminal import Style, blocks_text

BLANK = "……"
"""Stands for a figure on paper, before there is a run."""

TONES = {"met": "good", "missed": "bad", "undecided": "unclear"}

Sources = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class LessonPart:
    """A part of a lesson: ``read``, ``question``, ``answer``, ``explain``, ``code``, ``task`` …"""

    name: str
    text: str

    def as_json(self) -> dict[str, str]:
        """The same as JSON has it."""
        return {"part": self.name, "markdown": self.text}


def before_run(folder: LessonFolder) -> tuple[LessonPart, ...]:
    """What is read, and asked, before anything is measured."""
    values = sources(folder)
    return LessonPart("read", rendered(folder.texts[READ], values)), LessonPart(
        "question", question(folder)
    )


def question(folder: LessonFolder) -> str:
    """The question, with its choices."""
    values, asked = sources(folder), folder.lesson.prediction
    text = f"## What do you expect?\n\n{rendered(asked.question, values)}\n"
    if asked.choices:
        says = {letter: rendered(one.says, values) for letter, one in asked.choices.items()}
        return text + "".join(f"\n- **{letter}** {said}" for letter, said in says.items()) + "\n"
    unit = asked.number.unit if asked.number else ""
    return f"{text}\nAnswer with a number, in {unit}.\n"


def after_run(
    folder: LessonFolder, run: CellResult, prediction: PredictionResult | None
) -> tuple[LessonPart, ...]:
    """What is told once the lesson's run was made: is the answer right, and why; what to do now."""
    answer = (LessonPart("answer", _told(folder, prediction)),) if prediction else ()
    explained = rendered(folder.texts[EXPLAIN], sources(folder, {"run": run}))
    return (
        *answer,
        LessonPart("explain", explained),
        LessonPart("code", code(folder)),
        LessonPart("task", task(folder)),
    )


def invalid(folder: LessonFolder, run: CellResult) -> LessonPart:
    """What is told where no run could be made that shows anything."""
    why = run.reasons[0] if run.reasons else "the run shows nothing"
    text = f"## Not graded\n\n{_sentence(why)} Your answer is kept; measure again with"
    return LessonPart("invalid", f"{text} `lab learn {folder.number}`.\n")


def _told(folder: LessonFolder, prediction: PredictionResult) -> str:
    said, truth = f"You expected **{prediction.answer}**", prediction.truth
    if prediction.right is None:
        fits = f"it lies between {truth}" if truth else "it fits none of the answers"
        return f"## Your answer\n\n{said}. The run does not say who is right: {fits}.\n"
    asked = folder.lesson.prediction
    unit = f" {asked.number.unit}" if asked.number else ""
    if prediction.right:
        measured = f", and the run says {truth}{unit}" if asked.number else ", and so it is"
        return f"## Your answer\n\n{said}{unit}{measured}.\n"
    choices = {str(letter): one.says for letter, one in (asked.choices or {}).items()}
    why = rendered(choices.get(truth, ""), sources(folder))
    return f"## Your answer\n\n{said}{unit}. The run says **{truth}**{unit}. {why}".rstrip() + "\n"


def code(folder: LessonFolder) -> str:
    """Where in the service it is decided."""
    values = sources(folder)
    places = zip(folder.lesson.code, folder.lines, strict=True)
    lines = [
        f"- `{place.file}:{line}` `{place.find}`: {rendered(place.about, values)}"
        for place, line in places
    ]
    return "## In the service's code\n\n" + "\n".join(lines) + "\n"


def task(folder: LessonFolder) -> str:
    """What to change, how to try it, and by what it is checked."""
    lesson, values = folder.lesson, sources(folder)
    checks = "\n".join(f"- `{words(str(one.criterion))}`" for one in lesson.checks)
    knobs = ", ".join(f"`{name}`" for name in sorted(lesson.may_change))
    return (
        f"## Your turn\n\n{rendered(lesson.task, values)}\n\n"
        f"Change it with `lab learn {folder.number} --check --set KNOB=VALUE`; `lab knobs` says"
        f" what each setting means, and `lab learn {folder.number} --hint` helps, one step at a"
        f" time. Open are {knobs}.\n\nIt is done when\n\n{checks}\n"
    )


def words(criterion: str) -> str:
    """A check as learners read it: ``throughput > 3 x before``."""
    return criterion.replace("x baseline", "x before")


def graded(
    folder: LessonFolder, grade: Grade, before: CellResult, after: CellResult
) -> tuple[LessonPart, ...]:
    """What came of a change; what it did, where every check is met."""
    values = sources(folder)
    if grade.why:
        return (LessonPart("check", f"## Not graded\n\n{_sentence(grade.why)}\n"),)
    heads = {"passed": "Done", "failed": "Not yet", "undecided": "Too little was seen to tell"}
    lines = "\n".join(_line(finding, values) for finding in grade.findings)
    again = f"\nMeasure it again: `lab learn {folder.number} --check …`\n"
    tail = again if grade.outcome == "undecided" else ""
    checked = LessonPart("check", f"## {heads[grade.outcome]}\n\n{lines}\n{tail}")
    if grade.outcome != "passed":
        return (checked,)
    measured = sources(folder, {"before": before, "after": after})
    return checked, LessonPart("solved", rendered(folder.texts[SOLVED], measured))


def _line(finding: CheckFinding, values: Sources) -> str:
    why = f"\n  {rendered(finding.because, values)}" if finding.because else ""
    return f"- **{finding.outcome}** `{finding.check}`: {finding.reason}.{why}"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def hint(folder: LessonFolder, number: int) -> LessonPart:
    """A hint, from 1; the last one where there are no more."""
    hints = folder.lesson.hints
    number = min(number, len(hints))
    text = rendered(hints[number - 1], sources(folder))
    return LessonPart("hint", f"## Hint {number} of {len(hints)}\n\n{text}\n")


def solution(folder: LessonFolder) -> LessonPart:
    """The solution, as it is tried, and the mistakes that look like one."""
    lesson, values = folder.lesson, sources(folder)
    flags = " ".join(f"--set '{name}={value}'" for name, value in lesson.solution.items())
    wrong = "\n".join(
        f"- `{' '.join(f'{k}={v}' for k, v in one.set.items())}`: {rendered(one.because, values)}"
        for one in lesson.wrong
    )
    text = (
        f"## A solution\n\n`lab learn {folder.number} --check {flags}`\n\n## What does not help\n"
    )
    return LessonPart("solution", f"{text}\n{wrong}\n")


HEADS = ("lesson", "title", "how far")


def overview(course: Sequence[LessonFolder], progress: LearnerProgress) -> tuple[Block, ...]:
    """The list, with one's progress."""
    rows = [_row(one, progress) for one in course]
    passed = sum(bool(progress.of(one.name).passed) for one in course)
    tally = f"{progress.learner}: {passed} of {len(course)} lessons passed"
    exams = [exam for exam in progress.exams.values() if exam.graded]
    if exams:
        tally += f", {len(exams)} examined, best {max(exam.points for exam in exams):g} of 2"
    return Table.of(HEADS, rows), Paragraph(f"{tally}; {_next(course, progress)}")


def _row(folder: LessonFolder, progress: LearnerProgress) -> tuple[Value | str, ...]:
    mine = progress.of(folder.name)
    status = Value(mine.status or "-", tone="good" if mine.passed else "")
    return f"{folder.number} {folder.name}", rendered(folder.lesson.title, sources(folder)), status


def _next(course: Sequence[LessonFolder], progress: LearnerProgress) -> str:
    following = next_lesson(course, progress)
    return f"go on with `lab learn {following.number}`" if following else "try `lab learn exam`"


def needed(course: Sequence[LessonFolder], folder: LessonFolder, progress: LearnerProgress) -> str:
    """Which lessons should come first; empty where nothing is open."""
    missing = [str(one.number) for one in open_needs(course, folder, progress)]
    if not missing:
        return ""
    plural = "s" if len(missing) > 1 else ""
    return (
        f"lesson {folder.number} builds on lesson{plural} {' and '.join(missing)}: not passed yet"
    )


def on_paper(folder: LessonFolder, run: CellResult | None = None) -> str:
    """A whole lesson but for its solution, in Markdown; figures are blank where there is no run.

    Every figure that a learner can fill in after the run has its place.
    """
    values = sources(folder, {"run": run or _nothing(folder)})
    explained = rendered(folder.texts[EXPLAIN], values)
    parts = [
        rendered(folder.texts[READ], values),
        question(folder),
        explained if run else explained.replace(ABSENT, BLANK),
        code(folder),
        task(folder),
    ]
    return "\n".join(parts)


def _nothing(folder: LessonFolder) -> CellResult:
    """A run in which nothing was measured."""
    return CellResult(
        id=folder.cell.id,
        axes={},
        knobs={},
        load={},
        verdict=Outcome.UNDECIDED,
        reasons=(),
        metrics={},
        findings=(),
        injected=(),
    )


def terminal(parts: Sequence[LessonPart], style: Style) -> str:
    """Parts as text for a terminal."""
    blocks = (block for part in parts for block in markdown_blocks(part.text))
    return blocks_text(blocks, style)


def markdown_blocks(text: str) -> list[Block]:
    """The headings, paragraphs, lists and fences of a Markdown text as blocks of a report."""
    blocks, items = list[Block](), list[str]()
    depth, heading = 0, False
    for token in MarkdownIt().parse(text):
        if token.type in ("bullet_list_open", "ordered_list_open"):
            depth += 1
        elif token.type in ("bullet_list_close", "ordered_list_close"):
            depth -= 1
            blocks.append(Items(tuple(items)))
            items = []
        elif token.type == "heading_open":
            heading = True
        elif token.type in ("fence", "code_block"):
            blocks.append(Items(tuple(token.content.splitlines())))
        elif token.type == "inline" and depth:
            items.append(_plain(token))
        elif token.type == "inline":
            blocks.append(Heading(_plain(token)) if heading else Paragraph(_plain(token)))
            heading = False
    return _spaced(blocks)


def _spaced(blocks: Sequence[Block]) -> list[Block]:
    """An empty line between paragraphs, which a report has none of."""
    spaced = list[Block]()
    for number, block in enumerate(blocks):
        last = blocks[number - 1] if number else None
        if isinstance(block, Paragraph) and last and not isinstance(last, Heading):
            spaced.append(Paragraph(""))
        spaced.append(block)
    return spaced


def _plain(token: Token) -> str:
    """Inline text without its emphasis; code keeps its backticks."""
    found = []
    for child in token.children or ():
        if child.type == "code_inline":
            found.append(f"`{child.content}`")
        elif child.type in ("softbreak", "hardbreak"):
            found.append(" ")
        else:
            found.append(child.content)
    return "".join(found)
