"""``lab faults``: the table of faults."""

from __future__ import annotations

import click

from lab.cli.options import json_option, known_faults, print_json, print_text, style
from lab.report import tables


@click.command()
@json_option
def command(as_json: bool) -> None:
    """List every fault under faults/ with what it does."""
    faults = known_faults()
    if as_json:
        print_json(tables.faults_data(faults))
    else:
        print_text(tables.faults_text(faults, style()))
