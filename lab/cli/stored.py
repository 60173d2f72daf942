"""A stored run as its commands show and store it, and the exit code that it means."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import click

from lab.capacity.runner import answers
from lab.cli.options import style
from lab.model.capacity import Thresholds
from lab.model.run import Summary, as_json
from lab.model.verdict import Outcome
from lab.report import (
    Style,
    answered,
    end_table,
    html_report,
    markdown_report,
    thresholds_html,
    thresholds_markdown,
    thresholds_text,
)
from lab.store import RunFolder
from lab.store.runs import SUMMARY, THRESHOLDS


def is_search(run: RunFolder) -> bool:
    """Whether it is a search for thresholds; else each of its cells is measured once."""
    return run.info.most_users is not None


def exit_code(document: Summary | Thresholds, gate: bool = False) -> int:
    """4 where something is undecided, invalid or missing; 1 where a cell broke under gate; else 0.

    Of several runs the greatest counts. A threshold with an open end is an answer.
    """
    if isinstance(document, Thresholds):
        decided = all(cell.outcome == "found" for cell in document.cells)
        return 0 if decided and not document.missing else 4
    outcomes = {cell.verdict for cell in document.cells}
    if document.missing or outcomes & {Outcome.UNDECIDED, Outcome.INVALID}:
        return 4
    return 1 if gate and Outcome.BROKE in outcomes else 0


@dataclass(frozen=True)
class StoredReport:
    """A stored run in each of its forms; ``file`` is the name of its document."""

    run: RunFolder
    document: Summary | Thresholds
    file: str
    text: Callable[[Style], str]
    markdown: Callable[[], str]
    html: Callable[[], str]

    def show(self, json_form: bool = False) -> None:
        """Print the run: for a terminal, or its document exactly."""
        if json_form:
            sys.stdout.write(as_json(self.document))
        else:
            click.echo(self.text(style()))

    def store(self) -> None:
        """Store the run's document, with its answer, and its pages beside it."""
        self.run.write_text(self.file, as_json(self.document))
        self.run.write_text("report.html", self.html())
        self.run.write_text("report.md", self.markdown())


def report_of(run: RunFolder) -> StoredReport:
    """The report of a stored run, worked out from its cells or trials.

    Raises:
        StoreError: it cannot be read, or is damaged.
    """
    info = run.info
    if is_search(run):
        thresholds = answers(run)
        return StoredReport(
            run,
            thresholds,
            THRESHOLDS,
            lambda style: thresholds_text(thresholds, info, run.path, style),
            lambda: thresholds_markdown(thresholds, info),
            lambda: thresholds_html(thresholds, info),
        )
    summary = answered(run.summary(), info.experiment.answers)
    return StoredReport(
        run,
        summary,
        SUMMARY,
        lambda style: end_table(summary, info, run.path, style),
        lambda: markdown_report(summary, info),
        lambda: html_report(summary, info),
    )
