"""The real seams of a run: what stands behind the protocols of `lab.runner`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lab.errors import LabError, MissingComponent, UsageError
from lab.faults.network import Toxiproxy, base_rtt
from lab.model.evidence import Injected
from lab.model.experiment import Cell
from lab.model.fault import ProcessFault
from lab.model.run import RunInfo
from lab.stack.base import Replica
from lab.stack.compose import images
from lab.stack.compose.stack import ComposeStack
from lab.stack.embedded import EmbeddedStack

AnyStack = EmbeddedStack | ComposeStack


class ToxiproxyInjector:
    """Injects a cell's network faults over Toxiproxy's API and reads back what is set.

    The distance to the database is a round trip as a client sees it there: what its path
    takes by itself is measured first, in every cell.
    """

    @contextmanager
    def injected(self, replica: Replica, cell: Cell) -> Iterator[list[Injected]]:
        """Exactly this cell's faults inside; what was read back, as evidence at t = 0."""
        toxiproxy = Toxiproxy(replica.toxiproxy)
        base_s = base_rtt(toxiproxy, cell.faults, cell.knobs, replica.round_trip)
        with toxiproxy.injected(cell.faults, cell.knobs, base_s):
            yield toxiproxy.evidence(0.0, base_s)


def choose(
    asked: str, toxiproxy: str = "auto", strikes: Sequence[ProcessFault] = ()
) -> tuple[str, str]:
    """Which stack it is to be, and why in a few words.

    ``auto`` is compose where the engine, Compose and every image are here.

    Args:
        asked: ``auto``, ``compose`` or ``embedded``.
        toxiproxy: ``auto``, ``real`` or ``embedded``.
        strikes: what is to be done to parts: only a container can be struck.

    Raises:
        UsageError: the lab's own Toxiproxy, in containers.
        MissingComponent: parts are to be struck, and there can be no containers.
    """
    if toxiproxy == "embedded":
        _require_real(asked, toxiproxy)
        return "embedded", f"{asked}: the lab's own Toxiproxy is asked for"
    if asked != "auto":
        return asked, "asked for"
    name, why = images.preferred()
    if name == "embedded" and strikes:
        raise MissingComponent(
            f"{strikes[0].fault} {strikes[0].action}s a container, and there can be none: {why}",
            "`lab doctor` says how to mend it",
        )
    return name, f"auto: {why}"


def _require_real(stack: str, toxiproxy: str) -> None:
    if stack == "compose" and toxiproxy == "embedded":
        raise UsageError(
            "the compose stack has the real Toxiproxy only",
            "leave --toxiproxy out, or use --stack embedded",
        )


def again(run: RunInfo, asked: str, toxiproxy: str = "auto") -> tuple[str, str]:
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
    return run.stack, f"as the run that is continued, {run.name}"


def make_stack(
    chosen: tuple[str, str],
    results: Path,
    toxiproxy: str = "auto",
    port: int | None = None,
    stays: bool = False,
) -> tuple[AnyStack, str]:
    """The stack to use, nothing of it started yet, and why in a few words.

    Args:
        chosen: its name, and why it is that one.
        results: the results folder that the replica belongs to.
        toxiproxy: ``auto``, ``real`` or ``embedded``.
        port: where nginx listens; None finds a free port.
        stays: whether the replica outlives this process.

    Raises:
        MissingComponent: it is not on this machine.
        MachineError: the port is taken.
    """
    name, why = chosen
    stack: AnyStack = (
        ComposeStack(results, port, stays)
        if name == "compose"
        else EmbeddedStack(results, toxiproxy, port, stays)
    )
    return stack, f"{why}; {stack.origins}"


@contextmanager
def open_stack(
    chosen: tuple[str, str], results: Path, toxiproxy: str = "auto"
) -> Iterator[tuple[AnyStack, str]]:
    """The stack to use, and why in a few words; closed whatever happens.

    Raises:
        MissingComponent: it is not on this machine.
    """
    stack, why = make_stack(chosen, results, toxiproxy)
    try:
        yield stack, why
    except BaseException as first:
        try:
            stack.close()
        except LabError as second:
            first.add_note(f"and then: {second}")
        raise
    stack.close()
