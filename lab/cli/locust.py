"""``lab locust``: Locust's own web page against the replica that is up."""

from __future__ import annotations

from pathlib import Path

import click

from lab.cli.options import Whole, print_message, results_option
from lab.cli.standing import records
from lab.load.web import run_web
from lab.stack import ports


@click.command()
@click.option(
    "--port",
    type=Whole(1, 65535),
    default=8089,
    show_default=True,
    help="Where the page is served.",
)
@results_option
def command(port: int, results: Path) -> None:
    """Open Locust's own web page against the replica that is up.

    Its users and their number are set on the page. Ctrl-C ends it.
    """
    _, record = records(results)[0]
    ports.check(port)
    print_message(f"Locust's page: http://127.0.0.1:{port} (Ctrl-C ends it)")
    run_web(record.url, port)
