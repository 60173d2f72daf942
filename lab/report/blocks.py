"""A report as blocks: made once from what is stored, rendered by every form in its own way.

    Summary     run.py         ┐                 ┌ terminal.py
    Thresholds  thresholds.py  ├─> Page, Section ┼ markdown.py
    CellResult  cell.py        │    of blocks    └ html.py
                pictures/      ┘

A block holds what is to be read, never how it looks: what a form cannot show (a picture on a
terminal, a colour in Markdown) it leaves out. Much of its text was written by others, so each
text is on one line and without what cannot be seen, whatever it was made of.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from markupsafe import Markup

from lab.model.capacity import Curve, ExpectedThreshold
from lab.model.text import clean_line
from lab.model.verdict import Crossing, Outcome, Series, StageResult
from lab.report.format import plural

MARKS = {Outcome.HELD: "+", Outcome.BROKE: "x", Outcome.UNDECIDED: "?", Outcome.INVALID: "!"}
"""A sign for each verdict, so that they differ in more than colour."""

MAX_OF_PARAGRAPH = 8
"""An answer of more claims is a list."""

Tone = Literal["", "good", "bad", "unclear"]


class _Shown:
    """A dataclass whose texts are cleaned as it is made."""

    def __post_init__(self) -> None:
        for name, value in [*vars(self).items()]:
            if (cleaned := _cleaned(value)) != value:
                object.__setattr__(self, name, cleaned)


def _cleaned(value: Any) -> Any:
    if type(value) is str:
        return clean_line(value)
    return tuple(map(_cleaned, value)) if type(value) is tuple else value


@dataclass(frozen=True)
class Bar:
    """A share of a whole, from 0 to 1; ``full`` where that is a limit and it is reached."""

    share: float
    full: bool = False


@dataclass(frozen=True)
class Strip:
    """Stretches of one scale: the style of each (``range``, ``holds``, ``breaks``, or ``mark``,
    which is upright at its start), its start and its end, as shares of the scale."""

    stretches: tuple[tuple[str, float, float], ...]


@dataclass(frozen=True)
class Pair:
    """A figure before and after, as shares of one scale, each from 0 to 1.

    ``low`` and ``high`` are the ends between which the later one lies, and ``tone`` says whether
    the change is good news.
    """

    before: float
    after: float
    low: float
    high: float
    tone: Tone = ""


@dataclass(frozen=True)
class Value(_Shown):
    """What stands in one place of a table."""

    text: str  #: with its unit
    short: str = ""  #: the same under a column's short title, which has the unit; else as ``text``
    outcome: Outcome | None = None  #: of a verdict: whose sign and colour it has
    tone: Tone = ""  #: of another word: whether it is good news
    code: bool = False  #: a name that people copy
    picture: Bar | Strip | Pair | None = None  #: what a page draws under it

    @classmethod
    def verdict(cls, outcome: Outcome, text: str = "") -> Self:
        """A verdict; or another word that is as good as this outcome."""
        return cls(text or str(outcome), outcome=outcome)

    @property
    def marked(self) -> str:
        """The text, with the sign of a verdict before it."""
        return f"{MARKS[self.outcome]} {self.text}" if self.outcome else self.text


@dataclass(frozen=True)
class Column(_Shown):
    """A column of a table."""

    head: str  #: its title, where figures carry their units
    short: str = ""  #: its title on a terminal, with the unit that the values there leave out
    right: bool = False  #: aligned to the right, as numbers are
    names: bool = False  #: the row's id holds it too
    folds: bool = False  #: the row's ``folded`` holds it too, so a narrow table may leave it out
    glossary: bool = False  #: what the row's name means, which a page of many tables tells once


@dataclass(frozen=True)
class Table:
    """Rows of values under their columns."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Value, ...], ...]

    @classmethod
    def of(
        cls,
        heads: Sequence[str],
        rows: Iterable[Sequence[Value | str]],
        right: Sequence[str] = (),
        glossary: str = "",
    ) -> Self:
        """A table of plain columns; those named in ``right`` are aligned to the right.

        The one named in ``glossary`` says what the row's name means.
        """
        columns = tuple(
            Column(head, right=head in right, glossary=head == glossary) for head in heads
        )
        values = ((Value(v) if isinstance(v, str) else v for v in row) for row in rows)
        return cls(columns, tuple(map(tuple, values)))


@dataclass(frozen=True)
class MatrixRow(_Shown):
    """A cell of the run."""

    id: str  #: its name, and the title of its section
    values: tuple[Value, ...]  #: one a column
    why: str  #: the deciding reason
    under: str = ""  #: the text under the row where there is no room beside it
    folded: str = ""  #: the same where the columns that fold are left out


@dataclass(frozen=True)
class Matrix(_Shown):
    """The table of a whole run, a row a cell, which each form fits into the room that it has.

    Where ``sentences`` is set, each ``why`` holds every figure of its row, so that a form
    without pictures gives the sentences alone.
    """

    columns: tuple[Column, ...]  #: of the values; the reason comes last
    rows: tuple[MatrixRow, ...]  #: in the order of the page's sections
    legend: str  #: what its pictures mean, for a form that has them
    sentences: bool = False


@dataclass(frozen=True)
class Heading(_Shown):
    """The title of what follows it in a section."""

    text: str


@dataclass(frozen=True)
class Paragraph(_Shown):
    """Running text; ``lead`` is the name of what it is about."""

    text: str
    lead: str = ""


@dataclass(frozen=True)
class Items(_Shown):
    """Sentences of which each stands alone; ``numbered`` where their order matters."""

    texts: tuple[str, ...]
    numbered: bool = False


