"""Which stored run answers for a cell: the latest in which it was measured as its spec asks.

A run is known by what was asked of its cells, not by its name alone: at other settings, or under
another load, it is no answer. Neither its criteria nor its seed matter, since a claim brings its
criteria and holds for any seed; nor does a speed that the lab chose.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.claims.ledger import StoredCell
from lab.errors import LabError
from lab.model.claims import ClaimCell
from lab.model.experiment import Cell
from lab.model.verdict import Outcome
from lab.store import RunFolder, of_experiment

UNASKED = {"id", "axes", "criteria", "baseline", "relative", "seed"} | {
    "auto_speed",
    "speed_reason",
    "split",
}
"""The fields of a cell that change nothing of what it measures."""


def latest(
    results: Path, wanted: Mapping[ClaimCell, Cell], stack: str = "auto", seeded: bool = False
) -> dict[ClaimCell, StoredCell | str]:
    """By cell, the latest stored one that answers for it, or why there is none.

    One that is invalid, or unfinished, is passed over for an earlier run; one that cannot be read
    is not.

    Args:
        results: the results folder.
        wanted: the cells, as their specs have them now.
        stack: runs on this stack alone; ``auto``: on any.
        seeded: whether a cell of another seed is another one.

    Raises:
        StoreError: the results folder cannot be read.
    """
    return {
        name: _latest(of_experiment(results, name.spec), name, cell, stack, seeded)
        for name, cell in wanted.items()
    }


def _latest(
    runs: tuple[Path, ...], name: ClaimCell, wanted: Cell, stack: str, seeded: bool
) -> StoredCell | str:
    why = ""
    for path in runs:
        try:
            found = _stored(path, name, wanted, stack, seeded)
        except LabError as error:
            return str(error)
        if isinstance(found, StoredCell):
            return found
        why = why or found
    return why or "no run of it is stored"


def _stored(
    path: Path, name: ClaimCell, wanted: Cell, stack: str, seeded: bool
) -> StoredCell | str:
    """The cell of one run, or why that run does not answer; empty where it is about others."""
    run = RunFolder.open(path)
    if run.info.kind != "run" or name.cell not in run.info.cells:
        return ""
    if stack not in ("auto", run.info.stack):
        return f"{run.info.name} ran on the {run.info.stack} stack"
    folder = run.cell(name.cell)
    cell = folder.read_cell()
    if _what_is_asked(cell, wanted, seeded) != _what_is_asked(wanted, wanted, seeded):
        return f"{run.info.name} was made at other settings than its spec's"
    if not folder.finished():
        return f"{run.info.name} did not come to it"
    verdict = folder.read_verdict()
    if verdict.outcome is Outcome.INVALID:
        return f"it is invalid in {run.info.name}: {' '.join(verdict.reasons[:1])}"
    result = run.result(name.cell)
    return StoredCell(run.info, cell, folder.read_observation(), verdict, result)


def _what_is_asked(cell: Cell, wanted: Cell, seeded: bool) -> dict[str, Any]:
    data = cell.model_dump(mode="json", exclude=UNASKED - ({"seed"} if seeded else set()))
    if wanted.auto_speed:
        del data["knobs"]["speed"]
    return data
