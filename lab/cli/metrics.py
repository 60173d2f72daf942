"""``lab metrics``: the table of metrics."""

from __future__ import annotations

import click

from lab.cli.options import json_option, print_json, print_text, style
from lab.report import tables


@click.command()
@json_option
def command(as_json: bool) -> None:
    """List every metric with its unit, source and meaning."""
    print_json(tables.metrics_data()) if as_json else print_text(tables.metrics_text(style()))
