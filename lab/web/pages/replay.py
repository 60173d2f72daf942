"""A stored run as it went, at any pace: a page at any moment of it, and a stream from there on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Query, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from lab.web.pages.run import LastId
from lab.web.render import regions, segment
from lab.web.replay import Replay
from lab.web.site import Site

STEP_S = 0.5
"""Seconds between two pictures."""

Pace = Annotated[float, Query(gt=0, le=1000)]
Moment = Annotated[float, Query(ge=0, le=1e9)]

PACE = 10.0
"""Real-world seconds of the run a second, where none is asked for."""


def add(site: Site) -> None:
    """Add the page of a replay, and its stream."""

    async def of_run(name: str) -> Replay:
        return await asyncio.to_thread(Replay, await site.open(name))

    stored_run = Depends(of_run)

    @site.app.api_route("/runs/{name}/replay", methods=["GET", "HEAD"])
    async def replay(
        name: str, stored: Replay = stored_run, pace: Pace = PACE, at: Moment = 0.0
    ) -> Response:
        view = await asyncio.to_thread(stored.at, at)
        here = f"/runs/{segment(name)}/replay"
        told = {"pace": f"{pace:g}", "at": round(at), "length": round(stored.length)}
        return site.page(
            "live",
            here,
            title=f"replay of {view.title}",
            html=regions(view),
            events=f"{here}/events",
            going_on=False,
            replay=told,
        )

    @site.app.get("/runs/{name}/replay/events", response_class=EventSourceResponse)
    async def events(
        stored: Replay = stored_run,
        pace: Pace = PACE,
        at: Moment = 0.0,
        last_event_id: LastId = None,
    ) -> AsyncIterator[ServerSentEvent]:
        async for event in played(stored, pace, _resumed(last_event_id, at), site):
            yield event


async def played(
    stored: Replay, pace: float, begin: float, site: Site
) -> AsyncIterator[ServerSentEvent]:
    """The regions that change from a moment on, until the run's end; an event's id is its moment.

    Args:
        stored: the run.
        pace: real-world seconds of it a second.
        begin: the moment to begin at.
        site: that it is shown on; once it is over, so is this.
    """
    before: dict[str, str] = {}
    began = time.monotonic()
    moment = begin
    while not site.over:
        view = await asyncio.to_thread(stored.at, moment)
        html = await asyncio.to_thread(regions, view)
        changed = {name: text for name, text in html.items() if before.get(name) != text}
        before = html
        told = {"at": round(min(moment, stored.length), 1), "length": round(stored.length, 1)}
        yield ServerSentEvent(event="moment", data=told)
        yield ServerSentEvent(event="regions", data=changed, id=f"{moment:.1f}")
        if moment >= stored.length:
            yield ServerSentEvent(event="end", data="The replay is at its end.")
            return
        await asyncio.sleep(STEP_S)
        moment = min(stored.length, begin + pace * (time.monotonic() - began))
    yield ServerSentEvent(event="end", data=site.over)


def _resumed(last_id: str | None, at: float) -> float:
    """Where a browser that comes back goes on."""
    try:
        return max(0.0, float(last_id)) if last_id else at
    except ValueError:
        return at
