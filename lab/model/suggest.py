"""The remedy for a name that nobody knows."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like this one; None where no name is near it."""
    return next(iter(get_close_matches(name, list(known), n=1)), None)


def suggest(name: str, known: Iterable[str], otherwise: str | None = None) -> str:
    """A remedy: the nearest name that is known; else ``otherwise``, or all that are known."""
    known = list(known)
    near = nearest(name, known)
    if near is not None:
        return f"did you mean '{near}'?"
    return otherwise or f"known are: {', '.join(known) or 'none'}"


def closest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The names that are known and come nearest, the nearest first, however far they are."""
    return get_close_matches(name, list(known), n=count, cutoff=0.0)
