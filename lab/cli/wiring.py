"""The real parts behind the protocols of `lab.runner`: which stack, and who injects faults."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

from lab import doctor, paths
from lab.calibrate.pace import Pace, probed
from lab.config import read_faults
from lab.errors import LabError, MissingComponent, UsageError
from lab.faults.network import Toxiproxy, base_rtt
from lab.model.costs import Costs, costs_of
from lab.model.evidence import Injected
from lab.model.experiment import DEFAULT_FAULTS, Cell
from lab.model.fault import ProcessFault
from lab.model.run import RunInfo
from lab.plan import SplitModel
from lab.runner import Lab
from lab.stack.base import Replica
from lab.stack.compose import images
from lab.stack.compose.stack import ComposeStack
from lab.stack.embedded import EmbeddedStack
from lab.store import RunFolder
from lab.store.costs import CostKey, CostStore, cache_folder, newest

AnyStack = EmbeddedStack | ComposeStack

CORES = os.cpu_count() or 1


class StackChoice(NamedTuple):
    """Which stack to use, ``embedded`` or ``compose``, and why in a few words."""

    name: str
    reason: str


class ToxiproxyInjector:
    """Injects a cell's network faults over Toxiproxy's API and reads back what is set.

    The distance to the database is a round trip as a client sees it: what the path itself
    takes is measured first, in every cell.
    """

    @contextmanager
    def injected(self, replica: Replica, cell: Cell) -> Iterator[list[Injected]]:
        """Exactly this cell's faults inside; what was read back, as evidence at t = 0."""
        toxiproxy = Toxiproxy(replica.toxiproxy)
        base_s = base_rtt(toxiproxy, cell.faults, cell.knobs, replica.round_trip)
        with toxiproxy.injected(cell.faults, cell.knobs, base_s):
            yield toxiproxy.evidence(0.0, base_s)


def choose(
    asked: str, toxiproxy: str = "auto", process_faults: Sequence[ProcessFault] = ()
) -> StackChoice:
    """Which stack to use; ``auto`` is compose where the engine, Compose and images are here.

    Args:
        asked: ``auto``, ``compose`` or ``embedded``.
        toxiproxy: ``auto``, ``real`` or ``embedded``.
        process_faults: what is to be done to parts; this takes containers.

    Raises:
        UsageError: the lab's own Toxiproxy, in containers.
        MissingComponent: process faults are asked for, and there can be no containers.
    """
    if toxiproxy == "embedded":
        _require_real(asked, toxiproxy)
        return StackChoice("embedded", f"{asked}: the lab's own Toxiproxy is asked for")
    if asked != "auto":
        return StackChoice(asked, "asked for")
    name, reason = images.preferred()
    if name == "embedded" and process_faults:
        first = process_faults[0]
        raise MissingComponent(
            f"{first.fault} {first.action}s a container, and there can be none: {reason}",
            "`lab doctor` says how to mend it",
        )
    return StackChoice(name, f"auto: {reason}")


def choose_again(run: RunInfo, asked: str, toxiproxy: str = "auto") -> StackChoice:
    """The stack of a run that is continued: the one that its first cells were measured on.

    Raises:
        UsageError: another is asked for, or the lab's own Toxiproxy in containers.
    """
    _require_real(run.stack, toxiproxy)
    if asked not in ("auto", run.stack):
        raise UsageError(
            f"{run.name} was made on the {run.stack} stack, so --stack {asked} cannot continue it",
            "leave --stack out",
        )
    return StackChoice(run.stack, f"as the run that is continued, {run.name}")


def _require_real(stack: str, toxiproxy: str) -> None:
    if stack == "compose" and toxiproxy == "embedded":
        raise UsageError(
            "the compose stack has the real Toxiproxy only",
            "leave --toxiproxy out, or use --stack embedded",
        )


def make_stack(
    choice: StackChoice,
    results: Path,
    toxiproxy: str = "auto",
    port: int | None = None,
    stays: bool = False,
) -> tuple[AnyStack, str]:
    """The stack to use, nothing of it started yet, and why it is that one.

    Args:
        choice: which, and why.
        results: the results folder that the replica belongs to.
        toxiproxy: ``auto``, ``real`` or ``embedded``.
        port: where nginx listens; None finds a free port.
        stays: whether the replica outlives this process.

    Raises:
        MissingComponent: it is not on this machine.
        MachineError: the port is taken.
    """
    stack: AnyStack = (
        ComposeStack(results, port, stays)
        if choice.name == "compose"
        else EmbeddedStack(results, toxiproxy, port, stays)
    )
    return stack, f"{choice.reason}; {stack.origins}"


@contextmanager
def open_stack(
    choice: StackChoice, results: Path, toxiproxy: str = "auto"
) -> Iterator[tuple[AnyStack, str]]:
    """The stack to use, and why it is that one; closed whatever happens.

    Raises:
        MissingComponent: it is not on this machine.
    """
    stack, reason = make_stack(choice, results, toxiproxy)
    try:
        yield stack, reason
    except BaseException as first:
        try:
            stack.close()
        except LabError as second:
            first.add_note(f"and then: {second}")
        raise
    stack.close()


@cache
def split_model() -> SplitModel:
    """What says how workers of one socket share, with what it has simulated in this process.

    It is imported when it is asked for: it brings numpy along.
    """
    from lab.capacity.sharing import SimulatedSplit

    return SimulatedSplit()


def pace_of(lab: Lab, run: RunFolder, say: Callable[[str], None]) -> Pace:
    """What chooses the speed of a run's cells, by what is kept of this machine's costs.

    Args:
        lab: what a probe is measured with.
        run: whose cells.
        say: told, in a line, what a user should know.
    """
    versions = doctor.versions(lab.stack.about())
    key = CostKey(machine=doctor.processor(), stack=lab.stack.name, versions=versions)
    shipped = read_faults(paths.data("faults"))
    faults = [shipped[name] for name in DEFAULT_FAULTS]
    store = CostStore(key, cache_folder(), say)
    return Pace(partial(probed, lab, faults), run, store, CORES, say, split_model())


def known_costs(stack: str) -> Callable[[Cell], Costs | None]:
    """What is kept of a cell's costs here on a stack, which is not started; None: nothing."""
    known = newest(cache_folder(), doctor.processor(), stack, doctor.versions({}))
    trials = known.trials if known else ()
    return lambda cell: costs_of(trials, CORES, cell.knobs.workers)
