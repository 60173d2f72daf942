"""Two runs beside each other as blocks: what is certain, a row a pair of cells, then every figure.

The same blocks make the text for a terminal, which leaves out the figures of each pair, the
Markdown and the page.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence

from lab.model import metrics
from lab.model.run_comparison import CellPair, ComparedRun, RunComparison
from lab.model.verdict import Change
from lab.report import format
from lab.report.beside import change_on, change_row, common_scale, figure, told_flips
from lab.report.blocks import Block, Fact, Facts, Heading, Items, Paragraph, Table, Tone, Value
from lab.report.html import blocks_html
from lab.report.markdown import blocks_markdown
from lab.report.terminal import Style, blocks_text

HEADS = ("uploads/s", "p95", "failed")
"""Of the figures that users feel, the titles of their columns."""

FELT = dict(zip(("throughput", "p95", "error_rate"), HEADS, strict=True))

TONES: dict[str, Tone] = {"worse": "bad", "better": "good", "worse and better": "unclear"}

UNCLEAR = (
    "it is not known how well its figures are known: its load changes over time, or an earlier lab"
    " judged it, which `lab judge` does anew"
)

GAP = 3
"""Characters between two columns of a table on a terminal."""

MAX_CHANGED = 12
"""So many settings that changed between the runs are told; of runs of other specs there are more.
"""


def comparison_text(told: RunComparison, style: Style) -> str:
    """For a terminal."""
    head = [Heading(_title(told)), *_head(told)]
    parts = [*head, *_brief(told, style.width), *_moves(told), *_apart(told)]
    return blocks_text(parts, style).lstrip("\n")


def comparison_markdown(told: RunComparison, *, whole: bool = True) -> str:
    """As one Markdown document.

    Args:
        told: the comparison.
        whole: with every figure of each pair.
    """
    parts = [*_head(told), Heading("cells"), _table(told), *_apart(told)]
    return blocks_markdown(_title(told), [*parts, *(_figures(told) if whole else ())])


def comparison_html(told: RunComparison) -> str:
    """As one HTML document that needs no network."""
    parts = [*_head(told), Heading("cells"), _table(told), *_apart(told), *_figures(told)]
    return blocks_html(_title(told), parts)


def _title(told: RunComparison) -> str:
    return f"{told.after.name} beside {told.before.name}"


def _head(told: RunComparison) -> Iterator[Block]:
    """What is certain, and what was compared with what."""
    yield Paragraph(tally(told))
    yield from _sentences(told)
    yield _facts(told)
    if told.why_not:
        lead = "compared anyway, and not comparable" if told.anyway else "not comparable"
        remedy = "" if told.anyway else "; --anyway compares them in spite of it"
        yield Paragraph(f"{'; '.join(told.why_not)}{remedy}", lead=lead)


def tally(told: RunComparison) -> str:
    """What came of the pairs: ``12 pairs of cells: 3 got worse, 9 show no certain difference``."""
    counts = Counter(comes_to(pair) for pair in told.cells)
    parts = [f"{counts[word]} {label}" for word, label in _LABELS.items() if counts[word]]
    pairs = format.plural(len(told.cells), "pair")
    return f"{pairs} of cells: {', '.join(parts)}"


_LABELS = {
    "worse": "got worse",
    "better": "got better",
    "worse and better": "got worse in one and better in another",
    "no certain difference": "without a certain difference",
    "unclear": "of which it is not known how well the figures are known",
    "not compared": "not compared",
}


def comes_to(pair: CellPair) -> str:
    """What a pair comes to, in a word or two."""
    words = [word for word, names in (("worse", pair.worse), ("better", pair.better)) if names]
    if words:
        return " and ".join(words)
    if pair.beside.why_not:
        return "not compared"
    return "unclear" if pair.unclear else "no certain difference"


def _sentences(told: RunComparison) -> Iterator[Block]:
    """What is certain, a line a pair."""
    texts = [f"{pair.after}: {text}" for pair in told.cells if (text := _certain(pair))]
    if texts:
        yield Items(tuple(texts))


def _certain(pair: CellPair) -> str:
    found = []
    for word, names in (("worse", pair.worse), ("better", pair.better)):
        told = [_phrase(name, pair) for name in names]
        found += [f"{word}: {', '.join(told)}"] if told else []
    return "; ".join(found)


def _phrase(name: str, pair: CellPair) -> str:
    """A metric with its change, or a criterion with how it came out."""
    change = change_on(name, pair.beside)
    if change:
        return f"{name} {format.beside(change)}"
    [flip] = [flip for flip in pair.beside.flips if flip.criterion == name]
    return f"{name} was {flip.before}, is {flip.after}"


def _facts(told: RunComparison) -> Facts:
    changed = [
        f"{name} {_written(old)} -> {_written(new)}" for name, (old, new) in told.changed.items()
    ]
    more = len(changed) - MAX_CHANGED
    names = ", ".join(changed[:MAX_CHANGED]) + (f" and {more} more" if more > 0 else "")
    level = format.percent(told.confidence)
    facts = (
        Fact("before", _side(told.before)),
        Fact("after", _side(told.after)),
        Fact("changed between all cells", names or "nothing"),
        Fact(
            "certainty",
            f"all {format.plural(told.figures, 'interval')} hold together at {level}; told as"
            " better or worse is what is beyond 5 %, of shares beyond 1 %",
        ),
    )
    return Facts(facts if told.figures else facts[:-1])


def _written(value: object) -> str:
    """A setting as a spec writes it; what is not there as a dash."""
    if value is None or value == "":
        return format.NONE
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _side(run: ComparedRun) -> str:
    revision = f", revision {run.git}" if run.git else ""
    return f"{run.name} ({run.stack} stack, started {run.started}{revision})"


def _table(told: RunComparison) -> Table:
    """A row a pair, with each figure's change, its interval, and what moved."""
    heads = ("cell", "result", "verdict", *HEADS, "criteria", "limit")
    scales = {name: _scale(name, told.cells) for name in FELT}
    rows = [_row(pair, scales) for pair in told.cells]
    return Table.of(heads, rows, right=HEADS)


