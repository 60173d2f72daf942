"""``lab doctor``, ``knobs``, ``metrics``, ``faults``: what there is."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from lab.cli.options import faults, json_option, print_json, results_option, style
from lab.doctor import examine
from lab.report import tables


@click.command()
@results_option
@json_option
def doctor(results: Path, as_json: bool) -> int:
    """Say what this machine has and lacks for the replica.

    Each thing that is missing comes with its remedy. Exit code 3 if it is required.
    """
    found = examine(results)
    if as_json:
        print_json([asdict(component) for component in found])
    else:
        for component in found:
            mark = "ok  " if component.ok else ("MISS" if component.required else "-   ")
            remedy = "" if component.ok else f" - {component.remedy}"
            click.echo(f"{mark}  {component.name:<18} {component.found}{remedy}")
    return 0 if all(component.ok or not component.required for component in found) else 3


@click.command()
@json_option
def knobs(as_json: bool) -> None:
    """List every knob with both presets, bounds and meaning."""
    print_json(tables.knobs_data()) if as_json else click.echo(tables.knobs_text(style()))


@click.command()
@json_option
def metrics(as_json: bool) -> None:
    """List every metric with its unit, source and meaning."""
    print_json(tables.metrics_data()) if as_json else click.echo(tables.metrics_text(style()))


@click.command(name="faults")
@json_option
def list_faults(as_json: bool) -> None:
    """List every fault under faults/ with what it does."""
    known = faults()
    if as_json:
        print_json(tables.faults_data(known))
    else:
        click.echo(tables.faults_text(known, style()))


COMMANDS = (doctor, knobs, metrics, list_faults)
