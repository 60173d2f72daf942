"""What ``lab run``, ``lab threshold`` and ``lab why`` do alike: read and expand specs, bring a
replica up, hold a run folder while its cells are measured, end everything."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lab import doctor
from lab.cli.options import check_writable, find_spec, known_faults, print_message
from lab.cli.stored import tell_foreign
from lab.cli.wiring import (
    StackChoice,
    ToxiproxyInjector,
    choose,
    choose_again,
    known_costs,
    open_stack,
    pace_of,
    split_model,
)
from lab.config import parse_settings, read_experiment
from lab.errors import Interrupted, LabError, MachineError, SpecError, UsageError
from lab.faults import process
from lab.load.driver import LocustLoad
from lab.model.experiment import Cell, Experiment
from lab.model.knobs import Preset
from lab.model.replica import Target
from lab.model.run import RunKind, RunRequest, SearchMethod
from lab.model.speed import AUTO
from lab.observe.quiet import QuietMachine
from lab.plan import (
    check_only,
    check_pace,
    expand,
    foreseen,
    no_faster,
    select,
    uncompared,
    without_effect,
)
from lab.plan.attempts import RETRIES
from lab.report import LiveLine
from lab.runner import Lab
from lab.stack import cleanup
from lab.stack.base import Stack
from lab.store import RunFolder

FULL_BYTES = 65_536
"""With less than this free, a disk is why something could not be written."""


@dataclass(frozen=True)
class Overrides:
    """The command line's values in place of the spec's; ``max_speed`` limits, ``only`` selects."""

    settings: tuple[str, ...] = ()
    preset: str | None = None
    speed: float | str | None = None
    users: int | None = None
    target: Target | None = None
    max_speed: float | None = None
    only: tuple[str, ...] = ()


@dataclass(frozen=True)
class SearchAsked:
    """How thresholds are searched.

    Args:
        max_users: it goes no higher.
        max_load: real-world seconds of load for each cell; None: no limit.
        method: by what.
        within: how wide an answer may be, as a share of the users; None: 2 users or a tenth.
    """

    max_users: int
    max_load: float | None
    method: SearchMethod
    within: float | None


@dataclass(frozen=True)
class Planned:
    """A spec, read and expanded.

    Args:
        file: where it stands.
        experiment: what it says.
        cells: what it became.
        run: the stored run that it continues, if any.
        idle: a sentence for each knob that was set and that cells do not feel, and for each
            baseline that is left out.
        max_speed: no higher speed is chosen; None: no limit.
        arguments: the command line that asks for it, stored with the run.
    """

    file: str
    experiment: Experiment
    cells: tuple[Cell, ...]
    run: RunFolder | None = None
    idle: tuple[str, ...] = ()
    max_speed: float | None = None
    arguments: tuple[str, ...] = field(default_factory=lambda: tuple(sys.argv[1:]))

    @property
    def missing(self) -> tuple[Cell, ...]:
        """The cells that are still to be run: without a verdict, or invalid."""
        run = self.run
        return tuple(c for c in self.cells if run is None or not run.cell(c.id).settled())


def plan(
    command: str, files: Sequence[Path], overrides: Overrides, stored: RunFolder | None
) -> list[Planned]:
    """Read and expand the specs, and hold them against the run that is to be continued.

    Args:
        command: ``run``, ``threshold`` or ``why``.
        files: the specs; of a run that is continued, one or none.
        overrides: the command line's values in place of theirs.
        stored: the run that is continued.

    Raises:
        UsageError: nothing to run, several specs for one run, a changed spec, settings for
            stored cells, or a run that another command made.
        SpecError: a spec is wrong.
    """
    if stored:
        return [_continued(command, files, overrides, stored)]
    if not files:
        example = {"run": "as-found", "threshold": "threshold", "why": "workers-x-pool"}[command]
        raise UsageError("no spec is given", f"write one, as `lab {command} {example}`")
    return _read(files, overrides, None)


def _continued(
    command: str, files: Sequence[Path], overrides: Overrides, stored: RunFolder
) -> Planned:
    """The run's own cells; where a spec is given, it must have the same."""
    kind = stored.info.kind
    if command != kind:
        raise UsageError(
            f"{stored.info.name} was made by `lab {kind}`",
            f"go on with `lab {kind} --resume {shlex.quote(str(stored.path))}`",
        )
    if not files and overrides != Overrides(only=overrides.only):
        raise UsageError(
            "--resume without a spec runs the stored cells as they are", "leave the settings out"
        )
    if not files:
        experiment, cells = stored.info.experiment, stored.cells()
        idle = tuple(without_effect(experiment, {}, cells))
        max_speed = stored.info.max_speed
        spec = Planned(stored.info.spec_file, experiment, cells, stored, idle, max_speed)
    else:
        specs = _read(files, replace(overrides, only=stored.info.only), stored)
        if len(specs) > 1:
            what = f"--resume continues one run, not {len(specs)}"
            raise UsageError(what, "give one spec or none")
        [spec] = specs
        stored.check_same(spec.cells)
    check_only(overrides.only, [cell.id for cell in spec.cells], stored.info.name)
    return replace(spec, cells=select(spec.cells, overrides.only))


