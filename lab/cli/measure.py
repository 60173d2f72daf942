"""``lab run``: starts a replica, measures every cell, and ends it."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from lab import machine, strikes
from lab.cli.options import (
    check_writable,
    faults,
    json_option,
    print_json,
    results_option,
    say,
    settings_options,
    stack_options,
    target_option,
)
from lab.cli.stored import exit_code, show, write_reports
from lab.cli.wiring import ToxiproxyInjector, again, choose, open_stack
from lab.errors import Interrupted, MachineError, UsageError
from lab.load.driver import LocustLoad
from lab.model.cell import Cell
from lab.model.experiment import Experiment
from lab.model.knobs import Preset
from lab.model.run import Summary
from lab.model.strike import PlannedStrike
from lab.model.target import Target
from lab.plan import estimate, expand
from lab.report import LiveLine
from lab.runner import Lab, run_experiment
from lab.spec import parse_settings, read_experiment
from lab.stack import reap
from lab.stack.protocol import Stack
from lab.store import RunFolder, find


@dataclass(frozen=True)
class Planned:
    """A spec, read and expanded; ``run`` is the stored run that it continues, if any."""

    file: str
    experiment: Experiment
    cells: tuple[Cell, ...]
    run: RunFolder | None = None

    @property
    def missing(self) -> tuple[Cell, ...]:
        """The cells that are still to be run."""
        run = self.run
        return tuple(c for c in self.cells if run is None or not run.cell(c.id).finished())

    @property
    def strikes(self) -> tuple[PlannedStrike, ...]:
        """What is to befall parts in the cells that are still to be run."""
        return tuple(strike for cell in self.missing for strike in cell.strikes)


@click.command()
@click.argument("specs", nargs=-1, type=click.Path(path_type=Path), metavar="[SPEC]...")
@settings_options
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
    if stored and not specs and (settings or preset or speed or users or target):
        raise UsageError(
            "--resume without a spec runs the stored cells as they are", "leave the settings out"
        )
    results = stored.path.parent if stored else results
    known = faults()
    planned = []
    for file in specs:
        experiment = read_experiment(file, known)
        cells = expand(
            experiment,
            known,
            parse_settings(settings),
            Preset(preset) if preset else None,
            speed,
            users,
            target,
        )
        planned.append(Planned(str(file), experiment, cells, stored))
    planned = resumed(planned, stored)
    if dry_run:
        return print_plan(planned, as_json)
    chosen = (
        again(stored.info, stack, toxiproxy)
        if stored
        else choose(stack, toxiproxy, [strike for each in planned for strike in each.strikes])
    )
    summaries = measure(planned, chosen, toxiproxy, results, as_json)
    return exit_code(summaries, gate)


def resumed(planned: list[Planned], stored: RunFolder | None) -> list[Planned]:
    """Hold the specs against the run to be resumed; without a spec, its own cells.

    Raises:
        UsageError: nothing to run, several specs for one run, or a changed spec.
    """
    if stored is None:
        if not planned:
            raise UsageError(
                "no spec is given", "write one, as `lab run experiments/as-found.yaml`"
            )
        return planned
    if len(planned) > 1:
        raise UsageError(f"--resume continues one run, not {len(planned)}", "give one spec or none")
    if not planned:
        return [Planned(stored.info.spec_file, stored.info.experiment, stored.cells(), stored)]
    stored.check_same(planned[0].cells)
    return planned


def print_plan(planned: Sequence[Planned], as_json: bool) -> int:
    """What would be run, and for how long."""
    plans = [
        {
            "experiment": each.experiment.experiment,
            "cells": [cell.id for cell in each.missing],
            "estimate_s": round(estimate(each.missing)),
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
    check_writable(results)
    if reap.reap():
        say("ended what an earlier lab that was killed had left running")
    summaries = []
    with open_stack(chosen, results, toxiproxy) as (stack, reason):
        missing = [cell for each in planned for cell in each.missing]
        strikes.require(stack, missing)
        for cell in missing:
            stack.require(cell)
        say(f"stack: {stack.name} ({reason})")
        say(f"target: {' and '.join(dict.fromkeys(cell.target for cell in missing))}")
        for each in planned:
            run = each.run or new_run(each, stack, reason, results)
            with run.lock(), interruptible(run), LiveLine(sys.stderr, os.environ) as live:
                wired = Lab(stack, ToxiproxyInjector(), LocustLoad(), live.update)
                summary = run_experiment(wired, run, each.cells)
                write_reports(run, summary)
            if not as_json:
                show(run, summary, as_json)
            summaries.append(summary)
    if as_json:
        data: list[Any] = [summary.model_dump(mode="json") for summary in summaries]
        print_json(data[0] if len(data) == 1 else data)
    return summaries


def new_run(each: Planned, stack: Stack, reason: str, results: Path) -> RunFolder:
    """A run folder with everything that was decided before the first cell."""
    return RunFolder.create(
        results,
        each.cells,
        started=datetime.now(UTC),
        spec_file=each.file,
        experiment=each.experiment,
        stack=stack.name,
        stack_reason=reason,
        speed=each.cells[0].knobs.speed,
        versions=machine.versions(stack.about()),
        machine=machine.facts(),
        git=machine.git_revision(),
        arguments=tuple(sys.argv[1:]),
    )


@contextmanager
def interruptible(run: RunFolder) -> Iterator[None]:
    """Make Ctrl-C, and any failure, say what is kept and how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted: {_kept(run)}", _go_on(run)) from None
    except MachineError as error:
        error.add_note(f"{_kept(run)} - {_go_on(run)}")
        raise


def _kept(run: RunFolder) -> str:
    finished = sum(run.cell(cell_id).finished() for cell_id in run.info.cells)
    return f"{finished} of {len(run.info.cells)} cells are kept"


def _go_on(run: RunFolder) -> str:
    return f"go on with `lab run --resume {shlex.quote(str(run.path))}`"


COMMANDS = (run,)
