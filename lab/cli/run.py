"""``lab run``: starts a replica, measures every cell, and ends it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from lab.cli import session
from lab.cli.options import (
    json_option,
    most_speed_option,
    print_json,
    results_option,
    say,
    settings_options,
    stack_options,
    target_option,
)
from lab.cli.session import Planned
from lab.cli.stored import exit_code, told
from lab.model.replica import Target
from lab.model.run import Summary
from lab.plan import estimate, too_few
from lab.runner import run_experiment
from lab.store import RunFolder, find


@click.command()
@click.argument("specs", nargs=-1, type=click.Path(path_type=Path), metavar="[SPEC]...")
@settings_options
@most_speed_option
@stack_options
@target_option(None, "In place of the spec's: where the backend runs.")
@click.option("--users", type=click.IntRange(1), help="In place of the spec's users or burst.")
@click.option("--dry-run", is_flag=True, help="Print the cells and the time they will take.")
@click.option("--resume", metavar="RUN", help="Continue a stored run: only what is missing.")
@click.option("--gate", is_flag=True, help="Exit with 1 if a cell broke.")
@results_option
@json_option
def run(
    specs: tuple[Path, ...],
    settings: tuple[str, ...],
    preset: str | None,
    speed: float | None,
    most_speed: float | None,
    users: int | None,
    stack: str,
    toxiproxy: str,
    target: Target | None,
    dry_run: bool,
    resume: str | None,
    gate: bool,
    results: Path,
    as_json: bool,
) -> int:
    """Measure every cell of each SPEC and judge it.

    Exit code: 0 every cell was measured, whether it held or broke; 1 one broke and --gate is
    given; 4 one is undecided or invalid.
    """
    stored = find(results, resume) if resume is not None else None
    given = session.Overrides(settings, preset, speed, users, target, most_speed)
    planned = session.plan("run", specs, given, stored)
    if dry_run:
        return print_plan(planned, as_json)
    results = stored.path.parent if stored else results
    chosen = session.which_stack(planned, stack, toxiproxy, stored)
    summaries = measure(planned, chosen, toxiproxy, results, as_json)
    return exit_code(summaries, gate)


def print_plan(planned: Sequence[Planned], as_json: bool) -> int:
    """What would be run, and for how long."""
    plans = [
        {
            "experiment": each.experiment.experiment,
            "cells": [cell.id for cell in each.missing],
            "estimate_s": round(estimate(each.missing)),
            "undecidable": [why for cell in each.missing for why in too_few(cell)],
        }
        for each in planned
    ]
    if as_json:
        print_json(plans)
        return 0
    for each in planned:
        minutes, seconds = divmod(round(estimate(each.missing)), 60)
        count = f"{len(each.missing)} cell{'' if len(each.missing) == 1 else 's'}"
        click.echo(f"{each.experiment.experiment}: {count}, about {minutes}:{seconds:02d} min")
        for cell in each.missing:
            click.echo(f"  {cell.id}")
            for why in too_few(cell):
                click.echo(f"    {why}")
    return 0


def measure(
    planned: Sequence[Planned],
    chosen: tuple[str, str],
    toxiproxy: str,
    results: Path,
    as_json: bool,
) -> list[Summary]:
    """Run them one after the other on one replica; each is stored and shown as it ends.

    Args:
        planned: what to run.
        chosen: the stack's name, and why it is that one.
        toxiproxy: ``auto``, ``real`` or ``embedded``.
        results: the results folder.
        as_json: whether standard output gets JSON.
    """
    summaries, ended = [], []
    with session.replica(planned, chosen, toxiproxy, results) as (stack, reason):
        for each in planned:
            for why in (why for cell in each.missing for why in too_few(cell)):
                say(why)
            run = each.run or session.new_run(each, stack, reason, results)
            with session.measuring("run", run, stack, _kept) as (lab, _):
                summaries.append(run_experiment(lab, run, each.cells))
                ended.append(told(run))
                ended[-1].store()
            if not as_json:
                ended[-1].show()
    if as_json:
        data: list[Any] = [one.document.model_dump(mode="json") for one in ended]
        print_json(data[0] if len(data) == 1 else data)
    return summaries


def _kept(run: RunFolder) -> str:
    finished = sum(run.cell(cell_id).finished() for cell_id in run.info.cells)
    return f"{finished} of {len(run.info.cells)} cells are kept"


COMMANDS = (run,)
