"""The claims of the lab's own: each is read, its cells are there, and they can decide it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from lab.claims import undecidable
from lab.config import claim_files, read_claim, read_experiment, read_faults
from lab.model.claims import ReportClaim
from lab.model.experiment import Cell
from lab.paths import ROOT
from lab.plan import estimate, expand

FOLDER = ROOT / "experiments"
FILES = claim_files(FOLDER / "claims")
SPECS = {file.stem for file in FOLDER.glob("*.yaml")}
FAULTS = read_faults(ROOT / "faults")
MOST_S = 40 * 60
"""Wall-clock seconds that all may take on a usual machine where nothing is stored."""


@cache
def cells_of(spec: str) -> dict[str, Cell]:
    experiment = read_experiment(FOLDER / f"{spec}.yaml", FAULTS)
    return {cell.id: cell for cell in expand(experiment, FAULTS)}


@cache
def read(file: Path) -> ReportClaim:
    return read_claim(file, SPECS, cells_of, undecidable)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.stem))
def test_it_is_read_and_says_something(file: Path) -> None:
    claim = read(file)
    assert claim.says.endswith(".")
    assert claim.says[0].isupper() or claim.says[0].isdigit()


def test_there_are_enough_and_no_two_say_the_same() -> None:
    claims = [read(file) for file in FILES]
    assert len(claims) >= 28
    assert len({claim.says for claim in claims}) == len(claims)


def test_cells_are_shared_and_measured_in_time() -> None:
    claims = [read(file) for file in FILES]
    named = {cell for claim in claims for cell in claim.cells.values()}
    assert len(named) < len(claims)
    assert estimate([cells_of(cell.spec)[cell.cell] for cell in named]) < MOST_S


def test_no_cell_ends_before_its_figures_are_whole() -> None:
    named = {cell for file in FILES for cell in read(file).cells.values()}
    assert not any(cells_of(cell.spec)[cell.cell].stop_when_decided for cell in named)
