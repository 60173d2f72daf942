"""``lab compare``: two stored runs beside each other; a regression test for CI."""

from __future__ import annotations

from pathlib import Path

import click

from lab.cli.options import (
    json_option,
    print_json,
    print_text,
    refuse_together,
    results_option,
    style,
)
from lab.cli.step import append_summary
from lab.errors import UsageError
from lab.judge.run_comparison import FinishedCell, FinishedRun, compare_runs
from lab.model.run_comparison import RunComparison
from lab.report import comparison_html, comparison_markdown, comparison_text
from lab.report.format import plural
from lab.store import RunFolder, find


@click.command()
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@click.option(
    "--anyway",
    is_flag=True,
    help="Compare them though their machine, stack, versions, files or speeds differ.",
)
@click.option("--gate", is_flag=True, help="Exit with 1 if something got certainly worse.")
@click.option("--markdown", is_flag=True, help="Print Markdown.")
@click.option("--html", is_flag=True, help="Print an HTML page.")
@results_option
@json_option
def command(
    before: str,
    after: str,
    anyway: bool,
    gate: bool,
    markdown: bool,
    html: bool,
    results: Path,
    as_json: bool,
) -> int:
    """Show a run B beside an earlier run A.

    A and B are folders, names' unique prefixes, or latest. Cells are matched by their settings: by
    all that varies within A or within B. What is the same in all cells of each, and differs between
    the two, is what is compared. Nothing is started.

    Each interval is so wide that all of them hold together with 95 %; what is told as worse or
    better is outside it, and beyond 5 %, of shares beyond 1 %. A criterion on a percentile, or on
    the share that failed, that was met for certain and is missed for certain is worse, too.

    Exit code: 0 everything was compared; 1 something got certainly worse and --gate is given; 4
    something could not be compared: a pair of cells, or a cell that only one of them has.
    """
    refuse_together({"--html": html, "--markdown": markdown, "--json": as_json})
    first, second = find(results, before), find(results, after)
    told = comparison_of(first, second, anyway=anyway)
    append_summary(comparison_markdown(told, whole=False))
    if as_json:
        print_json(told.model_dump(mode="json"))
    elif markdown:
        print_text(comparison_markdown(told))
    elif html:
        print_text(comparison_html(told))
    else:
        print_text(comparison_text(told, style()))
    if gate and told.worse:
        return 1
    return 4 if told.open else 0


def comparison_of(before: RunFolder, after: RunFolder, *, anyway: bool = False) -> RunComparison:
    """A stored run beside an earlier one.

    Raises:
        UsageError: they are one run, a search for thresholds, or have no cell in common.
        StoreError: one cannot be read.
    """
    if before.path.resolve() == after.path.resolve():
        raise UsageError(f"{after.info.name} is given twice", "`lab runs` lists the others")
    runs = [_finished(folder) for folder in (before, after)]
    told = compare_runs(*runs, anyway=anyway)
    if not told.cells:
        raise UsageError(*_nothing_in_common(*runs))
    return told


def _finished(folder: RunFolder) -> FinishedRun:
    """A run's cells with what came of them.

    Raises:
        UsageError: it has none that could be compared.
    """
    name = folder.info.name
    if folder.info.kind == "threshold":
        what = f"{name} is a search for thresholds, whose trials have no partners"
        raise UsageError(what, f"compare runs of `lab run`; `lab report {name}` shows its answer")
    summary = folder.summary()
    if not summary.cells:
        damaged = f", and {plural(len(summary.damaged), 'cell')} damaged" if summary.damaged else ""
        what = f"no cell of {name} is finished{damaged}"
        raise UsageError(what, f"`lab run --resume {name}` goes on")
    return FinishedRun(
        info=folder.info,
        cells=[FinishedCell(folder.cell(one.id).read_cell(), one) for one in summary.cells],
        missing=summary.missing,
        damaged=summary.damaged,
    )


def _nothing_in_common(before: FinishedRun, after: FinishedRun) -> tuple[str, str]:
    """What is wrong with two runs of which no cell has the other's settings, and the remedy."""
    names = [
        ", ".join(dict.fromkeys(axis for one in run.cells for axis in one.cell.axes)) or "nothing"
        for run in (before, after)
    ]
    what = f"{before.info.name} and {after.info.name} have no cell in common"
    return (
        f"{what}: the cells of the one differ by {names[0]}, of the other by {names[1]}",
        "compare two runs of one spec, as before and after a change",
    )
