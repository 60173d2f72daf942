"""``lab report``: a stored run, or one cell of it, in the form that is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from lab.capacity.runner import answers
from lab.cli.options import (
    json_option,
    print_json,
    print_text,
    refuse_together,
    results_option,
    style,
)
from lab.cli.stored import MAX_NAMES, by_part, report_of
from lab.errors import StoreError, UsageError
from lab.model.capacity import Standing, Threshold
from lab.model.run import CellResult, Summary
from lab.report import cell_details
from lab.store import RunFolder, find


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
def command(
    run: str, cell: str | None, markdown: bool, html: bool, results: Path, as_json: bool
) -> int | None:
    """Show a stored run.

    RUN is a folder, a name's unique prefix, or latest. Nothing is started. `lab run --help`
    says what the columns of the table mean.

    Exit code: 0; 4 where something stored of a cell is damaged, which is told beside the others.
    """
    refuse_together({"--html": html, "--markdown": markdown, "--json": as_json})
    refuse_together({"--cell": cell is not None, "--html": html, "--markdown": markdown})
    folder = find(results, run)
    if cell is not None:
        result = _find_cell(folder, cell)
        if as_json:
            print_json(result.model_dump(mode="json"))
        else:
            print_text(cell_details(result, style()))
        return None
    report = report_of(folder)
    report.tell_step()
    if markdown:
        print_text(report.markdown())
    elif html:
        print_text(report.html())
    else:
        report.show(as_json)
    return 4 if report.document.damaged else None


def _find_cell(folder: RunFolder, part: str) -> CellResult | Threshold | Standing:
    """The one cell whose id is, or else contains, ``part``."""
    results = _results(folder, part)
    exact = by_part(results, part) if part else []
    if len(exact) == 1:
        return exact[0]
    names = ", ".join(result.id for result in (exact or results)[:MAX_NAMES])
    if not results:
        raise UsageError(f"no cell of {folder.info.name} is finished", "`lab run --resume` goes on")
    if not exact:
        what = f"no finished cell of {folder.info.name} has '{part}' in its id"
        raise UsageError(what, f"write a part of one, as of {names}")
    what = f"'{part}' is part of {len(exact)} ids of {folder.info.name}"
    raise UsageError(what, f"write more of one, as of {names}")


def _results(folder: RunFolder, part: str) -> Sequence[CellResult | Threshold | Standing]:
    """The finished cells; of a search its answers, and what is known of the other cells so far, or
    the trials where no cell is meant.

    Raises:
        StoreError: what is meant is a cell of which something stored is damaged.
    """
    document = answers(folder) if folder.info.kind == "threshold" else folder.summary()
    for damaged in document.damaged:
        if part in damaged.id and not any(part in cell.id for cell in document.cells):
            raise StoreError(damaged.problem)
    if isinstance(document, Summary):
        trials = (trial for trial in folder.undeclared() if trial.finished())
        return [*document.cells, *(folder.result(trial.read_cell().id) for trial in trials)]
    cells = document.known
    if any(part in cell.id for cell in cells):
        return cells
    finished = (trial for trial in folder.undeclared() if trial.finished())
    return [folder.result(trial.read_cell().id) for trial in finished]
