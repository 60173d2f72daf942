"""``lab calibrate``: starts a replica, holds what is injected against what arrives, and ends it."""

from __future__ import annotations

from pathlib import Path

import click

from lab import doctor
from lab.calibrate import Calibration
from lab.calibrate.injection import calibrate_replica
from lab.calibrate.limits import calibrate_instances
from lab.cli.options import (
    Whole,
    check_writable,
    is_given,
    json_option,
    known_faults,
    print_json,
    print_message,
    print_text,
    refuse_together,
    results_option,
    stack_option,
    style,
    target_option,
)
from lab.cli.wiring import ToxiproxyInjector, choose, open_stack
from lab.model.replica import Target
from lab.report import Style
from lab.report.blocks import Heading, Paragraph, Table
from lab.report.terminal import blocks_text
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
    type=Whole(50, 20000),
    default=1500,
    show_default=True,
    help="How many storage latencies to draw.",
)
@stack_option("Which replica to calibrate.", show_variable=False)
@target_option("vm", "Calibrate what is injected, or the limits of Cloud Run's instances.")
@results_option
@json_option
def command(
    toxiproxy: str, draws: int, stack: str, target: Target, results: Path, as_json: bool
) -> int:
    """Measure whether what is injected is what arrives.

    Holds storage latency, distance to the database, connections granted and body limits
    against what they should be, at speed 1; in containers also CPU quota, memory limit and
    networks. With --target cloudrun, holds CPU and memory of an instance against its knobs,
    and nothing else. Exit code: 0 all is as it should be; 4 not so.
    """
    for option in ("draws", "toxiproxy"):
        on_cloudrun = {"--target cloudrun": target == "cloudrun"}
        refuse_together({**on_cloudrun, f"--{option}": is_given(option)})
    check_writable(results)
    cleanup.end_abandoned()
    asked = "auto" if toxiproxy == "all" else toxiproxy
    choice = choose(stack, asked)
    variants = doctor.toxiproxy_variants(toxiproxy) if choice.name == "embedded" else [asked]
    calibrations: list[Calibration] = []
    for variant in variants:
        with open_stack(choice, results, variant) as (opened, reason):
            print_message(f"stack: {opened.name} ({reason})")
            if target == "cloudrun":
                calibrations.append(calibrate_instances(opened, print_message))
                break  # an instance's limits are no matter of which Toxiproxy
            calibrations.append(
                calibrate_replica(
                    opened, ToxiproxyInjector().injected, known_faults(), draws, print_message
                )
            )
    if as_json:
        print_json([calibration.as_json() for calibration in calibrations])
    else:
        for calibration in calibrations:
            print_text(render_calibration(calibration, style().width))
    return 0 if all(calibration.ok for calibration in calibrations) else 4


def render_calibration(calibration: Calibration, width: int) -> str:
    """A calibration for the terminal."""
    rows = [
        ("ok" if row.ok else "OFF", row.name, f"{row.value:g}", row.bound)
        for row in calibration.measured
    ]
    table = Table.of(("", "what", "measured", "should be"), rows, right=("measured",))
    title = Heading(f"calibration, {calibration.stack} stack, {calibration.toxiproxy} Toxiproxy")
    left_out = [Paragraph(f"not measured: {reason}") for reason in calibration.not_measured]
    return blocks_text([title, table, *left_out], Style(width=width))
