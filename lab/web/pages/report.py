"""Any run's report, made anew by the command that makes it: a stored page is nobody's word."""

from __future__ import annotations

from fastapi import Response

from lab.errors import UsageError
from lab.web.programs import document
from lab.web.site import Site


def add(site: Site) -> None:
    """Add it."""

    @site.app.api_route("/runs/{name}/report", methods=["GET", "HEAD"])
    async def report(name: str) -> Response:
        run = await site.open(name)
        command = site.commands.get("report")
        if command is None:
            raise UsageError("this server makes no reports", f"`lab report {name}` does")
        return await document(command(run.path))