def _read(files: Sequence[Path], overrides: Overrides, stored: RunFolder | None) -> list[Planned]:
    """Each spec with the command line's values, expanded, at a pace that can be offered.

    What is wrong with a spec's cells as a whole has no line of its own; its file is named.
    """
    faults = known_faults()
    preset = Preset(overrides.preset) if overrides.preset else None
    planned, ids = [], list[str]()
    for file in map(find_spec, files):
        experiment = read_experiment(file, faults)
        settings = parse_settings(overrides.settings, overrides.speed)
        users, target = overrides.users, overrides.target
        try:
            cells = expand(experiment, faults, settings, preset, users, target)
        except SpecError as error:
            raise SpecError(error.what, error.remedy, str(file)) from None
        ids += [cell.id for cell in cells]
        cells = select(cells, overrides.only)
        if not cells:
            continue
        if overrides.max_speed is not None:
            _refuse_faster(settings, overrides.max_speed)
            cells = no_faster(cells, overrides.max_speed)
        check_pace(cells)
        idle = (*without_effect(experiment, settings, cells), *uncompared(cells))
        max_speed = overrides.max_speed
        planned.append(Planned(str(file), experiment, cells, stored, idle, max_speed))
    check_only(overrides.only, ids, " or ".join(map(str, files)))
    return planned


def _refuse_faster(settings: Mapping[str, Any], max_speed: float) -> None:
    speed = settings.get("speed", AUTO)
    if speed != AUTO and speed > max_speed:
        what = f"speed {speed:g} is asked for, and --most-speed {max_speed:g}"
        raise UsageError(what, "leave one of them out")


def which_stack(
    planned: Sequence[Planned], asked: str, toxiproxy: str, stored: RunFolder | None
) -> StackChoice:
    """The stack for all that is planned; a continued run keeps its own.

    Raises:
        UsageError: the lab's own Toxiproxy in containers, or another stack than the run's.
        MissingComponent: process faults are asked for, and there can be no containers.
    """
    if stored:
        return choose_again(stored.info, asked, toxiproxy)
    process_faults = [fault for cell in _missing(planned) for fault in cell.process_faults]
    return choose(asked, toxiproxy, process_faults)


def speeds_known(
    planned: Planned, asked: str, toxiproxy: str, stored: RunFolder | None
) -> Callable[[Cell], Cell]:
    """Gives a cell the speed that would be chosen for it by what is known now.

    Where nothing is known of this machine and the stack that would be used, or there can be no
    such stack, it leaves the speed to be chosen. Nothing is started.
    """
    if any(cell.auto_speed and cell.target == "vm" for cell in planned.missing):
        with suppress(LabError):
            known = known_costs(which_stack([planned], asked, toxiproxy, stored).name)
            return lambda cell: foreseen(cell, known(cell), planned.max_speed, split_model())
    return lambda cell: foreseen(cell, None, planned.max_speed)


def at_known_speeds(
    planned: Sequence[Planned], asked: str, toxiproxy: str, stored: RunFolder | None
) -> Iterator[Planned]:
    """The same, each cell with the speed that would be chosen for it by what is known now."""
    for spec in planned:
        at_speed = speeds_known(spec, asked, toxiproxy, stored)
        yield replace(spec, cells=tuple(map(at_speed, spec.cells)))


def _missing(planned: Sequence[Planned]) -> list[Cell]:
    return [cell for spec in planned for cell in spec.missing]


