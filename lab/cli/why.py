"""``lab why``: what the limit of a cell is, proven by giving it more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import click

from lab.cli import session
from lab.cli.options import (
    Number,
    folder_of,
    measuring_options,
    own_specs,
    print_json,
    print_message,
    print_text,
    refuse_together,
)
from lab.cli.session import Planned
from lab.cli.stored import MAX_NAMES, Item, StoredReport, by_part, exit_code, report_of
from lab.cli.wiring import StackChoice, choose, split_model
from lab.diagnosis.runner import broke, explain
from lab.diagnosis.trials import as_it_is, relaxable
from lab.diagnosis.why import nearest
from lab.errors import UsageError
from lab.model.experiment import Cell
from lab.model.run import DamagedCell, Summary
from lab.model.suggest import nearest as like
from lab.model.verdict import Outcome
from lab.plan import estimate
from lab.report import diagnosis_news
from lab.report.format import plural
from lab.report.plans import CellProof, PlannedSpeed, ProofPlan
from lab.store import RunFolder, find


@click.command()
@click.argument("asked", required=False, metavar="RUN|SPEC")
@click.option(
    "--cell",
    metavar="ID",
    help="This cell alone; a unique part of its id is enough. Default: every one that broke.",
)
@click.option(
    "--until-held",
    is_flag=True,
    help="Go on until every criterion is met, and say which changes that takes.",
)
@click.option(
    "--most-time",
    "minutes",
    type=Number(1, 10**5),
    metavar="MINUTES",
    help="Begin no trial that would end later; the answer says what was not tried.",
)
@click.option(
    "--resume",
    metavar="RUN",
    help="Continue a stored diagnosis: a folder, a name's unique prefix, or latest.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Print which cells would be explained, and how long that takes; start nothing.",
)
@measuring_options
def command(
    asked: str | None,
    cell: str | None,
    until_held: bool,
    minutes: float | None,
    resume: str | None,
    dry_run: bool,
    settings: tuple[str, ...],
    preset: str | None,
    speed: float | str | None,
    max_speed: float | None,
    stack: str,
    toxiproxy: str,
    retries: int,
    results: Path,
    as_json: bool,
) -> int | None:
    """Prove what the limit of a cell is, by giving it more.

    The cell is measured again as it is, and then once for each resource that may be the limit, with
    more of that and of nothing else. The named limit is proven where more of it moves what was
    missed and more of the others does not; withdrawn where it does not; shared where it takes two.

    RUN is a stored run, of which every cell that broke is explained; of a stored diagnosis the
    answer is printed, and nothing is started. SPEC is measured first.

    With --until-held the limit is relaxed again and again until the cell holds, and then each
    change is taken back in turn: what stays is what cannot be spared, of what an operator can
    change.

    Exit code: 0 every cell has its answer; 4 one is undecided, invalid or damaged.
    """
    refuse_together({"RUN|SPEC": asked is not None, "--resume": resume is not None})
    overrides = session.Overrides(settings, preset, speed, max_speed=max_speed)
    stored = find(results, resume) if resume is not None else None
    damaged: tuple[DamagedCell, ...] = ()
    if stored is None and asked is not None and not _is_spec(asked):
        stored = _run_of(results, asked)
        if stored.info.kind == "why":
            changed = overrides != session.Overrides()
            asks = {
                "--cell": cell,
                "--until-held": until_held,
                "--most-time": minutes,
                "--dry-run": dry_run,
            }
            _refuse_asking(stored, {**asks, "a setting": changed})
            return _shown(stored, as_json)
        planned, damaged = _of_run(stored, cell, overrides)
        choice = choose(stored.info.stack if stack == "auto" else stack, toxiproxy, [])
    else:
        files = [] if asked is None else [Path(asked)]
        if stored is not None and until_held and not stored.info.until_held:
            what = f"{stored.info.name} was begun without --until-held, and goes on without"
            raise UsageError(what, "leave it out, or begin a new diagnosis")
        [planned] = session.plan("why", files, overrides, stored)
        if cell is not None:
            planned = replace(planned, cells=(_selected(planned.cells, cell, "the spec"),))
        planned = replace(planned, cells=tuple(map(as_it_is, planned.cells)))
        choice = session.which_stack([planned], stack, toxiproxy, planned.run)
    name, _ = choice
    plan = _plan(planned, until_held, name, toxiproxy)
    if dry_run:
        print_json(plan.as_json()) if as_json else print_text(plan.text())
        return None
    print_message(plan.head)
    results = folder_of(planned.run.path if planned.run else None, results)
    limits = until_held, (minutes or 1e9) * 60
    report = _measure(planned, limits, choice, toxiproxy, results, as_json, retries)
    return 4 if damaged else exit_code(report.document)


def _plan(planned: Planned, until_held: bool, stack: str, toxiproxy: str) -> ProofPlan:
    """What is to be measured, and for how long."""
    at_speed = session.speeds_known(planned, stack, toxiproxy, planned.run)
    proofs = []
    for cell in map(at_speed, planned.cells):
        may_be = tuple(map(str, relaxable(cell)))
        trial_s = round(estimate([cell], split_model()), 1)
        proofs.append(CellProof(cell.id, may_be, trial_s, PlannedSpeed.of(cell).text()))
    return ProofPlan(planned.experiment.experiment, proofs, planned.idle, until_held)


def _is_spec(name: str) -> bool:
    """Whether a word means a spec: a YAML file, or the name of one."""
    path = Path(name)
    return path.suffix in (".yaml", ".yml") or Path(f"{name}.yaml").is_file() or name in own_specs()


def _refuse_asking(stored: RunFolder, asks: Mapping[str, object]) -> None:
    """Refuse what says how to measure, where a stored answer is only printed.

    Raises:
        UsageError: something of that is asked for.
    """
    for name, asked in asks.items():
        if asked:
            what = f"{stored.info.name} is a diagnosis, whose stored answer is printed as it is"
            raise UsageError(what, f"leave {name} out, or go on with `lab why --resume`")


def _run_of(results: Path, name: str) -> RunFolder:
    """The stored run of a name.

    Raises:
        UsageError: there is none; where a spec has almost that name, with the spec's.
    """
    try:
        return find(results, name)
    except UsageError as error:
        meant = like(name, own_specs())
        remedy = f"did you mean the spec '{meant}'? `lab runs` lists the runs"
        raise UsageError(error.what, remedy if meant else error.remedy) from error


def _shown(run: RunFolder, as_json: bool) -> int:
    """The answer of a stored diagnosis, printed."""
    report = report_of(run)
    report.show(as_json)
    return exit_code(report.document)


def _of_run(
    stored: RunFolder, part: str | None, overrides: session.Overrides
) -> tuple[Planned, tuple[DamagedCell, ...]]:
    """The cells of a stored run that are to be explained, and those that are told apart.

    Raises:
        UsageError: it is a search, its cells would be changed, none broke, or the one that is asked
            for did not.
    """
    if stored.info.kind != "run":
        what = f"{stored.info.name} is a search for thresholds, whose cells have many loads"
        raise UsageError(what, "give a run of `lab run`, or a spec")
    if overrides != session.Overrides():
        what = "the cells of a stored run are explained as they are"
        raise UsageError(what, "leave the settings out, or give the spec")
    if part is not None:
        return _as_planned(stored, [_that_broke(stored, part)]), ()
    summary = stored.summary()
    cells = broke(stored, summary)
    if not cells:
        raise _none_broke(summary)
    for damaged in summary.damaged:
        print_message(f"damaged, and not explained: {damaged.id}: {damaged.problem}")
    return _as_planned(stored, cells), summary.damaged


def _as_planned(stored: RunFolder, cells: Sequence[Cell]) -> Planned:
    """Some of a stored run's cells as a diagnosis has them."""
    spec = stored.info.spec_file, stored.info.experiment
    return Planned(*spec, tuple(map(as_it_is, cells)))


