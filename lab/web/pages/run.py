"""A run as it stands: the latest at ``/``, each by its name, and the stream of its changes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Header, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from lab.web.live import Live
from lab.web.render import segment
from lab.web.site import PageLink, Site

LastId = Annotated[str | None, Header(alias="Last-Event-ID")]
"""By which a browser that comes back says which event it saw last."""


def add(site: Site) -> None:
    """Add the page of the latest run, and that of each."""
    site.links.append(PageLink(0, "/", "live"))

    async def shown(name: str | None, here: str) -> Response:
        live = await site.live(name)
        html, view = await live.now(), live.view
        return site.page(
            "live",
            here,
            title=(view and view.title) or "live",
            html=html,
            events=f"{here.rstrip('/')}/events",
            going_on=bool(view and view.going_on),
            replay=None,
        )

    @site.app.api_route("/", methods=["GET", "HEAD"])
    async def latest() -> Response:
        return await shown(None, "/")

    @site.app.api_route("/runs/{name}", methods=["GET", "HEAD"])
    async def run(name: str) -> Response:
        return await shown(name, f"/runs/{segment(name)}")

    # What cannot be told is told before a stream begins: a dependency is asked for first.
    async def of_latest() -> Live:
        return await site.live(None)

    async def of_run(name: str) -> Live:
        return await site.live(name)

    latest_live, run_live = Depends(of_latest), Depends(of_run)

    @site.app.get("/events", response_class=EventSourceResponse)
    async def latest_events(
        live: Live = latest_live, last_event_id: LastId = None
    ) -> AsyncIterator[ServerSentEvent]:
        async for event in live.events(last_event_id):
            yield event

    @site.app.get("/runs/{name}/events", response_class=EventSourceResponse)
    async def run_events(
        live: Live = run_live, last_event_id: LastId = None
    ) -> AsyncIterator[ServerSentEvent]:
        async for event in live.events(last_event_id):
            yield event
