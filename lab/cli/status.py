"""``lab status``: the replica that is up, and which of its parts are down."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from lab.cli.options import json_option, print_json, results_option
from lab.cli.standing import ReplicaRecord, records, replica_text
from lab.model import processes
from lab.model.replica import GATEWAY
from lab.stack import ownership
from lab.stack.compose.resources import down_services
from lab.stack.ownership import Ownership


@click.command()
@results_option
@json_option
def command(results: Path, as_json: bool) -> int:
    """Show the replica that is up.

    Names the parts that are down, if any. Exit code 3 if some are, or if there is none.
    """
    replicas = [(record, _down(owner, record)) for owner, record in records(results)]
    if as_json:
        print_json([{**asdict(record), "down": down} for record, down in replicas])
    else:
        click.echo("".join(replica_text(record, down) for record, down in replicas), nl=False)
    return 3 if any(down for _, down in replicas) else 0


def _down(owner: Ownership, record: ReplicaRecord) -> list[str]:
    """The parts that are dead, or of which a process is stopped."""
    compose = owner.stack == "compose"
    with_pooler = record.knobs.get("pooler", "off") != "off"
    down = down_services(owner.id, record.target, with_pooler) if compose else []
    alive = {process.pid for process in ownership.processes(owner.id)}
    return down + [
        part for part, pid in record.parts.items() if pid not in alive or _is_held(part, pid)
    ]


def _is_held(part: str, pid: int) -> bool:
    """Whether a process of the part is kept from running; a gateway's children are instances."""
    family = [pid] if part == GATEWAY else processes.descendants(pid)
    return bool(processes.held_among(family))
