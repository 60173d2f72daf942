"""What would have kept a cell from being invalid: in words, and as the speed that fits."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from lab.model.experiment import Cell
from lab.model.fidelity import true_speed
from lab.model.verdict import Invalidity, InvalidityKind

FEWER = "lower the users"
"""What less work takes, where no speed would do."""


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


def too_fast(
    cell: Cell,
    what: str,
    fits: Callable[[float], bool],
    besides: str = "",
    instead: str = FEWER,
) -> Invalidity:
    """A reason that lies in this cell's speed.

    Args:
        cell: as it was measured.
        what: the reason.
        fits: whether it would be none at a speed.
        besides: what else would do where a lower speed does: a verb in the imperative.
        instead: what to do where none does.
    """
    fitting = fitting_speed(cell.knobs.speed, fits)
    also = f"{besides} or " if besides and fitting and not cell.auto_speed else ""
    reason = f"{what} - {also}{slower(cell, fitting, instead)}"
    return Invalidity(kind="speed", reason=reason, fitting=fitting)


def slower(cell: Cell, fitting: float | None, instead: str = FEWER) -> str:
    """What to do about a speed that is too high; the lab changes none that was given by hand.

    Args:
        cell: as it was measured.
        fitting: the highest speed that would do; None where there is none.
        instead: what to do then.
    """
    if fitting is None:
        return instead if cell.knobs.speed == 1 else f"{instead}: no lower speed would do"
    if cell.auto_speed:
        return f"`--resume` measures it again, at a speed of {fitting:g} at most"
    return f"lower --speed, to about {fitting:g}, or let the lab choose it (speed: auto)"
