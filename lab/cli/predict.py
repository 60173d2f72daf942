"""``lab predict``: what a model says of each cell of a spec, before it is measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lab.cli.options import (
    SpecName,
    Whole,
    json_option,
    print_json,
    print_message,
    print_text,
    results_option,
    settings_options,
    style,
)
from lab.errors import LabError, UsageError
from lab.model.experiment import Cell
from lab.model.load import ClosedLoad
from lab.store import RunFolder, find

if TYPE_CHECKING:  # imported where they are used: who asks for help waits for no simulation
    from lab.capacity.measured import MeasuredCell
    from lab.model.prediction import Prediction

MAX_USERS = 10**7
"""As many as there may be of a service that is only calculated."""

MAX_INSTANCES = 10**5


@click.command()
@click.argument("spec", required=False, type=SpecName(), metavar="[SPEC]")
@settings_options
@click.option(
    "--only",
    multiple=True,
    metavar="GLOB",
    help="Only the cells whose id matches, as 'workers=2,*'; repeatable.",
)
@click.option(
    "--users",
    type=Whole(1, MAX_USERS),
    help="In place of the spec's users; more than a replica could have, too.",
)
@click.option(
    "--instances",
    type=Whole(1, MAX_INSTANCES),
    default=1,
    show_default=True,
    help="Machines, each with all of the spec's workers, that share one database; on Cloud Run "
    "the instances there may be.",
)
@click.option(
    "--most-users",
    "max_users",
    type=Whole(1, MAX_USERS),
    help="Look for no threshold above. Default: 200, or the users that are asked for.",
)
@click.option(
    "--run",
    "ref",
    metavar="RUN",
    help="A stored run, of whose cells the stage times are taken, and whose figures are told "
    "beside: a folder, a name's unique prefix, or latest.",
)
@click.option("--seed", type=Whole(0, 2**31 - 1), default=1, show_default=True, help="Of chance.")
@results_option
@json_option
def command(
    spec: Path | None,
    settings: tuple[str, ...],
    preset: str | None,
    only: tuple[str, ...],
    users: int | None,
    instances: int,
    max_users: int | None,
    ref: str | None,
    seed: int,
    results: Path,
    as_json: bool,
) -> int | None:
    """Calculate every cell of SPEC by a model; nothing is started.

    The model is the closed network of a cell: users who think, workers with their event loops,
    threads and pools, the database, storage and the proxy, simulated event by event. It takes what
    work costs from a usual machine, or with --run from what was measured; then SPEC may be left
    out, and what was measured is told beside what is predicted.

    \b
    The table has a row a cell:
      late             successes that take a criterion's bound, or longer
      limit            what late uploads wait for, or what makes most fail
      threshold,       the most users at whom a criterion is met, and one more
      simulated
      by the laws of   what fails first as users grow, by bounds alone: rougher,
      queues alone     and for any number, as --users 100000 --instances 200

    Exit code: 0 there is a prediction of every cell; 4 the model does not know one.
    """
    from lab.report.predictions import predictions_data, predictions_text

    stored = find(results, ref) if ref is not None else None
    cells = _cells(spec, settings, preset, only, stored)
    if users is not None:
        cells = [_with_users(cell, users) for cell in cells]
    known = _measured(stored, cells) if stored else {}
    found = list(_predictions(cells, known, instances, max_users, seed))
    if all(one.unknown for one in found):
        what, _, remedy = found[0].unknown.partition(" - ")
        raise UsageError(what, remedy)
    data = predictions_data(found)
    print_json(data) if as_json else print_text(predictions_text(found, style()))
    return 4 if any(one.unknown for one in found) else None


def _cells(
    spec: Path | None,
    settings: tuple[str, ...],
    preset: str | None,
    only: tuple[str, ...],
    stored: RunFolder | None,
) -> list[Cell]:
    """The cells of a spec, or of a stored run.

    Raises:
        UsageError: neither is given, settings for stored cells, or one of ``only`` takes none.
        LabError: the spec is wrong.
    """
    from lab.cli import session
    from lab.plan import check_only, select

    if spec is not None:
        overrides = session.Overrides(settings, preset, only=only)
        [planned] = session.plan("run", [spec], overrides, None)
        for note in planned.idle:
            print_message(note)
        return list(planned.cells)
    if stored is None:
        raise UsageError("no spec is given", "write one, as `lab predict workers-x-pool`")
    if settings or preset:
        what = "the cells of a stored run are predicted as they are"
        raise UsageError(what, "leave the settings out, or give the spec as well")
    cells = stored.cells()
    check_only(only, [cell.id for cell in cells], stored.info.name)
    return list(select(cells, only))


def _with_users(cell: Cell, users: int) -> Cell:
    """A cell with other users.

    Raises:
        UsageError: its load has none.
    """
    if not isinstance(cell.load, ClosedLoad):
        what = f"{cell.id}: a load of kind {cell.load.kind} has no users to set"
        raise UsageError(what, "leave --users out, or give a spec with users and a window")
    return cell.model_copy(update={"load": cell.load.model_copy(update={"users": users})})


def _measured(stored: RunFolder, cells: Sequence[Cell]) -> dict[str, RunFolder]:
    """The run by the ids of those cells that it has measured.

    Raises:
        UsageError: it has none of them.
    """
    known = {cell.id: stored for cell in cells if stored.cell(cell.id).finished()}
    if not known:
        raise UsageError(
            f"{stored.info.name} has measured no cell of these",
            "give a run of the same spec, or leave --run out",
        )
    return known


def _predictions(
    cells: Sequence[Cell],
    known: Mapping[str, RunFolder],
    instances: int,
    max_users: int | None,
    seed: int,
) -> Iterator[Prediction]:
    """Each cell's, with a line on standard error as it is begun where there are several."""
    from lab.capacity.predict import predict

    for number, cell in enumerate(cells, start=1):
        if len(cells) > 1:
            print_message(f"predicting {number} of {len(cells)}: {cell.id}")
        measured = None
        if run := known.get(cell.id):
            try:
                cell, measured = _stored(cell, run)
            except LabError as error:
                print_message(f"not compared: {error}")
        most = max_users or max(200, cell.load.peak_users)
        yield predict(cell, measured, instances=instances, max_users=most, seed=seed)


def _stored(cell: Cell, run: RunFolder) -> tuple[Cell, MeasuredCell]:
    """The cell at the speed at which it was measured, and what was.

    Raises:
        LabError: something of it cannot be read, or it shows too little.
    """
    from lab.capacity.measured import measured_of
    from lab.model.verdict import Outcome

    folder = run.cell(cell.id)
    stored, verdict = folder.read_cell(), folder.read_verdict()
    if verdict.outcome is Outcome.INVALID:
        print_message(f"{cell.id} is invalid in {run.info.name}: {verdict.reasons[0]}")
    measured = measured_of(stored, folder.read_observation(), verdict.metrics)
    if cell.load != stored.load:
        measured = replace(measured, figures=None)
    return cell.at_speed(stored.knobs.speed), measured