@dataclass(frozen=True)
class Fact(_Shown):
    """A name, in lower case, and what it stands for."""

    name: str
    text: str
    code: bool = False  #: something that people copy
    prominent: bool = False  #: figures cannot be read without it, so it stands above them


@dataclass(frozen=True)
class Facts:
    """Facts, a line each."""

    facts: tuple[Fact, ...]


@dataclass(frozen=True)
class Picture(_Shown):
    """A drawing, and all that it shows as a table: so nobody needs to see it.

    Args:
        name: of its kind, as a part of an id.
        title: what it shows.
        about: what is to be seen in it, in words.
        table: every figure that it is drawn from.
        draw: makes the drawing; gets an id that is unique on the page.
        data: the same figures exactly as they are stored, for programs.
        note: how it is read.
        in_text: whether forms without drawings show the table; else another block tells it.
        over_time: whether ``data`` are series, which a page can zoom.
    """

    name: str
    title: str
    about: str
    table: Table
    draw: Callable[[str], Markup]
    data: Mapping[str, Any]
    note: str = ""
    in_text: bool = False
    over_time: bool = False


@dataclass(frozen=True)
class Chart:
    """A trial over time.

    ``bounds`` are those that criteria set, and ``limits`` how much there is of what can fill up,
    both by the name of the series; ``limit`` is the resource that is the limit, if one is.
    """

    series: Series
    stages: tuple[StageResult, ...]
    crossings: tuple[Crossing, ...]
    bounds: Mapping[str, float]
    limits: Mapping[str, float] = field(default_factory=dict)
    limit: str = ""


@dataclass(frozen=True)
class ShareCurve(_Shown):
    """The share of uploads beyond a criterion's bound against the users, of one cell.

    Args:
        curve: as a search knows it; without points where it rests on counts alone.
        low: users at the lower end of the interval; None where there is none.
        high: at its upper end; likewise.
        confidence: that the threshold lies between the two, from 0 to 1.
        about: what it shows, for who does not see the picture.
        prediction: what was expected before the first trial; None: nothing was.
    """

    curve: Curve
    low: float | None
    high: float | None
    confidence: float
    about: str
    prediction: ExpectedThreshold | None = None


@dataclass(frozen=True)
class Hop(_Shown):
    """Where the limit is, once something was changed; nothing was before the first."""

    limit: Value
    change: str = ""


@dataclass(frozen=True)
class BottleneckPath:
    """Where the limit went, change upon change."""

    hops: tuple[Hop, ...]


Block = Heading | Paragraph | Items | Facts | Table | Picture | Chart | ShareCurve | BottleneckPath


@dataclass(frozen=True)
class Section(_Shown):
    """One cell, whole: its id, its verdict, and all that is stored of it."""

    title: str
    verdict: Value
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Page(_Shown):
    """A whole run."""

    title: str  #: the experiment's name
    about: str  #: the question that it asks
    facts: tuple[Fact, ...]  #: what was measured, where and how
    note: str  #: what must be known of the load to read the figures
    matrix: Matrix
    sections: tuple[Section, ...]  #: every finished cell, whole; and those that are ``begun``
    missing: tuple[str, ...]  #: ids of the cells that are not finished
    damaged: tuple[tuple[str, str], ...]  #: of each cell that cannot be read, its id and why
    resume: str  #: the command that finishes them, but for the run's name
    unmeasured: tuple[str, ...] = ()  #: ids of the cells that are invalid
    remedies: tuple[str, ...] = ()  #: what to do before they are measured again
    answer: str = ""  #: the paragraph that a run ends with
    claims: tuple[str, ...] = ()  #: the same by its sentences
    beside: tuple[Block, ...] = ()  #: before and after, of a run with a baseline
    glance: tuple[Block, ...] = ()  #: what a form that leaves the sections out shows of them
    begun: frozenset[str] = frozenset()  #: of those not finished the ids that have a section
    pictures: tuple[Picture, ...] = ()  #: of all cells together

    @property
    def listed(self) -> tuple[str, ...]:
        """The answer's sentences, where they are too many for a paragraph; else none."""
        return self.claims if len(self.claims) > MAX_OF_PARAGRAPH else ()

    @property
    def has_bars(self) -> bool:
        """Whether bars before and after are drawn, so that a page says what they mean."""
        tables = (block for block in self.beside if isinstance(block, Table))
        return any(value.picture for table in tables for row in table.rows for value in row)

    def not_measured(self, where: object = "RUN") -> str:
        """Which cells could not be measured, and what to do; empty where all could.

        Args:
            where: the run, as the reader can name it.
        """
        if not self.unmeasured:
            return ""
        remedy = "; ".join((*self.remedies, f"measure again with {self.resume} {where}"))
        return f"Could not be measured: {'; '.join(self.unmeasured)} - {remedy}"

    @property
    def counts(self) -> Mapping[Value, int]:
        """How many finished cells came to which verdict, in the order of the outcomes."""
        verdicts = [s.verdict for s in self.sections if s.title not in self.begun]
        return Counter(v for outcome in Outcome for v in verdicts if v.outcome is outcome)

    @property
    def tally(self) -> str:
        """The same as a sentence's part: ``12 cells: 6 held, 6 broke``."""
        whole = len(self.sections) - len(self.begun)
        total = whole + len(self.missing) + len(self.damaged)
        parts = [f"{number} {verdict.text}" for verdict, number in self.counts.items()]
        if self.missing:
            parts.append(f"{len(self.missing)} not finished")
        if self.damaged:
            parts.append(f"{len(self.damaged)} damaged")
        return f"{plural(total, 'cell')}: {', '.join(parts) or 'none measured'}"
