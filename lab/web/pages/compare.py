"""Two stored runs beside each other: which, and the page that the command makes of them."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import Query, Response

from lab import store
from lab.web.programs import document
from lab.web.site import PageLink, Site


def add(site: Site) -> None:
    """Add it, where the lab has a command that compares."""
    command = site.commands.get("compare")
    if command is None:
        return
    site.links.append(PageLink(20, "/compare", "compare"))

    @site.app.api_route("/compare", methods=["GET", "HEAD"])
    async def compare(
        a: str = "", b: str = "", anyway: Annotated[bool, Query()] = False
    ) -> Response:
        if a and b:
            before, after = await site.open(a), await site.open(b)
            return await document(command(before.path, after.path, *["--anyway"] * anyway))
        names = await asyncio.to_thread(store.names, site.results)
        return site.page("compare", "/compare", title="Compare two runs", names=names[::-1])
