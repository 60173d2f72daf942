"""A live server in this process, on a port of its own, and a browser's ear for its events."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import requests
import uvicorn

from lab.web.app import guarded
from lab.web.serve import WatchServer
from lab.web.site import Site


@dataclass(frozen=True)
class Event:
    """A server-sent event."""

    name: str
    data: Any
    id: str


@contextmanager
def served(site: Site) -> Iterator[str]:
    """The site's address while it is served."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        config = uvicorn.Config(
            guarded(site, port), lifespan="off", log_config=None, timeout_graceful_shutdown=2
        )
        server = WatchServer(config, site, None)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()


def events(address: str, headers: Mapping[str, str] | None = None) -> Iterator[Event]:
    """What the server sends until it ends the stream."""
    told = {"Accept": "text/event-stream", **(headers or {})}
    with requests.get(address, headers=told, stream=True, timeout=20) as answer:
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield from parsed(answer.iter_lines(chunk_size=1))


def parsed(lines: Iterator[bytes]) -> Iterator[Event]:
    """Events from the lines of a stream."""
    fields: dict[str, str] = {}
    for raw in lines:
        line = raw.decode()
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value
        elif not line and fields:
            yield Event(fields.get("event", ""), json.loads(fields["data"]), fields.get("id", ""))
            fields = {}
