"""What several reports ask of cells: in what they differ, and which bound they have."""

from __future__ import annotations

from collections.abc import Sequence

from lab.model.criterion import Criterion
from lab.model.run import CellResult


def varying_axes(cells: Sequence[CellResult]) -> list[str]:
    """The axes in which the cells differ, in the spec's order; all of a single cell's."""
    names = list(dict.fromkeys(name for cell in cells for name in cell.axes))
    if len(cells) < 2:
        return names
    return [name for name in names if len({cell.axes.get(name) for cell in cells}) > 1]


def upper_bound(cell: CellResult, name: str = "p95") -> float | None:
    """The upper bound that the cell's criteria set on a metric, in its unit; None: none does."""
    criteria = [Criterion.parse(finding.criterion) for finding in cell.findings]
    bounds = [
        c.bound for c in criteria if c.name == name and c.op in ("<", "<=") and not c.relative
    ]
    return min(bounds, default=None)
