"""What the pages of a live server share: where the runs are, their links, how a page is made."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from lab.errors import LabError
from lab.store import RunFolder, by_name, find
from lab.store.runs import LATEST
from lab.web.follow import RunFollower
from lab.web.live import Live
from lab.web.render import render
from lab.web.view import View

MAX_LIVE = 8
"""Runs that are kept in mind at once; those to which nobody listens make room for others."""

Command = Callable[..., Sequence[str]]


@dataclass(frozen=True)
class PageLink:
    """A page in the list of pages; the lowest ``place`` comes first."""

    place: int
    path: str
    name: str


@dataclass
class Site:
    """A live server.

    Args:
        app: to which pages are added.
        results: the folder that holds the runs.
        commands: makes the command line of a document that another process makes, by its name:
            ``report`` of a run's path.
        run: the run that ``/`` shows; None: whichever is the latest.
    """

    app: FastAPI
    results: Path
    commands: Mapping[str, Command] = field(default_factory=dict)
    run: str | None = None
    links: list[PageLink] = field(default_factory=list)
    over: str = ""
    _live: dict[str | None, Live] = field(default_factory=dict)

    async def open(self, name: str) -> RunFolder:
        """A run of the results folder by its name.

        Raises:
            UsageError: there is none of this name.
            LabError: it cannot be read.
        """
        return await asyncio.to_thread(by_name, self.results, name)

    async def live(self, name: str | None) -> Live:
        """What changes of a run; of None, of the one that ``/`` shows.

        Raises:
            LabError: there is no such run, or it cannot be read.
        """
        name = name or self.run
        if name not in self._live:
            look = Latest(self.results).look
            if name is not None:
                look = RunFollower(await self.open(name)).look
            for unheard in [n for n, one in self._live.items() if not one.listeners]:
                if len(self._live) >= MAX_LIVE:
                    del self._live[unheard]
            self._live[name] = Live(look)
        return self._live[name]

    @property
    def listeners(self) -> int:
        """Browsers that listen to a run."""
        return sum(live.listeners for live in self._live.values())

    async def end(self, why: str) -> None:
        """Tell every browser that nothing more comes, and why."""
        self.over = why
        for live in list(self._live.values()):
            await live.end(why)

    def page(self, template: str, here: str, status: int = 200, **told: Any) -> HTMLResponse:
        """A page of a template.

        Args:
            template: its name.
            here: the page's own path.
            status: the answer's.
            told: what it is given besides.
        """
        links = sorted(self.links, key=lambda link: link.place)
        return HTMLResponse(render(template, links=links, here=here, **told), status)


class Latest:
    """The latest run of a results folder, whichever it is at the time."""

    def __init__(self, results: Path) -> None:
        self._results = results
        self._target = ""
        self._follower: RunFollower | None = None

    def look(self) -> View:
        """How it stands now; that there is none, or that it cannot be read, is told."""
        try:
            target = str((self._results / LATEST).readlink())
        except OSError:
            return View("")
        if self._follower is None or target != self._target:
            try:
                self._follower = RunFollower(find(self._results, LATEST))
            except LabError as error:
                return View("", problem=str(error))
            self._target = target
        return self._follower.look()