@contextmanager
def replica(
    planned: Sequence[Planned], choice: StackChoice, toxiproxy: str, results: Path
) -> Iterator[tuple[Stack, str]]:
    """A stack that can do all that is planned, and why it is that one; ended with the block.

    Args:
        planned: what is to be run on it.
        choice: which, and why.
        toxiproxy: ``auto``, ``real`` or ``embedded``.
        results: the results folder.

    Raises:
        StoreError: the results folder cannot be written.
        MachineError: this machine lacks what a cell needs.
    """
    check_writable(results)
    if cleanup.end_abandoned():
        print_message("ended what an earlier lab that was killed had left running")
    with open_stack(choice, results, toxiproxy) as (stack, reason):
        missing = _missing(planned)
        process.require(stack, missing)
        for cell in missing:
            stack.require(cell)
        print_message(f"stack: {stack.name} ({reason})")
        targets = dict.fromkeys(cell.target for cell in missing)
        if targets:
            print_message(f"target: {' and '.join(targets)}")
        yield stack, reason


def new_run(
    spec: Planned,
    stack: Stack,
    reason: str,
    results: Path,
    kind: RunKind = "run",
    search: SearchAsked | None = None,
    only: tuple[str, ...] = (),
    until_held: bool = False,
) -> RunFolder:
    """A run folder with everything that was decided before the first cell.

    Args:
        spec: what is to be run.
        stack: the replica; it knows its parts' versions.
        reason: why it is that stack.
        results: the results folder.
        kind: whether its cells are measured once, or their thresholds searched.
        search: how thresholds are searched, where they are.
        only: which of the spec's cells were asked for; none: all.
        until_held: of a diagnosis: whether it goes on to what makes each cell hold.

    Raises:
        StoreError: the results folder cannot be written.
    """
    request = RunRequest(
        kind=kind,
        started=datetime.now(UTC),
        spec_file=spec.file,
        experiment=spec.experiment,
        stack=stack.name,
        stack_reason=reason,
        speed=AUTO if spec.cells[0].auto_speed else spec.cells[0].knobs.speed,
        max_speed=spec.max_speed,
        versions=doctor.versions(stack.about()),
        machine=doctor.facts(),
        git=doctor.git_revision(),
        arguments=spec.arguments,
        only=only,
        max_users=search.max_users if search else None,
        max_load=search.max_load if search else None,
        method=search.method if search else None,
        within=search.within if search else None,
        until_held=until_held,
    )
    return RunFolder.create(results, spec.cells, request)


@contextmanager
def measuring(
    command: str,
    run: RunFolder,
    stack: Stack,
    describe_stored: Callable[[RunFolder], str],
    retries: int = RETRIES,
) -> Iterator[tuple[Lab, LiveLine]]:
    """The parts of a run, and the line that shows how far it is, while its folder is held.

    The message after Ctrl-C, or a failure, names what is stored and how to go on.

    Args:
        command: the one that measures, and goes on with what is missing.
        run: where it is stored.
        stack: the replica.
        describe_stored: how much of the run is stored, in a few words.
        retries: how often a cell that something disturbed is measured again.

    Raises:
        Interrupted: by Ctrl-C, a SIGTERM or a SIGHUP.
        LabError: this machine cannot go on.
    """
    go_on = f"go on with `lab {command} --resume {shlex.quote(str(run.path))}`"
    try:
        with run.lock(), LiveLine(sys.stderr, os.environ) as live, LocustLoad() as generator:
            tell_foreign(run)
            lab = Lab(
                stack,
                ToxiproxyInjector(),
                generator,
                live.update,
                retries,
                wait_quiet=QuietMachine().wait,
            )
            pace = pace_of(lab, run, live.print)
            try:
                yield replace(lab, choose_speed=pace.choose, foresee=pace.foresee), live
            finally:
                pace.learn()
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted: {describe_stored(run)}", go_on) from None
    except (MachineError, OSError) as error:
        told = os.strerror(errno.ENOSPC) in str(error)
        for note in (*(() if told else _full(run.path)), f"{describe_stored(run)} - {go_on}"):
            error.add_note(note)
        raise


def _full(results: Path) -> Iterator[str]:
    """A sentence for each of the folders that a run writes to that has no room left."""
    remedies = {
        results: "free some space on its disk",
        Path(tempfile.gettempdir()): "free some space there, or set TMPDIR to another folder",
    }
    for folder, remedy in remedies.items():
        with suppress(OSError):
            if shutil.disk_usage(folder).free < FULL_BYTES:
                yield f"{folder} is full: {remedy}"
