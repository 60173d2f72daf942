"""What every command that measures does: plan, bring a replica up, hold a run folder, end all."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lab import doctor
from lab.cli.options import check_writable, faults, say
from lab.cli.wiring import ToxiproxyInjector, again, choose, open_stack
from lab.config import parse_settings, read_experiment
from lab.errors import Interrupted, MachineError, UsageError
from lab.faults import process
from lab.load.driver import LocustLoad
from lab.model.experiment import Cell, Experiment
from lab.model.fault import ProcessFault
from lab.model.knobs import Preset
from lab.model.replica import Target
from lab.plan import check_pace, expand, no_faster
from lab.report import LiveLine
from lab.runner import Lab
from lab.stack import cleanup
from lab.stack.base import Stack
from lab.store import RunFolder


@dataclass(frozen=True)
class Overrides:
    """What the command line says in place of the spec."""

    settings: tuple[str, ...] = ()
    preset: str | None = None
    speed: float | None = None
    users: int | None = None
    target: Target | None = None
    most_speed: float | None = None

    def __bool__(self) -> bool:
        """Whether it says anything."""
        return self != Overrides()


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
    def strikes(self) -> tuple[ProcessFault, ...]:
        """What is to befall parts in the cells that are still to be run."""
        return tuple(strike for cell in self.missing for strike in cell.strikes)


def plan(
    command: str, files: Sequence[Path], given: Overrides, stored: RunFolder | None
) -> list[Planned]:
    """Read and expand the specs, and hold them against the run that is to be continued.

    Raises:
        UsageError: nothing to run, several specs for one run, a changed spec, settings for
            stored cells, or a run that another command made.
        SpecError: a spec is wrong.
    """
    if stored:
        _check_command(command, stored)
        if not files and given:
            raise UsageError(
                "--resume without a spec runs the stored cells as they are",
                "leave the settings out",
            )
    known = faults()
    preset = Preset(given.preset) if given.preset else None
    planned = []
    for file in files:
        experiment = read_experiment(file, known)
        settings = parse_settings(given.settings)
        cells = expand(experiment, known, settings, preset, given.speed, given.users, given.target)
        if given.most_speed is not None:
            cells = no_faster(cells, given.most_speed)
        check_pace(cells)
        planned.append(Planned(str(file), experiment, cells, stored))
    return _resumed(command, planned, stored)


def _check_command(command: str, stored: RunFolder) -> None:
    made_by = "run" if stored.info.most_users is None else "threshold"
    if command != made_by:
        raise UsageError(
            f"{stored.info.name} was made by `lab {made_by}`",
            f"go on with `lab {made_by} --resume {shlex.quote(str(stored.path))}`",
        )


def _resumed(command: str, planned: list[Planned], stored: RunFolder | None) -> list[Planned]:
    """The specs, held against the run to be resumed; without a spec, its own cells."""
    if stored is None:
        if not planned:
            example = {"run": "as-found", "threshold": "threshold"}[command]
            raise UsageError(
                "no spec is given", f"write one, as `lab {command} experiments/{example}.yaml`"
            )
        return planned
    if len(planned) > 1:
        raise UsageError(f"--resume continues one run, not {len(planned)}", "give one spec or none")
    if not planned:
        return [Planned(stored.info.spec_file, stored.info.experiment, stored.cells(), stored)]
    stored.check_same(planned[0].cells)
    return planned


def which_stack(
    planned: Sequence[Planned], asked: str, toxiproxy: str, stored: RunFolder | None
) -> tuple[str, str]:
    """The stack's name, and why it is that one: a continued run keeps its own."""
    if stored:
        return again(stored.info, asked, toxiproxy)
    return choose(asked, toxiproxy, [strike for each in planned for strike in each.strikes])


@contextmanager
def replica(
    planned: Sequence[Planned], chosen: tuple[str, str], toxiproxy: str, results: Path
) -> Iterator[tuple[Stack, str]]:
    """A stack that can do all that is planned, and why it is that one; ended with the block.

    Args:
        planned: what is to be run on it.
        chosen: its name, and why it is that one.
        toxiproxy: ``auto``, ``real`` or ``embedded``.
        results: the results folder.
    """
    check_writable(results)
    if cleanup.end_abandoned():
        say("ended what an earlier lab that was killed had left running")
    with open_stack(chosen, results, toxiproxy) as (stack, reason):
        missing = [cell for each in planned for cell in each.missing]
        process.require(stack, missing)
        for cell in missing:
            stack.require(cell)
        say(f"stack: {stack.name} ({reason})")
        say(f"target: {' and '.join(dict.fromkeys(cell.target for cell in missing))}")
        yield stack, reason


def new_run(
    each: Planned,
    stack: Stack,
    reason: str,
    results: Path,
    most_users: int | None = None,
    most_load: float | None = None,
) -> RunFolder:
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
        versions=doctor.versions(stack.about()),
        machine=doctor.facts(),
        git=doctor.git_revision(),
        arguments=tuple(sys.argv[1:]),
        most_users=most_users,
        most_load=most_load,
    )


@contextmanager
def measuring(
    command: str, run: RunFolder, stack: Stack, kept: Callable[[RunFolder], str]
) -> Iterator[tuple[Lab, LiveLine]]:
    """The seams of a run, and the line that shows how far it is, while its folder is held.

    Ctrl-C, and any failure, say what is kept and how to go on.

    Args:
        command: that measures, and goes on with what is missing.
        run: where it is stored.
        stack: the replica.
        kept: says what is kept.
    """
    go_on = f"go on with `lab {command} --resume {shlex.quote(str(run.path))}`"
    try:
        with run.lock(), LiveLine(sys.stderr, os.environ) as live:
            yield Lab(stack, ToxiproxyInjector(), LocustLoad(), live.update), live
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted: {kept(run)}", go_on) from None
    except MachineError as error:
        error.add_note(f"{kept(run)} - {go_on}")
        raise
