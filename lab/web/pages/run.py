"""A run as it stands: the latest at ``/``, each by its name, and the stream of its changes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Header, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from lab.web.render import segment
from lab.web.site import Link, Site


def add(site: Site) -> None:
    """Add the page of the latest run, and that of each."""
    site.links.append(Link(0, "/", "live"))

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

    @site.app.get("/events", response_class=EventSourceResponse)
    async def latest_events(
        last_event_id: Annotated[str | None, Header()] = None,
    ) -> AsyncIterator[ServerSentEvent]:
        async for event in (await site.live(None)).events(last_event_id):
            yield event

    @site.app.get("/runs/{name}/events", response_class=EventSourceResponse)
    async def run_events(
        name: str, last_event_id: Annotated[str | None, Header()] = None
    ) -> AsyncIterator[ServerSentEvent]:
        async for event in (await site.live(name)).events(last_event_id):
            yield event
