"""``lab judge``, ``report``, ``runs``: from stored files alone; nothing is started."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from lab.cli.options import json_option, print_json, results_option, style
from lab.errors import UsageError
from lab.model.run import Summary, as_json
from lab.model.verdict import Outcome
from lab.report import cell_details, end_table, html_report, markdown_report, tables
from lab.runner import judge_cell
from lab.store import RunFolder, find
from lab.store import runs as stored_runs


def exit_code(summaries: list[Summary], gate: bool) -> int:
    """4 where a cell is undecided, invalid or missing; 1 where one broke under gate; else 0."""
    outcomes = {cell.verdict for summary in summaries for cell in summary.cells}
    if outcomes & {Outcome.UNDECIDED, Outcome.INVALID} or any(s.missing for s in summaries):
        return 4
    return 1 if gate and Outcome.BROKE in outcomes else 0


def write_reports(run: RunFolder, summary: Summary) -> None:
    """Store the run's pages beside its summary."""
    run.write_text("report.html", html_report(summary, run.info))
    run.write_text("report.md", markdown_report(summary, run.info))


def show(run: RunFolder, summary: Summary, json_form: bool) -> None:
    """Print a run: the end table, or its summary.json exactly."""
    if json_form:
        sys.stdout.write(as_json(summary))
    else:
        click.echo(end_table(summary, run.info, run.path, style()))


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
        for cell_id in folder.info.cells:
            if folder.cell(cell_id).observed():
                judge_cell(folder.cell(cell_id))
        summary = folder.write_summary()
        write_reports(folder, summary)
    show(folder, summary, as_json)
    return exit_code([summary], gate)


@click.command()
@click.argument("run", metavar="RUN")
@click.option(
    "--cell",
    metavar="ID",
    help="All that is known of this cell; a unique part of its id is enough.",
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
    summary = folder.summary()
    if cell is not None:
        matching = [each for each in summary.cells if cell in each.id]
        exact = [each for each in matching if each.id == cell] or matching
        if len(exact) != 1:
            names = ", ".join(each.id for each in (exact or summary.cells)[:4])
            raise UsageError(f"'{cell}' means {len(exact)} cells of {folder.info.name}", names)
        if as_json:
            print_json(exact[0].model_dump(mode="json"))
        else:
            click.echo(cell_details(exact[0], style()))
    elif markdown:
        click.echo(markdown_report(summary, folder.info), nl=False)
    elif html:
        click.echo(html_report(summary, folder.info), nl=False)
    else:
        show(folder, summary, as_json)


@click.command()
@results_option
@json_option
def runs(results: Path, as_json: bool) -> None:
    """List the stored runs."""
    found = stored_runs(results)
    print_json(tables.runs_data(found)) if as_json else click.echo(tables.runs_text(found, style()))


COMMANDS = (judge, report, runs)
