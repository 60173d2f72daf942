"""``lab threshold``: at how many users each cell of a spec begins to fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click

from lab.capacity import MAX_USERS, USUAL_TRIALS, longest, search_for
from lab.capacity.runner import answers, find_thresholds, next_trial, stored_trials
from lab.cli import session
from lab.cli.options import (
    Number,
    SpecName,
    Whole,
    folder_of,
    json_option,
    paced_options,
    print_json,
    print_message,
    print_text,
    results_option,
    retries_option,
    stack_options,
)
from lab.cli.session import Planned
from lab.cli.stored import StoredReport, exit_code, report_of
from lab.cli.wiring import StackChoice, split_model
from lab.errors import UsageError
from lab.model.capacity import TrialRequest
from lab.model.experiment import Cell
from lab.plan import estimate
from lab.report import news
from lab.report.format import plural
from lab.report.plans import CellSearch, LongestSearch, NextTrial, PlannedSpeed, SearchPlan
from lab.store import RunFolder, find


@click.command()
@click.argument("spec", required=False, type=SpecName(), metavar="[SPEC]")
@paced_options
@stack_options
@click.option(
    "--most-users",
    "max_users",
    type=Whole(1, 5000),
    help=f"Search no higher. Default: {MAX_USERS}.",
)
@click.option(
    "--most-load",
    "max_load",
    type=Number(1, 10**7),
    metavar="SECONDS",
    help="Give up a cell, as undecided, after so many real-world seconds of load. "
    "Default: no limit.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Print each cell's next trial and how long a search takes; start nothing.",
)
@click.option(
    "--resume",
    metavar="RUN",
    help="Continue a stored search: a folder, a name's unique prefix, or latest.",
)
@retries_option
@results_option
@json_option
def command(
    spec: Path | None,
    settings: tuple[str, ...],
    preset: str | None,
    speed: float | str | None,
    max_speed: float | None,
    stack: str,
    toxiproxy: str,
    max_users: int | None,
    max_load: float | None,
    dry_run: bool,
    resume: str | None,
    retries: int,
    results: Path,
    as_json: bool,
) -> int | None:
    """Find the users at which failures begin, for each cell of SPEC.

    The answer is an interval: the most users at whom a cell certainly holds, and the fewest
    at whom it certainly breaks. Every trial is stored as it ends.

    Exit code: 0 every threshold was found, an open end included; 4 one is undecided or invalid.
    """
    stored = find(results, resume) if resume is not None else None
    overrides = session.Overrides(settings, preset, speed, max_speed=max_speed)
    [planned] = session.plan("threshold", [spec] if spec else [], overrides, stored)
    _refuse_swept_users(planned)
    max_users = _max_users(max_users, stored)
    for cell in planned.cells:
        search_for(cell, max_users)  # refuses what has no threshold, before anything is started
    if dry_run:
        at_speed = session.speeds_known(planned, stack, toxiproxy, stored)
        cells = [_cell_search(planned.run, cell, max_users, at_speed) for cell in planned.cells]
        name = planned.experiment.experiment
        plan = SearchPlan(name, max_users, USUAL_TRIALS, cells, planned.idle)
        print_json(plan.as_json()) if as_json else print_text(plan.text())
        return None
    if planned.run and max_load:
        planned = replace(planned, run=planned.run.allowing(max_load))
    results = folder_of(stored.path if stored else None, results)
    choice = session.which_stack([planned], stack, toxiproxy, stored)
    limits = max_users, max_load
    report = _measure(planned, limits, choice, toxiproxy, results, as_json, retries)
    return exit_code(report.document)


def _refuse_swept_users(planned: Planned) -> None:
    """Cells that differ in their users alone have one threshold."""
    axis = planned.experiment.matrix.get("load", {})
    if isinstance(axis, dict) and any("users" in keys for keys in axis.values()):
        raise UsageError(
            f"{planned.file}: the axis 'load' sweeps the users, and so does a search",
            "take them out of the axis",
        )


def _max_users(asked: int | None, stored: RunFolder | None) -> int:
    """How high to search: a continued run goes as high as it was to go."""
    begun = stored.info.max_users if stored else None
    if stored and begun and asked not in (None, begun):
        raise UsageError(
            f"{stored.info.name} searches up to {begun} users, so --most-users {asked} cannot"
            " continue it",
            "leave it out, or start a new run",
        )
    return begun or asked or MAX_USERS


def _measure(
    planned: Planned,
    limits: tuple[int, float | None],
    choice: StackChoice,
    toxiproxy: str,
    results: Path,
    as_json: bool,
    retries: int,
) -> StoredReport:
    """Search, with each trial and each answer on a line as it comes; store and show the report."""
    with session.replica([planned], choice, toxiproxy, results) as (stack, reason):
        for note in planned.idle:
            print_message(note)
        run = planned.run or session.new_run(planned, stack, reason, results, "threshold", *limits)
        kept = _describe_stored
        with session.measuring("threshold", run, stack, kept, retries) as (lab, live):
            find_thresholds(lab, run, planned.cells, lambda step: live.print(news(step)))
            report = report_of(run)
            report.store()
        report.show(as_json)
    return report


def _describe_stored(run: RunFolder) -> str:
    trials = sum(len(stored_trials(run, cell)) for cell in run.cells())
    return (
        f"{plural(trials, 'trial')} and the thresholds of"
        f" {len(answers(run).cells)} of {len(run.info.cells)} cells are kept"
    )


def _cell_search(
    run: RunFolder | None, cell: Cell, max_users: int, at_speed: Callable[[Cell], Cell]
) -> CellSearch:
    """What a cell's search would do next, and for how long it may go on."""
    search, trials = search_for(cell, max_users), stored_trials(run, cell) if run else ()
    step = search.next(cell.id, trials)
    if not isinstance(step, TrialRequest):
        return CellSearch(cell.id, len(trials))
    trial = at_speed(next_trial(cell, step, trials))
    max_trials = search.max_trials_in_all
    longest_s = round(max_trials * estimate([at_speed(longest(cell, search))], split_model()))
    return CellSearch(
        cell.id,
        len(trials),
        NextTrial(
            step.users,
            step.window,
            round(estimate([trial], split_model())),
            PlannedSpeed.of(trial).text(),
        ),
        LongestSearch(max_trials, longest_s),
    )
