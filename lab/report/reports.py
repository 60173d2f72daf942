"""A stored run in every form, and the answers of many runs on one page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.model.capacity import Standing, Threshold, Thresholds
from lab.model.diagnosis import Diagnoses
from lab.model.run import CellResult, RunInfo, Summary
from lab.report import format
from lab.report.blocks import Page, Table
from lab.report.cell import cell_section
from lab.report.diagnoses import diagnoses_page
from lab.report.html import page_html
from lab.report.markdown import (
    answer_markdown,
    document,
    escaped,
    matrix_markdown,
    page_markdown,
    table_markdown,
)
from lab.report.run import run_page
from lab.report.terminal import Style, page_text, section_text
from lab.report.thresholds import threshold_section, thresholds_page

Document = Summary | Thresholds | Diagnoses
"""What a run folder answers with, by what was asked of it."""


def _page(stored: Document, info: RunInfo) -> Page:
    if isinstance(stored, Summary):
        return run_page(stored, info)
    if isinstance(stored, Thresholds):
        return thresholds_page(stored, info)
    return diagnoses_page(stored, info)


def end_table(stored: Document, info: RunInfo, where: Path | str, style: Style) -> str:
    """A run, a search for thresholds or a diagnosis at one glance, for a terminal.

    Args:
        stored: what came of the cells.
        info: what was decided before the first.
        where: the run's folder, as the reader can name it.
        style: width and colour of the place where it is shown.
    """
    return page_text(_page(stored, info), where, style)


def markdown_report(stored: Document, info: RunInfo) -> str:
    """The whole run as one Markdown document."""
    return page_markdown(_page(stored, info))


def step_summary(stored: Document, info: RunInfo) -> str:
    """The run at one glance as Markdown, for the summary of a step in CI."""
    return answer_markdown(_page(stored, info))


def html_report(stored: Document, info: RunInfo) -> str:
    """The whole run as one HTML document that needs no network."""
    return page_html(_page(stored, info))


def cell_details(cell: CellResult | Threshold | Standing, style: Style) -> str:
    """Everything that is stored of one cell, for a terminal."""
    section = cell_section(cell) if isinstance(cell, CellResult) else threshold_section(cell)
    return section_text(section, style)


@dataclass(frozen=True)
class Entry:
    """A spec's question, and the stored run that answers it."""

    experiment: str  #: the spec's name
    about: str  #: the question, in the spec's words
    stored: tuple[Document, RunInfo] | None = None  #: of its latest run
    problem: str = "no run of it is stored"  #: why there is none that can be read
    deviation: str = ""  #: in what the run is not what the spec asks

    @property
    def question(self) -> str:
        """What is asked; where the spec asks nothing, its name."""
        return self.about or self.experiment

    @property
    def outcome(self) -> str:
        """How many cells came to what."""
        if self.stored is None:
            return "not measured"
        tally = _page(*self.stored).tally
        return f"{tally}; not as the spec asks" if self.deviation else tally


def overview(entries: Sequence[Entry]) -> str:
    """Markdown: a table of all questions, then each with its answer and where to check it."""
    rows = []
    for entry in entries:
        run = entry.stored[1].name if entry.stored else format.NONE
        rows.append((entry.question, entry.outcome, entry.experiment, run))
    return document(
        [
            "# What was asked, and what was measured",
            table_markdown(Table.of(("question", "outcome", "experiment", "run"), rows)),
            *(part for entry in entries for part in _section(entry)),
        ]
    )


def _section(entry: Entry) -> list[str]:
    head = f"## {escaped(entry.question)}"
    if entry.stored is None:
        return [head, f"Not measured: {escaped(entry.problem)}."]
    if entry.deviation:
        head += f"\n\n**Not as the spec asks: {escaped(entry.deviation)}.**"
    page, (_, info) = _page(*entry.stored), entry.stored
    answer = matrix_markdown(page.matrix) if page.matrix.sentences else escaped(page.answer)
    measured = [fact.text for fact in page.facts if fact.prominent]
    facts = [entry.outcome, *measured, f"run {info.name}, started {info.started}"]
    answer = answer or "No answer is stored with this run."
    return [head, answer, f"*{escaped('; '.join(facts))}*"]
