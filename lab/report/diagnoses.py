"""A diagnosis as blocks: a sentence a cell, every trial with what it moved, and the remedy."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from lab.model.diagnosis import Diagnoses, Diagnosis, Remedy
from lab.model.run import CellResult, RunInfo
from lab.model.verdict import Change, Outcome
from lab.report import format
from lab.report.blocks import (
    Block,
    BottleneckPath,
    Column,
    Fact,
    Heading,
    Hop,
    Items,
    Matrix,
    MatrixRow,
    Page,
    Paragraph,
    Section,
    Table,
    Tone,
    Value,
)
from lab.report.run import run_facts

TONES: dict[str, Tone] = {
    "proven": "good",
    "held": "good",
    "withdrawn": "bad",
    "out of reach": "bad",
    "undecided": "unclear",
    "invalid": "unclear",
}


def diagnoses_page(diagnoses: Diagnoses, info: RunInfo) -> Page:
    """The answers of a diagnosis, and the trials that they rest on."""
    criteria = " and ".join(map(str, info.experiment.criteria))
    return Page(
        title=diagnoses.experiment,
        about=diagnoses.about,
        facts=run_facts(info, Fact("criteria", criteria, prominent=True)),
        note="",
        matrix=_matrix(diagnoses),
        sections=tuple(diagnosis_section(cell, diagnoses) for cell in diagnoses.cells),
        missing=diagnoses.missing,
        damaged=tuple((cell.id, cell.problem) for cell in diagnoses.damaged),
        resume="lab why --resume",
        unmeasured=tuple(one.id for one in diagnoses.cells if one.verdict is Outcome.INVALID),
        answer=" ".join(remedy.text for remedy in diagnoses.remedies),
        glance=tuple(chain.from_iterable(map(_glance, diagnoses.remedies))),
    )


def _glance(remedy: Remedy) -> tuple[Block, ...]:
    return Heading(f"where the limit of {remedy.id} went"), bottleneck_path(remedy)


def bottleneck_path(remedy: Remedy) -> BottleneckPath:
    """Where the limit went while a cell was changed until it held."""
    named = (str(step.limit or step.outcome) for step in remedy.steps)
    hops = (
        Hop(Value.verdict(step.outcome, limit), step.added)
        for step, limit in zip(remedy.steps, named, strict=True)
    )
    return BottleneckPath(tuple(hops))


def _matrix(diagnoses: Diagnoses) -> Matrix:
    heads = ("cell", "verdict", "limit named", "limit", "answer")
    return Matrix(
        columns=tuple(Column(head, names=head == "cell") for head in heads),
        rows=tuple(map(_row, diagnoses.cells)),
        legend="",
        sentences=True,
    )


def _row(cell: Diagnosis) -> MatrixRow:
    values = (
        Value(cell.id),
        Value.verdict(cell.verdict),
        Value(str(cell.named or format.NONE)),
        Value(" + ".join(cell.limit) or format.NONE),
        Value(cell.outcome, tone=TONES.get(cell.outcome, "")),
    )
    return MatrixRow(cell.id, values, why=cell.text, under=cell.text)


def diagnosis_section(cell: Diagnosis, diagnoses: Diagnoses) -> Section:
    """One cell's diagnosis with every trial, and its remedy if there is one."""
    remedies = [remedy for remedy in diagnoses.remedies if remedy.id == cell.id]
    blocks: list[Block] = [Paragraph(cell.text)]
    if cell.trials:
        blocks += [Heading("with more of"), _trials(cell)]
    if cell.untried:
        texts = tuple(f"{one.resource}: {one.why}" for one in cell.untried)
        blocks += [Heading("not tried"), Items(texts)]
    for remedy in remedies:
        blocks += _remedy(remedy)
    return Section(cell.id, Value.verdict(cell.verdict), tuple(blocks))


def _trials(cell: Diagnosis) -> Table:
    rows = [
        (
            " + ".join(trial.relaxed),
            trial.what,
            Value.verdict(trial.outcome),
            Value(trial.effect, tone=TONES.get(trial.effect, "")),
            "; ".join(map(_change, trial.changes)) or trial.reason,
            str(trial.limit or format.NONE),
        )
        for trial in cell.trials
    ]
    return Table.of(("more of", "how", "verdict", "what was missed", "change", "limit then"), rows)


def _change(change: Change) -> str:
    text = f"{change.metric} {format.change(change.kind, change.change)}"
    return f"{text} ({format.interval(change)})" if change.low is not None else text


def _remedy(remedy: Remedy) -> Sequence[Block]:
    names = list(dict.fromkeys(name for step in remedy.steps for name in step.price))
    rows: list[tuple[Value | str, ...]] = [
        (
            step.added or "as it is",
            Value.verdict(step.outcome),
            str(step.limit or format.NONE),
            *(format.metric(name, step.price.get(name)) for name in names),
        )
        for step in remedy.steps
    ]
    blocks: list[Block] = [
        Heading("until it holds"),
        Paragraph(remedy.text, lead=remedy.outcome),
        bottleneck_path(remedy),
        Table.of(("change", "verdict", "limit", *names), rows, right=names),
    ]
    if remedy.taken_back:
        back = [
            (
                " ".join(f"{name}={value}" for name, value in one.change.items()),
                Value.verdict(one.outcome),
                "needed" if one.needed else "not needed" if one.spared else "open",
            )
            for one in remedy.taken_back
        ]
        blocks.append(Table.of(("taken back", "verdict", "result"), back))
    return blocks


def diagnosis_news(step: CellResult | Diagnosis | Remedy) -> str:
    """A trial, or an answer, on a line."""
    if isinstance(step, Diagnosis):
        return f"{step.outcome}: {step.text}"
    if isinstance(step, Remedy):
        return f"{step.outcome}: {step.text}"
    limit = f"; limit {step.limit.resource}" if step.limit else ""
    return f"{step.id}: {step.verdict}{limit}; {format.first_reason(step)}"
