"""What would have kept a cell from being invalid: in words, and as the speed that fits."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from lab.model.experiment import Cell
from lab.model.fidelity import true_speed
from lab.model.verdict import InvalidityKind


class CheckRemedy(NamedTuple):
    """What to do about a check that is not ok.

    Args:
        text: the same in words.
        kind: of the `lab.model.verdict.Invalidity` that follows.
        fitting: the speed that would do, of it.
    """

    text: str
    kind: InvalidityKind = "injection"
    fitting: float | None = None


def fitting_speed(speed: float, fits: Callable[[float], bool]) -> float | None:
    """The highest speed below this one, in halves, at which something fits; None: at none."""
    return true_speed(speed, fits) if speed > 1 and fits(1.0) else None


def slower(cell: Cell, fitting: float | None) -> str:
    """What to do about a speed that is too high; the lab changes none that was given by hand."""
    if fitting is None:
        return "lower --speed" if cell.knobs.speed > 1 else "lower the users"
    if cell.auto_speed:
        return f"`--resume` measures it again, at a speed of {fitting:g} at most"
    return f"lower --speed, to about {fitting:g}, or let the lab choose it (speed: auto)"
