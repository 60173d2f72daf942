"""A page that is served on this machine for its own user: who may ask it, by what a request says.

Any page that a browser has open can send requests to a port of this machine. Three headers tell
such a request from the page's own:

    Host             the name in the address bar: another one means a name that was pointed here
                     (DNS rebinding)
    Origin           the page that sent the request; a browser lets no page change it
    Sec-Fetch-Site   the browser's own word for whether that page is this one

A program such as curl sends neither of the last two and may do what its user may do anyway.
"""

from __future__ import annotations

from collections.abc import Mapping

HTTP_PORT = 80
"""The port that clients leave out of a host's name."""

READS = ("GET", "HEAD")

OWN_SITE = ("same-origin", "none")
"""What a browser calls a request of the page itself, and of its user's own."""


def names(port: int) -> tuple[str, ...]:
    """As what a page on ``port`` of 127.0.0.1 may be addressed."""
    named = f"127.0.0.1:{port}", f"localhost:{port}"
    return (*named, "127.0.0.1", "localhost") if port == HTTP_PORT else named


def origins(port: int) -> tuple[str, ...]:
    """The origins of that page."""
    return tuple(f"http://{name}" for name in names(port))


def lowered(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers by their names in small letters, in which they mean the same."""
    return {name.lower(): value for name, value in headers.items()}


def stranger(headers: Mapping[str, str], port: int) -> str | None:
    """Why a request is not of the page on ``port``, in a line; None if it is.

    Args:
        headers: by name, in small letters.
        port: of 127.0.0.1.
    """
    own = origins(port)
    if headers.get("host") not in names(port):
        return f"this page is served as {' and '.join(names(port))} only"
    if headers.get("origin", own[0]) not in own:
        return "a page of another origin may not ask this one"
    return None
