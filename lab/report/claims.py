"""The claims ledger for a terminal and as Markdown: every claim, its conditions and its runs."""

from __future__ import annotations

from collections.abc import Iterator

from lab.model.claims import ClaimFinding, ClaimOutcome, ClaimVerdict, Ledger, LedgerRun
from lab.model.verdict import Outcome
from lab.report.blocks import Block, Items, Paragraph, Section, Table, Value
from lab.report.markdown import document, escaped, table_markdown
from lab.report.terminal import Style, blocks_text, section_text

AS_GOOD_AS: dict[ClaimOutcome, Outcome] = {
    "confirmed": Outcome.HELD,
    "refuted": Outcome.BROKE,
    "undecided": Outcome.UNDECIDED,
    "not measured": Outcome.UNDECIDED,
}
"""The verdict whose sign and colour an outcome has."""

HEADS = ("claim", "it is", "section of the report")


def ledger_text(ledger: Ledger, style: Style) -> str:
    """For a terminal: a section a claim, then all of them in a table."""
    sections = [section_text(_section(claim), style) for claim in ledger.claims]
    return "\n".join([*sections, blocks_text([_table(ledger), Paragraph(tally(ledger))], style)])


def ledger_markdown(ledger: Ledger) -> str:
    """As one Markdown document, with the date and the machine of the runs that it rests on."""
    return document(
        [
            "# What the report says, and what was measured",
            (
                "Every claim of the incident report that can be measured, held against the replica;"
                " it is confirmed when all of its conditions are met, and refuted when one is"
                " missed, or one that refutes it met, with 95 % confidence."
                " `lab claims --markdown` writes this page from stored runs."
            ),
            f"**{escaped(tally(ledger))}**",
            table_markdown(_table(ledger)),
            *(part for claim in ledger.claims for part in _markdown(claim)),
            "## The runs",
            _runs(ledger),
        ]
    )


def tally(ledger: Ledger) -> str:
    """How many claims came to what: ``30 claims: 12 confirmed, 18 refuted``."""
    counts = ", ".join(f"{count} {outcome}" for outcome, count in ledger.counts.items())
    number = len(ledger.claims)
    return f"{number} claim{'' if number == 1 else 's'}: {counts}"


def _value(claim: ClaimVerdict) -> Value:
    return Value.verdict(AS_GOOD_AS[claim.outcome], claim.outcome)


def _table(ledger: Ledger) -> Table:
    return Table.of(HEADS, [(one.claim, _value(one), one.section) for one in ledger.claims])


def _section(claim: ClaimVerdict) -> Section:
    blocks: tuple[Block, ...] = (
        Paragraph(claim.says, lead=claim.section),
        Items((*map(_sentence, claim.findings), *_open(claim))),
    )
    return Section(claim.claim, _value(claim), blocks)


def _sentence(finding: ClaimFinding) -> str:
    takes = f"; it takes {finding.takes}" if finding.takes else ""
    what = f"{finding.outcome}, to refute it" if finding.refutes else finding.outcome
    return f"{what}: {finding.condition}: {finding.reason}{takes}"


def _open(claim: ClaimVerdict) -> tuple[str, ...]:
    return (f"undecided: it takes {claim.takes}",) if claim.takes else ()


def _markdown(claim: ClaimVerdict) -> Iterator[str]:
    yield f"## {escaped(claim.claim)}: {claim.outcome}"
    yield f"*{escaped(claim.section)}.* {escaped(claim.says)}"
    sentences = (*map(_sentence, claim.findings), *_open(claim))
    yield "\n".join(f"- {escaped(text)}" for text in sentences)
    cells = (
        f"{cell.label} is {cell.spec}/{cell.cell}" + (f" of {cell.run}" if cell.run else "")
        for cell in claim.cells
    )
    yield f"Cells: {escaped('; '.join(cells))}."


def _runs(ledger: Ledger) -> str:
    if not ledger.runs:
        return "None is stored."
    rows = [(one.run, one.started, one.stack, _machine(one), one.git) for one in ledger.runs]
    return table_markdown(Table.of(("run", "started", "stack", "machine", "revision"), rows))


def _machine(run: LedgerRun) -> str:
    return ", ".join(f"{name} {value}" for name, value in run.machine.items())
