"""The report's pictures: each is a file, found by its row here.

    cells of a run   OF_RUN   ─┐
                               ├─> Picture, a block ─> page: a drawing, and its figures as a table
    one cell         OF_CELL  ─┘                       text: the table, where it says so

A picture is made of what is stored of a cell and of nothing else; None where there is nothing to
show. It is a block like any other (`lab.report.blocks.Picture`), so that a page of something else
than cells puts its own into `Page.pictures`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lab.model.run import CellResult
from lab.report.blocks import Picture
from lab.report.pictures import by_users, heat_map, latencies, replica, time_spent

OF_RUN: tuple[Callable[[Sequence[CellResult]], Picture | None], ...] = (
    heat_map.picture,
    time_spent.of_run,
    by_users.picture,
)
"""The pictures of all cells together, in the page's order."""

OF_CELL: tuple[Callable[[CellResult], Picture | None], ...] = (
    time_spent.of_cell,
    replica.of_cell,
    latencies.of_cell,
)
"""Those of one cell, under its limit; over time it is drawn beside its stages."""


def of_run(cells: Sequence[CellResult]) -> tuple[Picture, ...]:
    """The pictures of a run that it has enough for."""
    return tuple(found for make in OF_RUN if (found := make(cells)))


def of_cell(cell: CellResult) -> tuple[Picture, ...]:
    """The pictures of a cell that it has enough for."""
    return tuple(found for make in OF_CELL if (found := make(cell)))