def _none_broke(summary: Summary) -> UsageError:
    """What to say of a run in which nothing broke: it may be that some cells show nothing."""
    name, invalid = summary.run, Outcome.INVALID
    open_ends = (invalid, Outcome.UNDECIDED)
    counts = {str(one): sum(cell.verdict is one for cell in summary.cells) for one in open_ends}
    counts |= {"damaged": len(summary.damaged), "not measured": len(summary.missing)}
    silent = [f"{n} {'is' if n == 1 else 'are'} {of}" for of, n in counts.items() if n]
    what = ", and ".join([f"no cell of {name} broke", *silent])
    if counts[str(invalid)] or summary.missing:
        return UsageError(what, f"`lab run --resume {name}` measures what is missing")
    held = [cell for cell in summary.cells if cell.verdict is Outcome.HELD]
    if len(held) == 1 and not silent:
        return UsageError(f"{what}: {nearest(held[0])}", "give it more users")
    return UsageError(what, "`lab report` shows what they did")


class CellName(NamedTuple):
    """A cell by its id, whatever else is stored of it."""

    id: str


def _that_broke(stored: RunFolder, part: str) -> Cell:
    """The cell of a stored run that is asked for, as it was planned.

    Raises:
        UsageError: it is none, or did not break.
        StoreError: it is damaged.
    """
    name = _selected(list(map(CellName, stored.info.cells)), part, stored.info.name).id
    folder = stored.cell(name)
    if not folder.finished():
        raise UsageError(f"{name} is not measured", "`lab run --resume` goes on")
    verdict = folder.read_verdict().outcome
    if verdict is Outcome.HELD:
        what = f"{name} held: {nearest(stored.result(name))}"
        raise UsageError(what, "give it more users, or explain one that broke")
    if verdict is not Outcome.BROKE:
        what = f"{name} is {verdict}, and shows no limit"
        longer = "give its load a longer window, and run it anew"
        again = "measure it again with `lab run --resume`"
        raise UsageError(what, again if verdict is Outcome.INVALID else longer)
    return folder.read_cell().as_planned


