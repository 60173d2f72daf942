"""``lab doctor``: what this machine has and lacks."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from lab import doctor
from lab.cli.options import json_option, print_json, results_option


@click.command()
@results_option
@json_option
def command(results: Path, as_json: bool) -> int:
    """List what this machine has and lacks for the replica.

    Each thing that is missing comes with its remedy. Exit code 3 if it is required.
    """
    components = doctor.examine(results)
    if as_json:
        print_json([asdict(component) for component in components])
    else:
        click.echo("\n".join(component.line for component in components))
    return 0 if all(component.ok or not component.required for component in components) else 3
