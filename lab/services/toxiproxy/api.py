"""The HTTP API, with the same endpoints as Toxiproxy's."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from lab.services.toxiproxy.collection import Collection
from lab.services.toxiproxy.proxy import ApiError

VERSION = "2.12.0+lab"
"""The version of Toxiproxy that this server behaves like, marked as the lab's own."""

Answer = tuple[int, Any]
Action = Callable[[dict[str, str], bytes], Answer]
"""From the path's parameters and the body to a status and what becomes the JSON answer."""

NO_CONTENT: Answer = (204, None)


class Api:
    """The endpoints over a collection of proxies.

    Args:
        name: of the host that it is served as, beside ``localhost`` and addresses.
    """

    def __init__(self, proxies: Collection, name: str) -> None:
        self._all, self._name = proxies, name

    def application(self) -> Starlette:
        """The API as an ASGI application."""
        toxics = "/proxies/{proxy}/toxics"

        app = Starlette(
            routes=[
                self._route("/version", GET=self._version),
                self._route("/reset", POST=self._reset),
                self._route("/populate", POST=self._populate),
                self._route("/proxies", GET=self._proxies, POST=self._create),
                self._route(
                    "/proxies/{proxy}",
                    GET=self._proxy,
                    POST=self._update,
                    PATCH=self._update,
                    DELETE=self._delete,
                ),
                self._route(toxics, GET=self._toxics, POST=self._add_toxic),
                self._route(
                    toxics + "/{toxic}",
                    GET=self._toxic,
                    POST=self._update_toxic,
                    PATCH=self._update_toxic,
                    DELETE=self._remove_toxic,
                ),
            ],
            exception_handlers={404: _not_found, 405: _not_allowed},
        )
        app.router.redirect_slashes = False
        return app

    def _version(self, _path: dict[str, str], _body: bytes) -> Answer:
        return 200, {"version": VERSION}

    def _reset(self, _path: dict[str, str], _body: bytes) -> Answer:
        self._all.reset()
        return NO_CONTENT

    def _populate(self, _path: dict[str, str], body: bytes) -> Answer:
        done, error = self._all.populate(body)
        proxies = {"proxies": [proxy.as_json() for proxy in done] or None}
        return (201, proxies) if error is None else (error.status, {**_refusal(error), **proxies})

    def _proxies(self, _path: dict[str, str], _body: bytes) -> Answer:
        return 200, {name: proxy.as_json() for name, proxy in sorted(self._all.proxies.items())}

    def _create(self, _path: dict[str, str], body: bytes) -> Answer:
        return 201, self._all.create(body).as_json()

    def _proxy(self, path: dict[str, str], _body: bytes) -> Answer:
        return 200, self._all.get(path["proxy"]).as_json()

    def _update(self, path: dict[str, str], body: bytes) -> Answer:
        return 200, self._all.update(path["proxy"], body).as_json()

    def _delete(self, path: dict[str, str], _body: bytes) -> Answer:
        self._all.delete(path["proxy"])
        return NO_CONTENT

    def _toxics(self, path: dict[str, str], _body: bytes) -> Answer:
        return 200, self._all.get(path["proxy"]).toxics_json()

    def _add_toxic(self, path: dict[str, str], body: bytes) -> Answer:
        return 200, self._all.add_toxic(path["proxy"], body).as_json()

    def _toxic(self, path: dict[str, str], _body: bytes) -> Answer:
        return 200, self._all.get(path["proxy"]).find(path["toxic"]).as_json()

    def _update_toxic(self, path: dict[str, str], body: bytes) -> Answer:
        return 200, self._all.update_toxic(path["proxy"], path["toxic"], body).as_json()

    def _remove_toxic(self, path: dict[str, str], _body: bytes) -> Answer:
        self._all.remove_toxic(path["proxy"], path["toxic"])
        return NO_CONTENT

    def _route(self, path: str, **actions: Action) -> Route:
        async def answer(request: Request) -> Response:
            action = actions.get(request.method)
            if action is None:  # HEAD: Starlette adds it to GET, the original does not
                return Response(status_code=405)
            if reason := refusal(request.headers, self._name):
                return PlainTextResponse(f"{reason}\n", 403)
            body = await request.body()
            try:
                status, content = action(request.path_params, body)
            except ApiError as error:
                return PlainTextResponse(json.dumps(_refusal(error)) + "\n", error.status)
            if content is None:
                return Response(status_code=status)
            return Response(json.dumps(content), status, media_type="application/json")

        return Route(path, answer, methods=list(actions))


def refusal(headers: Mapping[str, str], name: str) -> str | None:
    """Why a request is refused that a page in a browser may have sent; None if it is answered.

    The original looks at ``User-Agent`` alone, which a page may set in some browsers. None can
    leave out ``Origin``, or say another ``Host`` than the address bar does: a page whose name was
    pointed at this machine (DNS rebinding) has a name there, which is not ours.

    Args:
        name: of the host that the API is served as, beside ``localhost`` and addresses.
    """
    if headers.get("user-agent", "").startswith("Mozilla/"):
        return "User agent not allowed"
    if "origin" in headers or "sec-fetch-site" in headers:
        return "Pages in a browser are not allowed"
    host = headers.get("host", "")
    return None if _is_ours(host, name) else f"Host '{host}' is not this server's"


def _is_ours(host: str, name: str) -> bool:
    """Whether a ``Host`` is an address, ``localhost`` or this name, with a port or without."""
    try:
        hostname = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    with suppress(ValueError):
        ipaddress.ip_address(hostname)
        return True
    return hostname in ("localhost", name.lower())


def _refusal(error: ApiError) -> dict[str, Any]:
    return {"error": str(error), "status": error.status}


async def _not_found(_request: Request, _error: Exception) -> Response:
    return PlainTextResponse("404 page not found\n", 404)


async def _not_allowed(_request: Request, _error: Exception) -> Response:
    return Response(status_code=405)
