"""``lab runs``: the stored runs."""

from __future__ import annotations

from pathlib import Path

import click

from lab import store
from lab.cli.options import json_option, print_json, print_text, results_option, style
from lab.report import tables


@click.command()
@results_option
@json_option
def command(results: Path, as_json: bool) -> None:
    """List the stored runs."""
    runs = store.runs(results)
    print_json(tables.runs_data(runs)) if as_json else print_text(tables.runs_text(runs, style()))
