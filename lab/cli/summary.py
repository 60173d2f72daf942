"""``lab summary``: the answers of many stored runs on one page; nothing is started."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import click

from lab import store
from lab.cli.options import (
    SpecName,
    check_writable,
    find_spec,
    known_faults,
    print_message,
    print_text,
    results_option,
)
from lab.cli.stored import exit_code, report_of
from lab.config import read_experiment
from lab.errors import LabError, UsageError
from lab.files import Folder
from lab.model.experiment import Cell, Experiment
from lab.model.run import StoredRun
from lab.plan import expand
from lab.report import Entry, overview
from lab.store.runs import differences

PAGE = "summary.md"
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_STAMP = "%Y%m%dT%H%M%SZ"  # a run's name begins with it


@click.command()
@click.argument("specs", nargs=-1, type=SpecName(), metavar="SPEC...")
@click.option(
    "--since",
    type=click.DateTime([_TIME]),
    metavar="TIME",
    help="Leave out runs that started before; UTC, as 2026-11-24T08:15:00Z.",
)
@results_option
def command(specs: tuple[Path, ...], since: datetime | None, results: Path) -> int:
    """Write one page of all answers.

    Each SPEC is answered by its latest stored run; where that was made with other settings than
    the spec's (--set, --preset, a spec that has changed), the page says so. The page is
    summary.md among the results, and is printed too; nothing is started.

    Exit code: 0 every question was measured; 4 one was not, or a cell of it is undecided,
    invalid or damaged.
    """
    if not specs:
        raise UsageError("no spec is given", "write one, as `lab summary experiments/phase-*.yaml`")
    faults = known_faults()
    experiments = [read_experiment(find_spec(file), faults) for file in specs]
    first = since.strftime(_STAMP) if since else ""
    runs = [run for run in store.runs(results) if run.name >= first]
    entries = [_entry(results, spec, expand(spec, faults), runs) for spec in experiments]
    page = overview(entries)
    check_writable(results)
    Folder(results).write(PAGE, [page.encode()])
    print_text(page)
    print_message(f"stored in {results / PAGE}")
    return max(exit_code(entry.stored[0]) if entry.stored else 4 for entry in entries)


def _entry(
    results: Path, experiment: Experiment, cells: Sequence[Cell], runs: Sequence[StoredRun]
) -> Entry:
    """A spec's latest run; one that cannot be read is not passed over for an older one."""
    entry = Entry(experiment.experiment, experiment.about)
    names = [run.name for run in runs if _is_of(run, experiment.experiment)]
    if not names:
        return entry
    try:
        run = store.find(results, names[-1])
        deviation = _deviation(run.cells(), cells)
        return replace(entry, stored=(report_of(run).document, run.info), deviation=deviation)
    except LabError as error:
        return replace(entry, problem=str(error))


def _deviation(measured: Sequence[Cell], asked: Sequence[Cell]) -> str:
    """In what a run's cells differ from those of the spec as it is now, whatever their speed."""
    before, after = (
        [cell.at_speed(1).model_copy(update={"auto_speed": False}) for cell in side]
        for side in (measured, asked)
    )
    return differences(before, after) if store.digest(before) != store.digest(after) else ""


def _is_of(run: StoredRun, experiment: str) -> bool:
    """Whether it is a run of this spec; one that cannot be read is known by its name alone."""
    name = rf"\w+-{re.escape(experiment)}-[0-9a-f]{{8}}(-\d+)?"
    return run.experiment == experiment or bool(run.problem and re.fullmatch(name, run.name))
