"""The report of a stored run: shown, stored, and its exit code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from lab.capacity.runner import answers
from lab.cli.options import print_json, print_message, print_text, style
from lab.cli.step import append_summary
from lab.diagnosis.remedy import unsettled
from lab.diagnosis.runner import answers as diagnoses
from lab.errors import UsageError
from lab.judge import compared
from lab.model.capacity import Thresholds
from lab.model.diagnosis import Diagnoses
from lab.model.run import DamagedCell, as_json
from lab.model.verdict import Outcome
from lab.report import (
    Document,
    Style,
    answered,
    end_table,
    html_report,
    markdown_report,
    step_summary,
)
from lab.store import RunFolder
from lab.store.runs import DIAGNOSES, SUMMARY, THRESHOLDS

OPEN = {"undecided", "invalid"}

MAX_NAMES = 4
"""So many cells are named where several, or none, are meant."""

MAX_FOREIGN = 4
"""So many things that are somebody else's are named."""


def exit_code(document: Document, gate: bool = False) -> int:
    """4 where something is undecided, invalid, missing or damaged; 1 where a cell broke under gate.

    Otherwise 0.

    Of several runs the greatest counts. A threshold with an open end is an answer.
    """
    if isinstance(document, Thresholds):
        decided = all(cell.outcome == "found" for cell in document.cells)
        return 0 if decided and not (document.missing or document.damaged) else 4
    if isinstance(document, Diagnoses):
        told: list[str] = [cell.outcome for cell in document.cells]
        told += [
            "undecided" if unsettled(remedy) else remedy.outcome for remedy in document.remedies
        ]
        return 0 if OPEN.isdisjoint(told) and not (document.missing or document.damaged) else 4
    outcomes = {cell.verdict for cell in document.cells}
    open_ends = document.missing or document.damaged
    if open_ends or outcomes & {Outcome.UNDECIDED, Outcome.INVALID}:
        return 4
    return 1 if gate and Outcome.BROKE in outcomes else 0


@dataclass(frozen=True)
class StoredReport:
    """A stored run in each of its forms; ``file`` is the name of its document."""

    run: RunFolder
    document: Document
    file: str

    def text(self, style: Style) -> str:
        """For a terminal."""
        return end_table(self.document, self.run.info, self.run.path, style)

    def markdown(self) -> str:
        """As one Markdown document."""
        return markdown_report(self.document, self.run.info)

    def html(self) -> str:
        """As one HTML document."""
        return html_report(self.document, self.run.info)

    def show(self, json_form: bool = False) -> None:
        """Print the run: for a terminal, or its document exactly."""
        if json_form:
            print_json(self.document.model_dump(mode="json"))
        else:
            print_text(self.text(style()))

    def tell_step(self) -> None:
        """Append the answer to the summary of the step of CI that this is, if it is one."""
        append_summary(step_summary(self.document, self.run.info))

    def store(self) -> None:
        """Store the run's document, with its answer, and its pages beside it."""
        self.run.write_text(self.file, as_json(self.document))
        self.run.write_text("report.html", self.html())
        self.run.write_text("report.md", self.markdown())


def report_of(run: RunFolder, damaged: Sequence[DamagedCell] = ()) -> StoredReport:
    """The report of a stored run, worked out from its cells or trials.

    One of which something stored is damaged is told apart, and keeps no other from being reported.

    Args:
        run: which.
        damaged: cells or trials that are known to be damaged, whatever their verdicts say.

    Raises:
        UsageError: it is a diagnosis of no cell.
        StoreError: the run itself cannot be read, or is damaged.
    """
    if run.info.kind == "why":
        if not run.info.cells:
            what = f"{run.info.name} is a diagnosis of no cell"
            raise UsageError(what, "begin another, as `lab why workers-x-pool`")
        return StoredReport(run, diagnoses(run, damaged), DIAGNOSES)
    if run.info.kind == "run":
        summary = answered(compared(run.summary(damaged)), run.info.experiment.answers)
        return StoredReport(run, summary, SUMMARY)
    return StoredReport(run, answers(run, damaged), THRESHOLDS)


class Named(Protocol):
    """What has an id."""

    @property
    def id(self) -> str:
        """By which people name it."""
        ...


Item = TypeVar("Item", bound=Named)


def by_part(found: Sequence[Item], part: str) -> list[Item]:
    """Those whose id is ``part``; else those whose id contains it."""
    matching = [one for one in found if part in one.id]
    return [one for one in matching if one.id == part] or matching


def tell_foreign(run: RunFolder) -> None:
    """Say what is in a run folder that the lab did not write, and leaves as it is.

    Raises:
        StoreError: the folder cannot be read.
    """
    foreign = [str(path.relative_to(run.path)) for path in run.foreign()]
    if foreign:
        more = f" and {len(foreign) - MAX_FOREIGN} more" if len(foreign) > MAX_FOREIGN else ""
        names = ", ".join(foreign[:MAX_FOREIGN]) + more
        print_message(f"left as it is in {run.path}, because the lab did not write it: {names}")
