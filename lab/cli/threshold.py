"""``lab threshold``: at how many users each cell of a spec begins to fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from lab.capacity import MAX_USERS, USUAL_TRIALS, longest, search_for
from lab.capacity.runner import News, answers, find_thresholds, next_trial, stored_trials
from lab.cli import session
from lab.cli.options import (
    json_option,
    most_speed_option,
    print_json,
    results_option,
    settings_options,
    stack_options,
)
from lab.cli.session import Planned
from lab.cli.stored import threshold_code, told
from lab.errors import UsageError
from lab.model.capacity import CapacityTrial, Thresholds, TrialRequest
from lab.model.experiment import Cell
from lab.model.units import format_duration
from lab.plan import estimate
from lab.report import news, sentence
from lab.report.format import clock, plural
from lab.store import RunFolder, find


@click.command()
@click.argument("spec", required=False, type=click.Path(path_type=Path), metavar="[SPEC]")
@settings_options
@most_speed_option
@stack_options
@click.option(
    "--most-users",
    type=click.IntRange(1, 5000),
    help=f"Search no higher. Default: {MAX_USERS}.",
)
@click.option(
    "--most-load",
    type=click.FloatRange(1),
    metavar="SECONDS",
    help="Real-world seconds of load for each cell: then it is undecided. Default: no limit.",
)
@click.option(
    "--dry-run", is_flag=True, help="Print each cell's next trial and how long a search takes."
)
@click.option("--resume", metavar="RUN", help="Continue a stored search.")
@results_option
@json_option
def threshold(
    spec: Path | None,
    settings: tuple[str, ...],
    preset: str | None,
    speed: float | None,
    most_speed: float | None,
    stack: str,
    toxiproxy: str,
    most_users: int | None,
    most_load: float | None,
    dry_run: bool,
    resume: str | None,
    results: Path,
    as_json: bool,
) -> int:
    """Find the users at which failures begin, for each cell of SPEC.

    The answer is an interval: the most users at whom a cell certainly holds, and the fewest
    at whom it certainly breaks. Every trial is stored as it ends.

    Exit code: 0 every threshold was found, an open end included; 4 one is undecided or invalid.
    """
    stored = find(results, resume) if resume is not None else None
    given = session.Overrides(settings, preset, speed, most_speed=most_speed)
    [planned] = session.plan("threshold", [spec] if spec else [], given, stored)
    _refuse_swept_users(planned)
    most = _most_users(most_users, stored)
    for cell in planned.cells:
        search_for(cell, most)  # refuses here what has no threshold, before anything is started
    if dry_run:
        return _print_plan(planned, most, as_json)
    if planned.run and most_load:
        planned = replace(planned, run=planned.run.allowing(most_load))
    results = stored.path.parent if stored else results
    chosen = session.which_stack([planned], stack, toxiproxy, stored)
    return threshold_code(_measure(planned, (most, most_load), chosen, toxiproxy, results, as_json))


def _refuse_swept_users(planned: Planned) -> None:
    """Cells that differ in their users alone have one threshold."""
    axis = planned.experiment.matrix.get("load", {})
    if isinstance(axis, dict) and any("users" in keys for keys in axis.values()):
        raise UsageError(
            f"{planned.file}: the axis 'load' sweeps the users, and so does a search",
            "take them out of the axis",
        )


def _most_users(asked: int | None, stored: RunFolder | None) -> int:
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
    most: tuple[int, float | None],
    chosen: tuple[str, str],
    toxiproxy: str,
    results: Path,
    as_json: bool,
) -> Thresholds:
    with session.replica([planned], chosen, toxiproxy, results) as (stack, reason):
        run = planned.run or session.new_run(planned, stack, reason, results, "threshold", *most)
        with session.measuring("threshold", run, stack, _kept) as (lab, live):
            found = find_thresholds(lab, run, planned.cells, _teller(live.print))
            told(run).store()
        told(run).show(as_json)
    return found


def _teller(say: Callable[[str], None]) -> Callable[[News], None]:
    """Says each trial, and each answer, on a line that stays."""

    def tell(what: News) -> None:
        say(news(what) if isinstance(what, CapacityTrial) else f"{what.id}: {sentence(what)}")

    return tell


def _kept(run: RunFolder) -> str:
    found = answers(run)
    trials = sum(len(stored_trials(run, cell)) for cell in run.cells())
    return (
        f"{trials} trial{'' if trials == 1 else 's'} and the thresholds of"
        f" {len(found.cells)} of {len(run.info.cells)} cells are kept"
    )


def _print_plan(planned: Planned, most: int, as_json: bool) -> int:
    """What each cell's search would do next, and for how long it may go on."""
    cells = [_plan(planned.run, cell, most) for cell in planned.cells]
    usual = round(sum(USUAL_TRIALS * each["next"]["estimate_s"] for each in cells if each["next"]))
    name = planned.experiment.experiment
    if as_json:
        print_json({"experiment": name, "usual_s": usual, "cells": cells})
        return 0
    count = f"{len(cells)} cell{'' if len(cells) == 1 else 's'}"
    click.echo(
        f"{name}: {count}, up to {most} users; as a rule {USUAL_TRIALS} trials a cell,"
        f" {clock(usual)}"
    )
    for each in cells:
        click.echo(f"  {each['id']}: {_plan_words(each)}")
    return 0


def _plan(run: RunFolder | None, cell: Cell, most: int) -> dict[str, Any]:
    """Trials so far, the next one and the longest that the search may take; wall-clock seconds."""
    search, trials = search_for(cell, most), stored_trials(run, cell) if run else ()
    step = search.next(cell.id, trials)
    if not isinstance(step, TrialRequest):
        return {"id": cell.id, "trials": len(trials), "next": None, "longest": None}
    each = round(estimate([next_trial(cell, step, trials)]))
    most_trials = search.max_trials_in_all
    limit = round(most_trials * estimate([longest(cell, search)]))
    return {
        "id": cell.id,
        "trials": len(trials),
        "next": {"users": step.users, "window_s": step.window, "estimate_s": each},
        "longest": {"trials": most_trials, "estimate_s": limit},
    }


def _plan_words(each: dict[str, Any]) -> str:
    step, limit = each["next"], each["longest"]
    if step is None:
        return f"answered by {each['trials']} trials"
    return (
        f"{'next' if each['trials'] else 'first'} {plural(step['users'], 'user')} with a window of"
        f" {format_duration(step['window_s'])}, {clock(step['estimate_s'])} in all; never more"
        f" than {limit['trials']} trials, {clock(limit['estimate_s'])}"
    )


COMMANDS = (threshold,)
