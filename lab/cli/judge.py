"""``lab judge``: a stored run, judged anew from its evidence."""

from __future__ import annotations

from pathlib import Path

import click

from lab.cli.options import json_option, results_option
from lab.cli.stored import exit_code, report_of, tell_foreign
from lab.errors import LabError, UsageError
from lab.model.run import DamagedCell
from lab.runner import judge_cell
from lab.store import CellFolder, find

NO_GATE = {"threshold": "a search for thresholds", "why": "a diagnosis"}


@click.command()
@click.argument("run", metavar="RUN")
@click.option("--gate", is_flag=True, help="Exit with 1 if a cell broke.")
@results_option
@json_option
def command(run: str, gate: bool, results: Path, as_json: bool) -> int:
    """Judge a stored run anew.

    RUN is a folder, a name's unique prefix, or latest. Nothing is started.

    Exit code: as of `lab run`; 4 also where something stored of a cell is damaged.
    """
    folder = find(results, run)
    with folder.lock():
        if gate and folder.info.kind != "run":
            raise UsageError(f"{NO_GATE[folder.info.kind]} has no gate", "leave --gate out")
        cells = {trial.id: trial for trial in folder.undeclared()}
        if folder.info.kind != "threshold":
            cells |= {cell_id: folder.cell(cell_id) for cell_id in folder.info.cells}
        problems = {cell_id: _judge(cell) for cell_id, cell in cells.items()}
        damaged = [DamagedCell(id=name, problem=text) for name, text in problems.items() if text]
        report = report_of(folder, damaged)
        report.store()
        tell_foreign(folder)
    report.show(as_json)
    return exit_code(report.document, gate)


def _judge(cell: CellFolder) -> str:
    """Judge a cell that can be judged; what is damaged of it, if anything."""
    try:
        cell.check_whole()
        if cell.observed():
            judge_cell(cell)
    except LabError as error:
        return str(error)
    return ""
