"""``lab threshold``: at how many users each cell of a spec begins to fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import click

from lab.capacity import MAX_USERS, Search, longest
from lab.capacity.methods import EARLIER_METHOD, METHODS, USUAL_METHOD
from lab.capacity.runner import answers, find_thresholds, next_trial, stored_trials
from lab.cli import session
from lab.cli.options import (
    Number,
    Percent,
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
from lab.cli.session import Planned, SearchAsked
from lab.cli.stored import StoredReport, exit_code, report_of
from lab.cli.wiring import StackChoice, split_model
from lab.errors import Interrupted, UsageError
from lab.model.capacity import CapacityTrial, Thresholds, TrialRequest
from lab.model.experiment import Cell
from lab.model.run import SearchMethod
from lab.plan import estimate
from lab.report import LiveLine, news, standings
from lab.report.format import plural
from lab.report.plans import CellSearch, LongestSearch, NextTrial, PlannedSpeed, SearchPlan
from lab.runner import Lab
from lab.store import RunFolder, find
from lab.store.runs import THRESHOLDS

MIN_WIDTH, MAX_WIDTH = 0.01, 0.9
"""How wide an answer may be asked to be, as a share of the users."""

REMEDY = "leave it out, or start a new run"


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
    help="Stop a cell's search after so many real-world seconds of load, with the interval that "
    "it has then. Default: no limit.",
)
@click.option(
    "--within",
    type=Percent(MIN_WIDTH, MAX_WIDTH),
    metavar="SHARE",
    help="Stop at an interval of this width, as '20 %', which asks for less. Default: a tenth; "
    "2 users are narrow enough in any case.",
)
@click.option(
    "--method",
    type=click.Choice(list(METHODS)),
    help=f"{'; '.join(f'{name} {method.about}' for name, method in METHODS.items())}. "
    f"Default: {USUAL_METHOD}.",
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
    within: float | None,
    method: SearchMethod | None,
    dry_run: bool,
    resume: str | None,
    retries: int,
    results: Path,
    as_json: bool,
) -> int | None:
    """Find the users at which failures begin, for each cell of SPEC.

    The answer is an interval: the most users at whom a cell holds, and the fewest at whom it
    breaks. It is shown from the first trial on, and narrows: each cell has one trial first, then
    the cell whose interval is the widest goes on. Every trial is stored as it ends; Ctrl-C prints
    what is known by then, and --resume goes on.

    Exit code: 0 every threshold was found, an open end included; 4 one is undecided or invalid;
    130 interrupted.
    """
    stored = find(results, resume) if resume is not None else None
    overrides = session.Overrides(settings, preset, speed, max_speed=max_speed)
    [planned] = session.plan("threshold", [spec] if spec else [], overrides, stored)
    _refuse_swept_users(planned)
    asked = _asked(stored, max_users, max_load, method, within)
    for cell in planned.cells:
        _search(cell, asked)  # refuses what has no threshold, before anything is started
    if dry_run:
        at_speed = session.speeds_known(planned, stack, toxiproxy, stored)
        cells = [_cell_search(planned.run, cell, asked, at_speed) for cell in planned.cells]
        name = planned.experiment.experiment
        by = METHODS[asked.method]
        plan = SearchPlan(name, asked.max_users, by.trials, cells, planned.idle, usual=by.usual)
        print_json(plan.as_json()) if as_json else print_text(plan.text())
        return None
    if planned.run and (max_load or within):
        planned = replace(planned, run=planned.run.allowing(max_load, within))
    results = folder_of(stored.path if stored else None, results)
    choice = session.which_stack([planned], stack, toxiproxy, stored)
    report = _measure(planned, asked, choice, toxiproxy, results, as_json, retries)
    return exit_code(report.document)


def _refuse_swept_users(planned: Planned) -> None:
    """Cells that differ in their users alone have one threshold."""
    axis = planned.experiment.matrix.get("load", {})
    if isinstance(axis, dict) and any("users" in keys for keys in axis.values()):
        raise UsageError(
            f"{planned.file}: the axis 'load' sweeps the users, and so does a search",
            "take them out of the axis",
        )


def _asked(
    stored: RunFolder | None,
    max_users: int | None,
    max_load: float | None,
    method: SearchMethod | None,
    within: float | None,
) -> SearchAsked:
    """How to search: a continued run by its own method, and as high as it was to go.

    Raises:
        UsageError: another of either is asked for.
    """
    info = stored.info if stored else None
    begun = info.max_users if info else None
    if info and begun and max_users not in (None, begun):
        raise UsageError(
            f"{info.name} searches up to {begun} users, so --most-users {max_users} cannot"
            " continue it",
            REMEDY,
        )
    by = (info.method or EARLIER_METHOD) if info else (method or USUAL_METHOD)
    if info and method not in (None, by):
        raise UsageError(
            f"{info.name} is searched by method {by}, so --method {method} cannot continue it",
            REMEDY,
        )
    return SearchAsked(
        max_users=begun or max_users or MAX_USERS,
        max_load=max_load or (info.max_load if info else None),
        method=by,
        within=within or (info.within if info else None),
    )


def _search(cell: Cell, asked: SearchAsked) -> Search:
    """The search of a cell, as it is asked for.

    Raises:
        UsageError: the cell has no threshold.
    """
    return METHODS[asked.method].make(cell, asked.max_users, asked.max_load, asked.within)


def _measure(
    planned: Planned,
    asked: SearchAsked,
    choice: StackChoice,
    toxiproxy: str,
    results: Path,
    as_json: bool,
    retries: int,
) -> StoredReport:
    """Search, with each trial on a line as it comes and how far each cell is; store the report and
    show it, of a search that is interrupted too."""
    with session.replica([planned], choice, toxiproxy, results) as (stack, reason):
        for note in planned.idle:
            print_message(note)
        run = planned.run or session.new_run(planned, stack, reason, results, "threshold", asked)
        kept = _describe_stored
        try:
            with session.measuring("threshold", run, stack, kept, retries) as (lab, live):
                report = _search_all(lab, run, planned.cells, live)
        except Interrupted:
            _known(run).show(as_json)
            raise
        report.show(as_json)
    return report


def _search_all(lab: Lab, run: RunFolder, cells: Sequence[Cell], live: LiveLine) -> StoredReport:
    """The answers, stored with their pages; so is what is known of a search that is interrupted."""

    def show(trial: CapacityTrial | None, so_far: Thresholds) -> None:
        """The trial that ended on a line that stays, and how far each cell is."""
        if trial:
            live.print(news(trial))
        live.show_standings(standings(so_far))

    try:
        found = find_thresholds(lab, run, cells, show)
    except KeyboardInterrupt:
        _known(run).store()
        raise
    report = StoredReport(run, found, THRESHOLDS)
    report.store()
    return report


def _known(run: RunFolder) -> StoredReport:
    """What the last trial that ended left known, as it is stored; nothing is worked out anew."""
    thresholds = run.read_thresholds()
    return StoredReport(run, thresholds, THRESHOLDS) if thresholds else report_of(run)


def _describe_stored(run: RunFolder) -> str:
    known = run.read_thresholds() or answers(run)
    trials = sum(len(cell.trials) for cell in known.known)
    return (
        f"{plural(trials, 'trial')} and the thresholds of"
        f" {len(known.cells)} of {len(run.info.cells)} cells are kept"
    )


def _cell_search(
    run: RunFolder | None, cell: Cell, asked: SearchAsked, at_speed: Callable[[Cell], Cell]
) -> CellSearch:
    """What a cell's search would do next, and for how long it may go on."""
    search, trials = _search(cell, asked), stored_trials(run, cell) if run else ()
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
