"""Some of an experiment's cells, by their ids; pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from lab.errors import UsageError
from lab.model.experiment import Cell
from lab.model.suggest import closest


def select(cells: Iterable[Cell], only: Sequence[str]) -> tuple[Cell, ...]:
    """The cells whose id is, or matches, one of these; all where there are none.

    Args:
        cells: of an experiment.
        only: ids, or patterns of a shell: ``*`` for any text, ``?`` for one character, ``[ab]``.
    """
    return tuple(cell for cell in cells if not only or any(_takes(one, cell.id) for one in only))


def uncompared(cells: Sequence[Cell]) -> list[str]:
    """A sentence for each baseline that cells have and that is none of them."""
    ids = {cell.id for cell in cells}
    left_out = dict.fromkeys(cell.baseline for cell in cells if cell.baseline)
    return [
        f"the baseline {name} is left out, so nothing is compared with it"
        for name in left_out
        if name not in ids
    ]


def check_only(only: Sequence[str], ids: Sequence[str], where: str) -> None:
    """See that each of them takes a cell.

    Raises:
        UsageError: one takes none; the message has the nearest ids.
    """
    for one in only:
        if not any(_takes(one, name) for name in ids):
            near = ", ".join(f"'{name}'" for name in closest(one, ids))
            raise UsageError(f"--only '{one[:100]}' takes no cell of {where}", f"near it: {near}")


def _takes(only: str, name: str) -> bool:
    return only == name or fnmatchcase(name, only)
