"""``lab export``: a stored run in formats that other programs read."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from itertools import chain, islice
from pathlib import Path

import click

from lab.cli.options import (
    PathName,
    print_message,
    print_text,
    refuse_together,
    results_option,
)
from lab.errors import LabError, StoreError, UsageError
from lab.files import Folder, storing
from lab.model.evidence import Observation
from lab.model.run import DamagedCell
from lab.report.exports import NAMES, ExportedCell, ExportedRun, Format, format_named
from lab.store import CellFolder, RunFolder, find
from lab.store.cells import folder_name

STDOUT = "-"


class ExportCommand(click.Command):
    """The command, whose help lists the formats."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_options(ctx, formatter)
        with formatter.section("Formats"):
            formatter.write_dl([(name, format_named(name).about) for name in NAMES])


@click.command(cls=ExportCommand)
@click.argument("run", metavar="RUN")
@click.option("--to", "name", type=click.Choice(NAMES), required=True, help="The format.")
@click.option(
    "-o",
    "--output",
    type=PathName(),
    metavar="FILE|DIR",
    help="Where it is written; - is standard output, for a format of one file. Without it: in "
    "this folder, named as the run.",
)
@click.option(
    "--endpoint",
    metavar="URL",
    help="Of otlp: post it to this collector (OTLP over HTTP, as http://127.0.0.1:4318), in place "
    "of a file.",
)
@results_option
def command(
    run: str, name: str, output: Path | None, endpoint: str | None, results: Path
) -> int | None:
    """Write a stored run for other programs.

    RUN is a folder, a name's unique prefix, or latest. It is exported after it was measured, never
    meanwhile. Of one that is not finished, what is there is exported.

    Exit code: 0; 4 where a cell is not finished or something stored of it is damaged, which is
    told, and left out.
    """
    refuse_together({"--output": output is not None, "--endpoint": endpoint is not None})
    folder, form = find(results, run), format_named(name)
    if endpoint is not None and form.batches is None:
        raise UsageError(f"no server takes {name} from the lab", "leave --endpoint out")
    folder.check_idle()
    stored = _Stored(folder)
    exported = stored.run()
    if endpoint is not None and form.batches is not None:
        from lab.cli.collector import post  # here alone: no file waits for the client of HTTP

        print_message(post(endpoint, form.batches(exported)))
    else:
        _write(form, name, exported, folder, output)
    return stored.tell_rest(exported) or None


class _Stored:
    """A run folder as what is exported, and what of it could not be."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._problems: dict[str, str] = {}

    def run(self) -> ExportedRun:
        """The finished cells and trials.

        Raises:
            UsageError: there is none.
        """
        folder = self._folder
        is_search = folder.info.kind == "threshold"  # whose cells are measured as trials alone
        found = folder.walk(self._declared) if not is_search else None
        cells = list(found.told) if found else []
        damaged = list(found.damaged) if found else []
        for trial in folder.undeclared():
            try:
                cells += [self._cell(trial)] if trial.finished() else []
            except LabError as error:
                damaged.append(DamagedCell(id=trial.id, problem=str(error)))
        name = folder.info.name
        if not cells:
            why = f": {damaged[0].problem}" if damaged else ""
            raise UsageError(f"{name} has no cell to export{why}", "`lab run --resume` goes on")
        return ExportedRun(folder.info, cells, found.missing if found else (), tuple(damaged))

    def _declared(self, cell_id: str) -> ExportedCell | None:
        folder = self._folder.cell(cell_id)
        return self._cell(folder) if folder.finished() else None

    def _cell(self, folder: CellFolder) -> ExportedCell:
        cell = folder.read_cell()
        return ExportedCell(cell, self._folder.result(cell.id), lambda: self._observed(folder))

    def _observed(self, folder: CellFolder) -> Observation:
        """What was seen of a cell; nothing, and it is told, where that cannot be read."""
        try:
            return folder.read_observation()
        except LabError as error:
            self._problems[folder.id] = str(error)
            return Observation(samples=(), evidence=())

    def tell_rest(self, run: ExportedRun) -> int:
        """Say what is not exported; the exit code."""
        if run.missing:
            names = "; ".join(run.missing[:4]) + ("; ..." if len(run.missing) > 4 else "")
            print_message(f"not finished, and left out: {names} - `lab run --resume` goes on")
        problems = {cell.id: cell.problem for cell in run.damaged} | self._problems
        for problem in problems.values():
            print_message(f"damaged, and left out: {problem}")
        return 4 if run.missing or problems else 0


def _write(
    form: Format, name: str, run: ExportedRun, folder: RunFolder, output: Path | None
) -> None:
    """Write the files, and print where they are.

    Raises:
        UsageError: a folder is to be standard output, or they would be written into the run.
        StoreError: they cannot be written.
    """
    if output is not None and str(output) == STDOUT:
        _print(form, name, run)
        return
    own = folder_name(folder.path.resolve().name)
    if form.is_folder:
        target = output or Path(f"{own}-{name}")
        places = {target / file: writer for file, writer in form.files.items()}
    else:
        [(file, writer)] = form.files.items()
        places = {output or Path(f"{own}-{file}"): writer}
    for place, writer in places.items():
        _check_apart(place, folder)
        _store(place, writer(run), form.is_folder)
        print_text(f"{place}\n")


def _print(form: Format, name: str, run: ExportedRun) -> None:
    if form.is_folder:
        what = f"{name} is several files, which have no place on standard output"
        raise UsageError(what, "name a folder, as -o exported")
    [writer] = form.files.values()
    for piece in writer(run):
        print_text(piece.decode())


def _check_apart(place: Path, folder: RunFolder) -> None:
    """Keep exports out of a run's folder, in which whatever is not the lab's is foreign."""
    if folder.path.resolve() in place.resolve().parents:
        raise UsageError(f"{place} is within the run itself", "choose another place with -o")


def _store(place: Path, pieces: Iterable[bytes], in_folder: bool) -> None:
    if place.is_dir():
        what = f"{place} is a folder, and the export is one file"
        raise UsageError(what, "name a file with -o")
    rest = iter(pieces)
    begun = list(islice(rest, 1))  # what is missing for it is found out before anything is made
    try:
        if in_folder:
            with storing(place.parent, "make it"):
                place.parent.mkdir(parents=True, exist_ok=True)
        Folder(place.parent).write(place.name, chain(begun, rest))
    except StoreError as error:
        raise StoreError(error.what, _remedy(error)) from error


def _remedy(error: StoreError) -> str | None:
    """What to do where an export cannot be written."""
    number = error.__cause__.errno if isinstance(error.__cause__, OSError) else None
    if number is None:
        return error.remedy
    if number == errno.ENOENT:
        return "make its folder, or name another with -o"
    full = number in (errno.ENOSPC, errno.EDQUOT)
    return f"{'free some space on its disk, or ' if full else ''}name another place with -o"
