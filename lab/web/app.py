"""The live server's application: its own files, and a page for each module of `lab.web.pages`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse
from starlette.types import ASGIApp

from lab.errors import LabError, UsageError
from lab.report.styles import style_sheet
from lab.web import pages
from lab.web.guard import Guard
from lab.web.site import Command, Site

KINDS = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


def make_site(
    results: Path, commands: Mapping[str, Command] | None = None, run: str | None = None
) -> Site:
    """A site with all its pages.

    Args:
        results: the folder that holds the runs.
        commands: as of `Site`.
        run: the run that ``/`` shows; None: whichever is the latest.
    """
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    site = Site(app, results, commands or {}, run)
    _add_problems(site)
    _add_assets(app)
    for module in pkgutil.iter_modules(pages.__path__):
        importlib.import_module(f"{pages.__name__}.{module.name}").add(site)
    return site


def guarded(site: Site, port: int) -> ASGIApp:
    """The site's application behind its guard, as it is served on ``port``."""
    return Guard(site.app, port)


def _add_assets(app: FastAPI) -> None:
    """The files under ``assets/``, and the report's style sheet: known by name, read once."""
    folder = resources.files("lab.web") / "assets"
    files = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    files["report.css"] = style_sheet().encode()

    @app.api_route("/assets/{name}", methods=["GET", "HEAD"])
    async def asset(name: str) -> Response:
        if name not in files:
            raise HTTPException(404, "there is no such file")
        kind = KINDS.get(Path(name).suffix, "application/octet-stream")
        return Response(files[name], media_type=kind)


def _add_problems(site: Site) -> None:
    """Have what cannot be answered told as a page with one line."""

    async def told(_request: Any, error: Exception, status: int, title: str) -> HTMLResponse:
        return site.page("problem", "", status, title=title, problem=str(error))

    async def wrong(_request: Any, error: Exception) -> HTMLResponse:
        detail = error.errors()[0] if isinstance(error, RequestValidationError) else {}
        what = f"{detail.get('loc', ('',))[-1]}: {detail.get('msg', 'it is not understood')}"
        return site.page("problem", "", 400, title="Not understood", problem=what)

    async def refused(_request: Any, error: Exception) -> HTMLResponse:
        status = error.status_code if isinstance(error, HTTPException) else 500
        missing = "there is no such page; `/runs` lists the runs"
        problem = missing if status == 404 else str(error)
        return site.page("problem", "", status, title="Not found", problem=problem)

    handle = site.app.add_exception_handler
    handle(UsageError, partial(told, status=404, title="Not found"))
    handle(LabError, partial(told, status=503, title="It cannot be shown"))
    handle(RequestValidationError, wrong)
    handle(HTTPException, refused)
