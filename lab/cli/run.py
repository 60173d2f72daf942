"""``lab run``: starts a replica, measures every cell, and ends it."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from lab.calibrate.pace import PROBE_S
from lab.cli import session
from lab.cli.options import (
    SpecName,
    Whole,
    folder_of,
    json_option,
    paced_options,
    print_json,
    print_message,
    print_text,
    results_option,
    retries_option,
    stack_options,
    target_option,
)
from lab.cli.session import Planned
from lab.cli.stored import StoredReport, exit_code, report_of
from lab.cli.watcher import watched
from lab.cli.wiring import StackChoice, split_model
from lab.model.experiment import Cell
from lab.model.load import MAX_USERS
from lab.model.replica import Target
from lab.plan import estimate, never_early, too_few
from lab.plan.attempts import RETRIES
from lab.report.plans import PlannedSpeed, RunPlan
from lab.runner import run_experiment
from lab.store import RunFolder, find


@click.command()
@click.argument("specs", nargs=-1, type=SpecName(), metavar="[SPEC]...")
@paced_options
@stack_options
@target_option(None, "In place of the spec's: where the backend runs.")
@click.option("--users", type=Whole(1, MAX_USERS), help="In place of the spec's users or burst.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Print the cells, their speeds on this --stack and the time they take, and start "
    "nothing: --gate has no say then.",
)
@click.option(
    "--resume",
    metavar="RUN",
    help="Continue a stored run (a folder, a name's unique prefix, or latest): only the cells "
    "that are missing or invalid.",
)
@click.option(
    "--only",
    multiple=True,
    metavar="GLOB",
    help="Only the cells whose id matches, as 'workers=2,*'; repeatable.",
)
@retries_option
@click.option("--gate", is_flag=True, help="Exit with 1 if a cell broke, as a pipeline needs it.")
@click.option(
    "--watch", is_flag=True, help="Serve the live page meanwhile (`lab watch`), and say where."
)
@results_option
@json_option
def command(
    specs: tuple[Path, ...],
    settings: tuple[str, ...],
    preset: str | None,
    speed: float | str | None,
    max_speed: float | None,
    users: int | None,
    stack: str,
    toxiproxy: str,
    target: Target | None,
    dry_run: bool,
    resume: str | None,
    only: tuple[str, ...],
    retries: int,
    gate: bool,
    watch: bool,
    results: Path,
    as_json: bool,
) -> int | None:
    """Measure every cell of each SPEC and judge it.

    \b
    The table at the end has a row a cell (`lab metrics` explains each figure):
      up/s, served     successes a second; of a burst, how many
      p50 s, p95 s     latency of successful uploads, in seconds
      failed, led by   the share that failed; the commonest cause, its count
      pg               the most connections that Postgres granted at once
      x base           up/s as a multiple of the baseline's, in a spec with one
      limit            what uploads waited for, or failed by

    While it runs, a line says which cell is at what: settings applied, faults injected, ramp,
    warm-up, window, the last answers, audit for lost uploads, verdict. Its seconds of load are
    real-world ones, and what is left is by the clock. A cell that is invalid
    because something disturbed it is measured again, once this machine is quiet (it waits a
    minute at most); the first valid attempt counts, and each one is kept and shown.

    Exit code: 0 every cell was measured, whether it held or broke; 1 one broke and --gate is
    given; 4 one is undecided or invalid.
    """
    stored = find(results, resume) if resume is not None else None
    overrides = session.Overrides(settings, preset, speed, users, target, max_speed, only)
    planned = session.plan("run", specs, overrides, stored)
    if dry_run:
        known = session.at_known_speeds(planned, stack, toxiproxy, stored)
        plans = [plan_of(spec, only, retries) for spec in known]
        if as_json:
            print_json([plan.as_json() for plan in plans])
        else:
            print_text("".join(plan.text() for plan in plans))
        return None
    results = folder_of(stored.path if stored else None, results)
    choice = session.which_stack(planned, stack, toxiproxy, stored)
    reports = []
    measured = measure(planned, choice, toxiproxy, results, only, retries)
    with watched(results, wanted=watch), closing(measured) as ended:
        for report in ended:
            reports.append(report)
            report.tell_step()
            if not as_json:
                report.show()
    if as_json:
        data: list[Any] = [report.document.model_dump(mode="json") for report in reports]
        print_json(data[0] if len(data) == 1 else data)
    return max(exit_code(report.document, gate) for report in reports)


def plan_of(spec: Planned, only: tuple[str, ...] = (), retries: int = RETRIES) -> RunPlan:
    """What a dry run shows of a spec, whose cells have the speeds that are known."""
    return RunPlan(
        spec.experiment.experiment,
        round(estimate(spec.missing, split_model())) + _probe_s(spec.missing),
        {cell.id: too_few(cell) for cell in spec.missing},
        spec.idle,
        [PlannedSpeed.of(cell) for cell in spec.missing],
        only,
        retries,
        {cell.id: never_early(cell) for cell in spec.missing},
    )


def measure(
    planned: Sequence[Planned],
    choice: StackChoice,
    toxiproxy: str,
    results: Path,
    only: tuple[str, ...] = (),
    retries: int = RETRIES,
) -> Generator[StoredReport]:
    """Run them one after the other on one replica; each is stored as it ends."""
    with session.replica(planned, choice, toxiproxy, results) as (stack, reason):
        for spec in planned:
            notes = (text for cell in spec.missing for text in (*too_few(cell), *never_early(cell)))
            for note in (*spec.idle, *notes):
                print_message(note)
            run = spec.run or session.new_run(spec, stack, reason, results, only=only)
            with session.measuring("run", run, stack, _describe_stored, retries) as (lab, _):
                summary = run_experiment(lab, run, spec.cells)
                report = report_of(run, summary.damaged)
                report.store()
            yield report


def _probe_s(cells: Sequence[Cell]) -> int:
    """Wall seconds until it is measured what an upload costs, where a cell's speed waits for it."""
    waiting = any(PlannedSpeed.of(cell).speed is None for cell in cells)
    return round(PROBE_S) if waiting else 0


def _describe_stored(run: RunFolder) -> str:
    finished = sum(run.cell(cell_id).finished() for cell_id in run.info.cells)
    return f"{finished} of {len(run.info.cells)} cells are kept"