def _selected(cells: Sequence[Item], part: str, of: str) -> Item:
    """The cell whose id is, or else contains, ``part``.

    Raises:
        UsageError: it is no cell, or several.
    """
    exact = by_part(cells, part)
    if len(exact) == 1:
        return exact[0]
    names = ", ".join(cell.id for cell in (exact or list(cells))[:MAX_NAMES])
    if exact:
        raise UsageError(f"'{part}' is part of {len(exact)} ids of {of}", f"write more, as {names}")
    raise UsageError(f"no cell of {of} has '{part}' in its id", f"write a part of one, as {names}")


def _measure(
    planned: Planned,
    limits: tuple[bool, float],
    choice: StackChoice,
    toxiproxy: str,
    results: Path,
    as_json: bool,
    retries: int,
) -> StoredReport:
    """Diagnose, with each trial and answer on a line as it comes; store and show the report."""
    until_held, seconds = limits
    with session.replica([planned], choice, toxiproxy, results) as (stack, reason):
        for note in planned.idle:
            print_message(note)
        run = planned.run or session.new_run(
            planned, stack, reason, results, "why", until_held=until_held
        )
        with session.measuring("why", run, stack, _describe_stored, retries) as (lab, live):
            show = lambda step: live.print(diagnosis_news(step))  # noqa: E731 - where `live` is
            found = explain(lab, run, planned.cells, show, seconds)
            report = report_of(run, found.damaged)
            report.store()
        report.show(as_json)
    return report


def _describe_stored(run: RunFolder) -> str:
    measured = [run.cell(cell_id) for cell_id in run.info.cells]
    trials = sum(folder.finished() for folder in (*measured, *run.undeclared()))
    return f"{plural(trials, 'trial')} of {plural(len(run.info.cells), 'cell')} are kept"
