"""``lab calibrate``: starts a replica, holds what is injected against what arrives, and ends it."""

from __future__ import annotations

from pathlib import Path

import click

from lab import doctor
from lab.calibrate import Calibration, calibrate_instances, calibrate_replica
from lab.cli.options import (
    check_writable,
    faults,
    json_option,
    print_json,
    results_option,
    say,
    style,
    target_option,
)
from lab.cli.wiring import ToxiproxyInjector, choose, open_stack
from lab.model.replica import Target
from lab.stack import cleanup


@click.command()
@click.option(
    "--toxiproxy",
    type=click.Choice(["all", "real", "embedded"]),
    default="all",
    show_default=True,
    help="Which Toxiproxy; all: the lab's own, and the real one where it is.",
)
@click.option(
    "--draws",
    type=click.IntRange(50, 20000),
    default=1500,
    show_default=True,
    help="How many storage latencies to draw.",
)
@click.option(
    "--stack",
    type=click.Choice(["auto", "compose", "embedded"]),
    default="auto",
    show_default=True,
    envvar="REPLICA_LAB_STACK",
    help="Which replica to calibrate.",
)
@target_option("vm", "Calibrate what is injected, or the limits of Cloud Run's instances.")
@results_option
@json_option
def calibrate(
    toxiproxy: str, draws: int, stack: str, target: Target, results: Path, as_json: bool
) -> int:
    """Measure whether what is injected is what arrives.

    Holds storage latency, distance to the database, connections granted and body limits
    against what they should be, at speed 1; in containers also CPU quota, memory limit and
    networks. With --target cloudrun, holds CPU and memory of an instance against its knobs,
    and nothing else. Exit code: 0 all is as it should be; 4 not so.
    """
    check_writable(results)
    cleanup.end_abandoned()
    asked = "auto" if toxiproxy == "all" else toxiproxy
    chosen = choose(stack, asked)
    variants = doctor.toxiproxies(toxiproxy) if chosen[0] == "embedded" else [asked]
    found: list[Calibration] = []
    for variant in variants:
        with open_stack(chosen, results, variant) as (opened, reason):
            say(f"stack: {opened.name} ({reason})")
            if target == "cloudrun":
                found.append(calibrate_instances(opened, say))
                break  # an instance's limits are no matter of which Toxiproxy
            found.append(calibrate_replica(opened, ToxiproxyInjector(), faults(), draws, say))
    if as_json:
        print_json([each.as_json() for each in found])
    else:
        for each in found:
            click.echo(each.text(style().width))
    return 0 if all(each.ok for each in found) else 4


COMMANDS = (calibrate,)
