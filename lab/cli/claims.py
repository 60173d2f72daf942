"""``lab claims``: the report's claims, decided by stored runs, and by what is missing of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lab import paths
from lab.claims import StoredCell, latest, ledger, undecidable
from lab.cli import session
from lab.cli.options import (
    PathName,
    Whole,
    json_option,
    known_faults,
    own_specs,
    print_json,
    print_message,
    print_text,
    refuse_together,
    results_option,
    retries_option,
    stack_options,
    style,
)
from lab.cli.run import measure, plan_of
from lab.cli.session import Planned
from lab.config import claim_files, read_claim, read_experiment
from lab.errors import SpecError
from lab.model.claims import ClaimCell, ReportClaim
from lab.model.experiment import Cell, Experiment
from lab.model.suggest import suggest
from lab.plan import check_pace, expand, without_effect
from lab.report import ledger_markdown, ledger_text
from lab.report.format import clock, plural

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

FOLDER = "claims"
"""Where claims are, in the folder of the specs."""


class ClaimName(PathName):
    """A CLAIM: a file, a folder of files, or the name of one of the lab's own."""

    def shell_complete(self, ctx: Any, param: Any, incomplete: str) -> list[CompletionItem]:
        """The files first, as of a spec."""
        from click.shell_completion import CompletionItem

        files = super().shell_complete(ctx, param, incomplete)
        names = (name for name in own_claims() if name.startswith(incomplete))
        return [*files, *map(CompletionItem, names)]


@click.command()
@click.argument("claims", nargs=-1, type=ClaimName(), metavar="[CLAIM]...")
@click.option("--run", "run_missing", is_flag=True, help="Measure first what is not stored.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Print the cells that are not stored and the time they take, and start nothing.",
)
@click.option(
    "--seed",
    type=Whole(0, 2**31 - 1),
    help="In place of the specs': users, files and arrivals of other draws. Only cells of this "
    "seed count.",
)
@click.option("--markdown", is_flag=True, help="Print Markdown, as docs/claims.md is.")
@stack_options
@retries_option
@results_option
@json_option
def command(
    claims: tuple[Path, ...],
    run_missing: bool,
    dry_run: bool,
    seed: int | None,
    markdown: bool,
    stack: str,
    toxiproxy: str,
    retries: int,
    results: Path,
    as_json: bool,
) -> int | None:
    """Print what became of the report's claims.

    A CLAIM is a file, a folder of such files, or the name of one of the lab's own; all of these
    where none is given. Each is decided by the latest stored run of every cell that it names, from
    stored files alone: confirmed, refuted, undecided with what it would take, or not measured.

    With --run what is not stored is measured first, one run a spec; with --dry-run too it is only
    listed.

    Exit code: 0 every claim is confirmed or refuted; 4 one is undecided or not measured.
    """
    refuse_together({"--markdown": markdown, "--json": as_json, "--dry-run": dry_run and markdown})
    bench = _Bench(seed)
    read = [bench.read(file) for file in _files(claims)]
    wanted = {cell: bench.cell(cell) for claim in read for cell in claim.cells.values()}
    found = latest(results, wanted, stack, seeded=seed is not None)
    missing = list(bench.missing(found))
    if dry_run:
        _print_plan(missing, stack, toxiproxy, retries, as_json)
        return None
    if run_missing and missing:
        _measure(missing, stack, toxiproxy, retries, results)
        found = latest(results, wanted, stack, seeded=seed is not None)
    answer = ledger(read, found)
    if as_json:
        print_json(answer.model_dump(mode="json"))
    else:
        print_text(ledger_markdown(answer) if markdown else ledger_text(answer, style()))
    return 0 if answer.decided else 4


def own_claims() -> dict[str, Path]:
    """The files of the lab's own claims, by name.

    Raises:
        MissingComponent: their folder is not there.
    """
    return {file.stem: file for file in claim_files(paths.data("experiments", FOLDER))}


def _files(given: Sequence[Path]) -> list[Path]:
    """The claim files that are meant, each once.

    Raises:
        SpecError: a folder without any, or neither a file nor a claim of the lab.
    """
    own = own_claims()
    found = [file for path in given for file in _meant(path, own)] or [*own.values()]
    return list(dict.fromkeys(found))


