"""``lab down``: ends the replica that is up, and what a killed lab left."""

from __future__ import annotations

from pathlib import Path

import click

from lab.cli.options import print_message, results_option
from lab.cli.standing import down_command, elsewhere, standing
from lab.report.format import plural
from lab.stack import cleanup, ownership


@click.command()
@results_option
def command(results: Path) -> None:
    """End the replica that is up.

    Ends whatever a lab that was killed left running, too; a run that is going on is left alone.
    """
    replicas = standing(results)
    for folder, owner in replicas:
        cleanup.end(folder, owner)
    left = cleanup.end_abandoned()
    print_message(
        f"ended {plural(len(replicas), 'replica')} of {results}"
        f" and {left} left by a lab that was killed"
    )
    for owner in elsewhere(results):
        print_message(
            f"left alone: a replica of {owner.results} - {down_command(owner.results)} ends it"
        )
    others = [owner for _, owner in cleanup.replicas() if owner.pid and not owner.gone]
    here = [owner for owner in others if owner.place in (None, ownership.place())]
    if here:
        pids = ", ".join(str(owner.pid) for owner in here)
        print_message(f"left alone: the replica of a run that is going on (lab process {pids})")
    for owner in others:
        if owner not in here:
            print_message(
                f"left alone: {owner.id}, of another user, container or machine - end it there, or "
                f"`docker compose -p {owner.id} down --volumes` if that is gone"
            )
