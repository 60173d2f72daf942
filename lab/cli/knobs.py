"""``lab knobs``: the table of knobs."""

from __future__ import annotations

import click

from lab.cli.options import json_option, print_json, print_text, style
from lab.report import tables


@click.command()
@json_option
def command(as_json: bool) -> None:
    """List every knob with both presets, bounds and meaning."""
    print_json(tables.knobs_data()) if as_json else print_text(tables.knobs_text(style()))