def _meant(given: Path, own: Mapping[str, Path]) -> list[Path]:
    if given.is_dir():
        return claim_files(given)
    if given.parent != Path() or given.suffix == ".yaml" or given.exists():
        return [given]
    if given.name not in own:
        what = "neither a file nor a claim of the lab"
        raise SpecError(what, suggest(given.name, own), str(given))
    return [own[given.name]]


@dataclass(frozen=True)
class _Spec:
    """A spec, read and expanded."""

    file: Path
    experiment: Experiment
    cells: Mapping[str, Cell]


class _Bench:
    """The specs that claims name, each read when it is first asked for.

    One of this folder's ``experiments`` goes before the lab's own of its name, as its claims do.
    """

    def __init__(self, seed: int | None) -> None:
        self._seed = seed
        self._read: dict[str, _Spec] = {}

    @cached_property
    def _faults(self) -> Mapping[str, Any]:
        return known_faults()

    def read(self, file: Path) -> ReportClaim:
        """A claim file; its specs stand in the folder above it, else they are the lab's own."""
        self._files = own_specs() | {spec.stem: spec for spec in file.parent.parent.glob("*.yaml")}
        return read_claim(file, self._files, lambda name: self._spec(name).cells, undecidable)

    def cell(self, name: ClaimCell) -> Cell:
        """A cell that a claim names."""
        return self._spec(name.spec).cells[name.cell]

    def _spec(self, name: str) -> _Spec:
        file = self._files[name]
        if name not in self._read:
            self._read[name] = self._expanded(file)
        if not self._read[name].file.samefile(file):
            what = (
                f"two specs of that name are asked for, here and in {self._read[name].file.parent}"
            )
            raise SpecError(what, "judge the claims of one folder at a time", str(file))
        return self._read[name]

    def _expanded(self, file: Path) -> _Spec:
        experiment = read_experiment(file, self._faults)
        if self._seed is not None:
            experiment = experiment.model_copy(update={"seed": self._seed})
        try:
            cells = expand(experiment, self._faults)
        except SpecError as error:
            raise SpecError(error.what, error.remedy, str(file)) from None
        return _Spec(file, experiment, {cell.id: cell for cell in cells})

    def missing(self, found: Mapping[ClaimCell, StoredCell | str]) -> Iterator[Planned]:
        """The specs of which cells are not stored, with these cells alone."""
        names = [name for name, stored in found.items() if isinstance(stored, str)]
        for spec_name, spec in self._read.items():
            asked = {name.cell for name in names if name.spec == spec_name}
            cells = tuple(cell for cell in spec.cells.values() if cell.id in asked)
            if cells:
                check_pace(cells)
                idle = tuple(without_effect(spec.experiment, {}, cells))
                yield Planned(str(spec.file), spec.experiment, cells, idle=idle)


def _only(spec: Planned) -> tuple[str, ...]:
    return tuple(cell.id for cell in spec.cells)


def _print_plan(
    missing: Sequence[Planned], stack: str, toxiproxy: str, retries: int, as_json: bool
) -> None:
    known = list(session.at_known_speeds(missing, stack, toxiproxy, None))
    plans = [plan_of(spec, retries=retries) for spec in known]
    if as_json:
        print_json([plan.as_json() for plan in plans])
        return
    cells = plural(sum(len(plan.cells) for plan in plans), "cell")
    whole = clock(sum(plan.estimate_s for plan in plans))
    print_text("".join(plan.text() for plan in plans) + f"in all: {cells}, about {whole}\n")


def _measure(
    missing: Sequence[Planned], stack: str, toxiproxy: str, retries: int, results: Path
) -> None:
    """Measure each spec's missing cells as `lab run --only` does, and store them."""
    choice = session.which_stack(missing, stack, toxiproxy, None)
    for number, spec in enumerate(missing, start=1):
        name = spec.experiment.experiment
        cells = plural(len(spec.cells), "cell")
        print_message(f"spec {number} of {len(missing)}: {cells} of {name}")
        with closing(measure([spec], choice, toxiproxy, results, _only(spec), retries)) as runs:
            for report in runs:
                print_message(f"stored in {report.run.path}")
