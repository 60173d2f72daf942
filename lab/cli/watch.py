"""``lab watch``: a page on 127.0.0.1 that shows runs, the one that goes on above all."""

from __future__ import annotations

from pathlib import Path

import click

from lab.cli.options import Whole, print_message, results_option
from lab.cli.watcher import ADDRESS, PORT, adopt, documents, listen, parent
from lab.store import find


@click.command()
@click.argument("run", required=False, metavar="[RUN]")
@click.option(
    "--port",
    type=Whole(1, 65535),
    default=PORT,
    show_default=True,
    help="Where the page is served, on 127.0.0.1.",
)
@click.option(
    "--socket",
    "handle",
    type=Whole(3, 1_000_000),
    hidden=True,
    help="The number of a socket that whoever started this listens on; it ends with them.",
)
@results_option
def command(run: str | None, port: int, handle: int | None, results: Path) -> None:
    """Show runs on a page of this machine's own, as they go on.

    RUN is a folder, a name's unique prefix, or latest; without it the page shows whichever run is
    the latest, also one that begins later. It has the list of the stored runs, each one's report,
    and a replay of it at any pace.

    The page only reads: it starts nothing and changes nothing. It is served on 127.0.0.1 alone and
    answers no other page. Ctrl-C ends it, with exit code 130.
    """
    name = None
    if run is not None:
        folder = find(results, run)
        results, name = folder.path.parent, folder.path.name
    listening = adopt(handle) if handle is not None else listen(port)
    if handle is None:
        address = ADDRESS.format(port=listening.getsockname()[1])
        print_message(f"the live page: {address} (Ctrl-C ends it)")
    from lab.web.app import make_site  # imports a web server, which no other command waits for
    from lab.web.serve import serve

    site = make_site(results, documents(), name)
    serve(site, listening, None if handle is None else parent())
