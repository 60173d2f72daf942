"""``lab judge``: a stored run, judged anew from its evidence."""

from __future__ import annotations

from pathlib import Path

import click

from lab.capacity.runner import trial_folders
from lab.cli.options import json_option, results_option
from lab.cli.stored import exit_code, report_of
from lab.errors import UsageError
from lab.runner import judge_cell
from lab.store import find


@click.command()
@click.argument("run", metavar="RUN")
@click.option("--gate", is_flag=True, help="Exit with 1 if a cell broke.")
@results_option
@json_option
def command(run: str, gate: bool, results: Path, as_json: bool) -> int:
    """Judge a stored run anew.

    RUN is a folder, a name's unique prefix, or latest. Nothing is started.
    """
    folder = find(results, run)
    with folder.lock():
        if folder.info.kind == "threshold":
            if gate:
                raise UsageError("a search for thresholds has no gate", "leave --gate out")
            cells = trial_folders(folder)
        else:
            cells = [folder.cell(cell_id) for cell_id in folder.info.cells]
        for cell in cells:
            if cell.observed():
                judge_cell(cell)
        report = report_of(folder)
        report.store()
    report.show(as_json)
    return exit_code(report.document, gate)
