"""The real seams of a run: what stands behind the protocols of `lab.runner`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.errors import LabError, UsageError
from lab.faults.adapter import Toxiproxy
from lab.model.cell import Cell
from lab.model.observation import Injected
from lab.stack.compose import engine, images
from lab.stack.compose.stack import ComposeStack
from lab.stack.embedded import EmbeddedStack

AnyStack = EmbeddedStack | ComposeStack


class ToxiproxyInjector:
    """Arms a cell's faults over Toxiproxy's API and reads back what is armed."""

    @contextmanager
    def armed(self, api_url: str, cell: Cell) -> Iterator[list[Injected]]:
        """Exactly this cell's faults inside; what was read back, as evidence at t = 0."""
        toxiproxy = Toxiproxy(api_url)
        with toxiproxy.armed(cell.faults, cell.knobs):
            yield toxiproxy.injected(0.0)


def choose(asked: str, toxiproxy: str = "auto") -> tuple[str, str]:
    """Which stack it is to be, and why in a few words.

    ``auto`` is compose where the engine, Compose and every image are here.

    Args:
        asked: ``auto``, ``compose`` or ``embedded``.
        toxiproxy: ``auto``, ``real`` or ``embedded``.

    Raises:
        UsageError: the lab's own Toxiproxy, in containers.
    """
    if toxiproxy == "embedded":
        if asked == "compose":
            raise UsageError(
                "the compose stack has the real Toxiproxy only",
                "leave --toxiproxy out, or use --stack embedded",
            )
        return "embedded", f"{asked}: the lab's own Toxiproxy is asked for"
    if asked != "auto":
        return asked, "asked for"
    try:
        client = engine.connect()
        try:
            engine.compose_version()
            images.require(client)
        finally:
            client.close()
    except LabError as error:
        return "embedded", f"auto: {error.what}"
    return "compose", "auto: an engine, Compose and every image are here"


def make_stack(
    asked: str,
    results: Path,
    toxiproxy: str = "auto",
    port: int | None = None,
    stays: bool = False,
) -> tuple[AnyStack, str]:
    """The stack to use, nothing of it started yet, and why in a few words.

    Raises:
        MissingComponent: what was asked for is not on this machine.
        MachineError: the port is taken.
        UsageError: as `choose`.
    """
    name, why = choose(asked, toxiproxy)
    stack: AnyStack = (
        ComposeStack(results, port, stays)
        if name == "compose"
        else EmbeddedStack(results, toxiproxy, port, stays)
    )
    return stack, f"{why}; {stack.origins}"


@contextmanager
def open_stack(
    asked: str, results: Path, toxiproxy: str = "auto"
) -> Iterator[tuple[AnyStack, str]]:
    """The stack to use, and why in a few words; closed whatever happens.

    Raises:
        MissingComponent: what was asked for is not on this machine.
    """
    stack, why = make_stack(asked, results, toxiproxy)
    try:
        yield stack, why
    finally:
        stack.close()
