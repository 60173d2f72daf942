"""``lab judge``, ``report``, ``runs``: from stored files alone; nothing is started."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from lab.capacity.runner import answers, trial_folders, write_answers
from lab.cli.options import json_option, print_json, results_option, style
from lab.errors import UsageError
from lab.model.capacity import Threshold, Thresholds
from lab.model.run import CellResult, Summary, as_json
from lab.model.verdict import Outcome
from lab.report import (
    Style,
    answered,
    cell_details,
    end_table,
    html_report,
    markdown_report,
    tables,
)
from lab.runner import judge_cell
from lab.store import RunFolder, find
from lab.store import runs as stored_runs
from lab.store.runs import SUMMARY, THRESHOLDS


def exit_code(summaries: list[Summary], gate: bool) -> int:
    """4 where a cell is undecided, invalid or missing; 1 where one broke under gate; else 0."""
    outcomes = {cell.verdict for summary in summaries for cell in summary.cells}
    if outcomes & {Outcome.UNDECIDED, Outcome.INVALID} or any(s.missing for s in summaries):
        return 4
    return 1 if gate and Outcome.BROKE in outcomes else 0


def threshold_code(found: Thresholds) -> int:
    """4 where a threshold is undecided, invalid or missing; else 0: an open end is an answer."""
    return 4 if found.missing or any(cell.outcome != "found" for cell in found.cells) else 0


@dataclass(frozen=True)
class Told:
    """A stored run in every form that it can be told in; ``file`` holds its document."""

    run: RunFolder
    document: Summary | Thresholds
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
            sys.stdout.write(as_json(self.document))
        else:
            click.echo(self.text(style()))

    def store(self) -> None:
        """Store the run's document, with its answer, and its pages beside it."""
        self.run.write_text(self.file, as_json(self.document))
        self.run.write_text("report.html", self.html())
        self.run.write_text("report.md", self.markdown())


def told(run: RunFolder) -> Told:
    """A stored run, of cells or of thresholds."""
    info = run.info
    if info.kind == "run":
        return Told(run, answered(run.summary(), info.experiment.answers), SUMMARY)
    return Told(run, answers(run), THRESHOLDS)


@click.command()
@click.argument("run", metavar="RUN")
@click.option("--gate", is_flag=True, help="Exit with 1 if a cell broke.")
@results_option
@json_option
def judge(run: str, gate: bool, results: Path, as_json: bool) -> int:
    """Judge a stored run anew.

    RUN is a folder, a name's unique prefix, or latest. Nothing is started.
    """
    folder = find(results, run)
    with folder.lock():
        if folder.info.kind == "run":
            code = _judge_cells(folder, gate)
        elif gate:
            raise UsageError("a search for thresholds has no gate", "leave --gate out")
        else:
            code = _judge_trials(folder)
        anew = told(folder)
        anew.store()
    anew.show(as_json)
    return code


def _judge_cells(folder: RunFolder, gate: bool) -> int:
    for cell_id in folder.info.cells:
        if folder.cell(cell_id).observed():
            judge_cell(folder.cell(cell_id))
    return exit_code([folder.write_summary()], gate)


def _judge_trials(folder: RunFolder) -> int:
    for trial in trial_folders(folder):
        if trial.observed():
            judge_cell(trial)
    return threshold_code(write_answers(folder))


@click.command()
@click.argument("run", metavar="RUN")
@click.option(
    "--cell",
    metavar="ID",
    help="All that is known of this cell or trial; a unique part of its id is enough.",
)
@click.option("--markdown", is_flag=True, help="Print Markdown.")
@click.option("--html", is_flag=True, help="Print the HTML page.")
@results_option
@json_option
def report(
    run: str, cell: str | None, markdown: bool, html: bool, results: Path, as_json: bool
) -> None:
    """Show a stored run.

    RUN is a folder, a name's unique prefix, or latest. Nothing is started.
    """
    folder = find(results, run)
    if cell is not None:
        _show_cell(folder, cell, as_json)
    elif markdown:
        click.echo(told(folder).markdown(), nl=False)
    elif html:
        click.echo(told(folder).html(), nl=False)
    else:
        told(folder).show(as_json)


def _show_cell(folder: RunFolder, asked: str, as_json: bool) -> None:
    one = _one_of(_parts(folder, asked), asked, folder.info.name)
    if as_json:
        print_json(one.model_dump(mode="json"))
    else:
        click.echo(cell_details(one, style()))


def _parts(folder: RunFolder, asked: str) -> Sequence[CellResult | Threshold]:
    """The finished cells; of a search the answers, or the trials where no cell is meant."""
    if folder.info.kind == "run":
        return folder.summary().cells
    cells = answers(folder).cells
    if any(asked in cell.id for cell in cells):
        return cells
    finished = (trial for trial in trial_folders(folder) if trial.finished())
    return [folder.result(trial.read_cell().id) for trial in finished]


def _one_of(
    parts: Sequence[CellResult | Threshold], asked: str, run: str
) -> CellResult | Threshold:
    matching = [each for each in parts if asked in each.id]
    exact = [each for each in matching if each.id == asked] or matching
    if len(exact) != 1:
        names = ", ".join(each.id for each in (exact or parts)[:4])
        raise UsageError(f"'{asked}' means {len(exact)} cells of {run}", names)
    return exact[0]


@click.command()
@results_option
@json_option
def runs(results: Path, as_json: bool) -> None:
    """List the stored runs."""
    found = stored_runs(results)
    print_json(tables.runs_data(found)) if as_json else click.echo(tables.runs_text(found, style()))


COMMANDS = (judge, report, runs)