def _brief(told: RunComparison, width: int) -> Iterator[Block]:
    """The same for a narrow place: intervals and what moved stand elsewhere."""
    heads = ("cell", "result", "verdict", *HEADS)
    rows = [_brief_row(pair) for pair in told.cells]
    shown = [heads, *([value.short or value.marked for value in row] for row in rows)]
    if sum(max(map(len, column)) + GAP for column in zip(*shown, strict=True)) - GAP <= width:
        yield Table.of(heads, rows, right=HEADS)
        return
    yield Heading("cells")
    for name, word, verdict, *changes in rows:
        figures = (f"{head} {value.text}" for head, value in zip(HEADS, changes, strict=True))
        phrases = (name.text, word.short or word.text, verdict.marked, *figures)
        yield Items(("; ".join(phrase for phrase in phrases if phrase != format.NONE),))


def _brief_row(pair: CellPair) -> tuple[Value, ...]:
    figures = (_change(name, pair) for name in FELT)
    return (Value(pair.after), _so_it_is(pair), _verdicts(pair), *figures)


def _change(name: str, pair: CellPair) -> Value:
    found = _on(name, pair)
    if not found:
        return Value(format.NONE)
    [change, *_] = found
    text = format.change(change.kind, change.change)
    return Value("before 0" if _from_nothing(change) else text, tone=_tone(change, pair))


def _from_nothing(change: Change) -> bool:
    return change.kind == "ratio" and not change.baseline


def _moves(told: RunComparison) -> Iterator[Block]:
    """Criteria that came out otherwise, and limits that moved, a line a pair."""
    texts = []
    for pair in told.cells:
        moved = [] if pair.before == pair.after else [f"it was {pair.before}"]
        moved += told_flips(pair.beside)
        if pair.beside.limit:
            moved.append("the limit moved from {} to {}".format(*pair.beside.limit))
        texts += [f"{pair.after}: {'; '.join(moved)}"] if moved else []
    if texts:
        yield Heading("what moved")
        yield Items(tuple(texts))


def _scale(name: str, pairs: Sequence[CellPair]) -> float:
    """The scale of a figure's bars, whatever journey the loads are about."""
    names = {change.metric for pair in pairs for change in _on(name, pair)}
    return max((common_scale([pair.beside for pair in pairs], each) for each in names), default=0.0)


def _on(name: str, pair: CellPair) -> list[Change]:
    """The pair's changes of a metric, of whatever journey."""
    return [change for change in pair.beside.changes if metrics.plain(change.metric) == name]


def _row(pair: CellPair, scales: dict[str, float]) -> tuple[Value | str, ...]:
    return (
        _name(pair),
        _so_it_is(pair),
        _verdicts(pair),
        *(_figure(name, pair, scale) for name, scale in scales.items()),
        "; ".join(told_flips(pair.beside)),
        " -> ".join(pair.beside.limit or ()),
    )


def _name(pair: CellPair) -> str:
    return pair.after if pair.after == pair.before else f"{pair.after} (was {pair.before})"


def _so_it_is(pair: CellPair) -> Value:
    word = comes_to(pair)
    short = format.NONE if word in ("no certain difference", "not compared") else word
    return Value(word, short, tone=TONES.get(word, ""))


def _verdicts(pair: CellPair) -> Value:
    before, after = pair.verdicts
    return Value.verdict(after, "" if before is after else f"{before} -> {after}")


def _figure(name: str, pair: CellPair, scale: float) -> Value | str:
    found = _on(name, pair)
    if not found:
        return format.NONE
    [change, *_] = found
    return figure(change, scale, _tone(change, pair))


def _tone(change: Change, pair: CellPair) -> Tone:
    """Whether a change is good news for certain."""
    if change.metric in pair.worse:
        return "bad"
    return "good" if change.metric in pair.better else ""


def _apart(told: RunComparison) -> Iterator[Block]:
    """What was not compared, and why."""
    whole = "; ".join(told.why_not)
    texts = [
        f"{pair.after} is not compared: {pair.beside.why_not}"
        for pair in told.cells
        if pair.beside.why_not not in ("", whole)
    ]
    texts += [f"{pair.after}: {UNCLEAR}" for pair in told.cells if pair.unclear]
    for side in (told.before, told.after):
        texts += [f"in {side.name} alone: {'; '.join(side.alone)}"] if side.alone else []
        texts += [f"{cell}: not finished in {side.name}" for cell in side.missing]
        texts += [f"{cell.id}: damaged in {side.name}: {cell.problem}" for cell in side.damaged]
    if texts:
        yield Heading("not compared")
        yield Items(tuple(texts))


def _figures(told: RunComparison) -> Iterator[Block]:
    """Every figure of each pair, with its interval."""
    heads = ("metric", "after", "before", "change", "interval", "result")
    for pair in told.cells:
        if pair.beside.changes:
            yield Heading(pair.after)
            rows = [change_row(change) for change in pair.beside.changes]
            yield Table.of(heads, rows, right=heads[1:5])
