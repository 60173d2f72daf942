"""The list of the stored runs."""

from __future__ import annotations

import asyncio

from fastapi import Response

from lab import store
from lab.web.site import PageLink, Site


def add(site: Site) -> None:
    """Add it."""
    site.links.append(PageLink(10, "/runs", "runs"))

    @site.app.api_route("/runs", methods=["GET", "HEAD"])
    async def runs() -> Response:
        found = await asyncio.to_thread(store.runs, site.results)
        return site.page("runs", "/runs", title="Stored runs", runs=found[::-1])
