"""``lab up``: a replica that stays up, with faults injected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from lab.cli.options import (
    Number,
    Whole,
    check_writable,
    json_option,
    known_faults,
    print_json,
    print_message,
    results_option,
    settings_options,
    speed_option,
    stack_options,
    target_option,
)
from lab.cli.standing import ReplicaRecord, down_command, replica_text, standing, store_record
from lab.cli.wiring import AnyStack, choose, make_stack
from lab.config import fault_problem, parse_settings
from lab.errors import UsageError
from lab.faults.network import Toxiproxy, base_rtt
from lab.model.experiment import DEFAULT_FAULTS, Cell
from lab.model.knobs import Knobs, Preset
from lab.model.load import BurstLoad
from lab.model.replica import UPLOAD_PATH, Target, contradiction, token
from lab.model.speed import AUTO, MAX_SPEED
from lab.plan import settings_without_effect
from lab.stack import cleanup
from lab.stack.base import Replica


@click.command()
@settings_options
@speed_option(Number(1, MAX_SPEED))
@stack_options
@target_option("vm", "Where the backend runs.")
@click.option("--port", type=Whole(1, 65535), help="Where users upload; default: free.")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    help=f"A fault to inject; repeatable. Default: {', '.join(DEFAULT_FAULTS)}.",
)
@click.option("--no-faults", is_flag=True, help="Inject none.")
@results_option
@json_option
def command(
    settings: tuple[str, ...],
    preset: str | None,
    speed: float | None,
    stack: str,
    toxiproxy: str,
    target: Target,
    port: int | None,
    faults: tuple[str, ...],
    no_faults: bool,
    results: Path,
    as_json: bool,
) -> None:
    """Bring a replica up and leave it.

    Prints its addresses and how to upload a file. `lab down` ends it.
    """
    if standing(results):
        remedy = f"{down_command(results)} ends it, `lab status` shows it"
        raise UsageError("a replica is up already", remedy)
    if faults and no_faults:
        raise UsageError("--fault and --no-faults exclude each other", "leave one out")
    check_writable(results)
    cleanup.end_abandoned()
    chosen = parse_settings(settings, speed)
    if chosen.get("speed") == AUTO:
        raise UsageError(
            "speed auto is chosen for a cell with its load, and `lab up` has none", "give a number"
        )
    knobs = _knobs(target, chosen, preset)
    cell = _cell(target, knobs, () if no_faults else (faults or DEFAULT_FAULTS))
    opened, reason = make_stack(choose(stack, toxiproxy), results, toxiproxy, port, stays=True)
    try:
        print_message(f"stack: {opened.name} ({reason})")
        for note in settings_without_effect(chosen, cell):
            print_message(note)
        record = _bring_up(opened, cell)
    except BaseException:
        opened.close()
        raise
    print_json(asdict(record)) if as_json else click.echo(replica_text(record), nl=False)


def _knobs(target: Target, settings: Mapping[str, Any], preset: str | None) -> Knobs:
    knobs = Knobs.preset(Preset(preset or "as-found")).with_settings(settings)
    if problem := contradiction(target, knobs):
        raise UsageError(*problem)
    return knobs


def _cell(target: Target, knobs: Knobs, names: Sequence[str]) -> Cell:
    """A cell for the stack to apply; its load is never run."""
    known = known_faults()
    for name in names:
        if problem := fault_problem(name, known):
            raise UsageError(*problem)
        if fault := known[name].process_fault:
            raise UsageError(
                f"{name} {fault.action}s {fault.part} while a load runs, and `lab up` runs none",
                "name it in a spec's faults and use `lab run`",
            )
    return Cell(
        id="up",
        axes={},
        target=target,
        knobs=knobs,
        load=BurstLoad(burst=1),
        faults=tuple(known[name] for name in dict.fromkeys(names)),
        criteria=(),
        seed=1,
    )


def _bring_up(stack: AnyStack, cell: Cell) -> ReplicaRecord:
    """Apply the cell, inject its faults, and let the replica outlive this process.

    Raises:
        PartFailed: a part did not come up.
        InjectionError: a fault could not be injected.
    """
    replica = stack.apply(cell)
    toxiproxy = Toxiproxy(replica.toxiproxy)
    base_s = base_rtt(toxiproxy, cell.faults, cell.knobs, replica.round_trip)
    for fault in cell.faults:
        toxiproxy.inject(fault, cell.knobs, base_s)
    stack.detach()
    record = _record(replica, cell, stack)
    store_record(stack.folder, record)
    return record


def _record(replica: Replica, cell: Cell, stack: AnyStack) -> ReplicaRecord:
    return ReplicaRecord(
        stack=stack.name,
        target=cell.target,
        url=replica.url,
        upload=replica.url + UPLOAD_PATH,
        token=token(0),
        health=replica.backend + "/health",
        database=replica.monitor_dsn,
        storage=replica.storage,
        toxiproxy=replica.toxiproxy,
        logs=stack.logs_at,
        faults=[fault.fault for fault in cell.faults],
        knobs=cell.knobs.as_text(),
        parts={name: pids()[0] for name, pids in replica.parts.items()},
    )
