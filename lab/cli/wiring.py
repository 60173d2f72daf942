"""The real seams of a run: what stands behind the protocols of `lab.runner`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.faults.adapter import Toxiproxy
from lab.model.cell import Cell
from lab.model.observation import Injected
from lab.stack.embedded import EmbeddedStack


class ToxiproxyInjector:
    """Arms a cell's faults over Toxiproxy's API and reads back what is armed."""

    @contextmanager
    def armed(self, api_url: str, cell: Cell) -> Iterator[list[Injected]]:
        """Exactly this cell's faults inside; what was read back, as evidence at t = 0."""
        toxiproxy = Toxiproxy(api_url)
        with toxiproxy.armed(cell.faults, cell.knobs):
            yield toxiproxy.injected(0.0)


@contextmanager
def open_stack(
    asked: str, results: Path, toxiproxy: str = "auto"
) -> Iterator[tuple[EmbeddedStack, str]]:
    """The stack to use, and why in a few words; closed whatever happens.

    Raises:
        MissingComponent: the real Toxiproxy was asked for and is not here.
    """
    stack = EmbeddedStack(results, toxiproxy)
    try:
        why = "asked for" if asked == stack.name else "auto: it needs neither Docker nor root"
        yield stack, f"{why}; {stack.toxiproxy_variant} Toxiproxy"
    finally:
        stack.close()


def toxiproxy_version(stack: EmbeddedStack) -> str:
    """What the stack's Toxiproxy is: its variant, for the stamp on a result."""
    return stack.toxiproxy_variant
