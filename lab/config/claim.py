"""A claim file to a ReportClaim, whose cells there are and whose criteria they can decide."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from lab.config.document import Document, Loc, read_document
from lab.config.explain import validated
from lab.errors import SpecError
from lab.model.claims import ClaimCell, Condition, ReportClaim
from lab.model.experiment import Cell
from lab.model.suggest import suggest

Problem = tuple[str, str]
"""What is wrong, and the remedy."""

CellsOf = Callable[[str], Mapping[str, Cell]]
Check = Callable[[Condition, Cell, Cell | None], Problem | None]


def read_claim(file: Path, specs: Collection[str], cells_of: CellsOf, check: Check) -> ReportClaim:
    """Read one claim file.

    Args:
        file: the YAML file.
        specs: names of the specs there are.
        cells_of: the cells of one, by id.
        check: why no load of a condition's cells could decide it; None where one can.

    Raises:
        SpecError: anything wrong with it, as ``file:line:column: what - remedy``; also a spec of
            one of its cells that cannot be read.
    """
    document = read_document(file)
    claim = validated(ReportClaim, document)
    if claim.claim != file.stem:
        what = f"the claim is called '{claim.claim}', the file '{file.stem}'"
        raise document.error(("claim",), what, f"write 'claim: {file.stem}', or rename the file")
    cells = {
        label: _cell(document, ("cells", label), asked, specs, cells_of)
        for label, asked in claim.cells.items()
    }
    for number, condition in enumerate(claim.conditions):
        refutes = number - len(claim.confirmed_if)
        path: Loc = ("confirmed_if", number) if refutes < 0 else ("refuted_if", refutes)
        _check_form(document, path, condition, cells)
        if condition in claim.conditions[:number]:
            raise document.error(path, f"condition '{condition}' stands here twice", "remove one")
        beside = cells[condition.beside] if condition.beside else None
        if problem := check(condition, cells[condition.cell], beside):
            raise document.error((*path, "criterion"), *problem)
    _refuse_idle(document, claim)
    if bool(claim.refuted_if) != bool(claim.takes):
        what = "'refuted_if' and 'takes' go together: what lies between is undecided"
        remedy = "say what would decide it" if claim.refuted_if else "leave 'takes' out"
        raise document.error(("refuted_if",) if claim.refuted_if else ("takes",), what, remedy)
    return claim


def _cell(
    document: Document, path: Loc, asked: ClaimCell, specs: Collection[str], cells_of: CellsOf
) -> Cell:
    if asked.spec not in specs:
        what = f"there is no spec '{asked.spec}'"
        raise document.error((*path, "spec"), what, suggest(asked.spec, specs))
    cells = cells_of(asked.spec)
    if asked.cell not in cells:
        what = f"{asked.spec} has no cell '{asked.cell}'"
        raise document.error((*path, "cell"), what, suggest(asked.cell, cells))
    return cells[asked.cell]


def _check_form(
    document: Document, path: Loc, condition: Condition, cells: Collection[str]
) -> None:
    for key, what, remedy in _problems(condition, cells):
        raise document.error((*path, key) if key else path, what, remedy)


def _problems(condition: Condition, cells: Collection[str]) -> Iterator[tuple[str, str, str]]:
    """What is wrong with a condition for itself: at which key, what, and the remedy."""
    criterion, beside = condition.criterion, condition.beside
    for key, label in (("cell", condition.cell), ("beside", beside)):
        if label is not None and label not in cells:
            yield key, f"'{label}' is not one of the claim's cells", suggest(label, cells)
    if (criterion is None) == (condition.limit is None):
        what = "a condition has either a criterion or a limit"
        yield "", what, "write one of them, as `criterion: p95 < 10 s`"
    if criterion is not None and criterion.relative and beside is None:
        what = f"criterion '{criterion}' is held against no other cell"
        yield "criterion", what, "name it, as `beside: as-found`"
    if beside is not None and not (criterion is not None and criterion.relative):
        what = "only a criterion of the form 'throughput > 1.8 x baseline' is held beside a cell"
        yield "beside", what, "leave it out"
    if beside == condition.cell:
        yield "beside", f"'{beside}' is held against itself", "name another cell"


def _refuse_idle(document: Document, claim: ReportClaim) -> None:
    used = {name for one in claim.conditions for name in (one.cell, one.beside)}
    for label in claim.cells:
        if label not in used:
            what = f"no condition is about cell '{label}'"
            raise document.error(("cells", label), what, "leave it out", at_key=True)


def claim_files(folder: Path) -> list[Path]:
    """The claim files of a folder, in the order of their names.

    Raises:
        SpecError: there is no such folder, or no claim in it.
    """
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise SpecError(
            "no claim is there", "a claim is a YAML file, as `lab init` copies them", str(folder)
        )
    return files
