"""The platform's liveness probe: GET /health at an instance, past its queue and its places."""

from __future__ import annotations

import asyncio

from lab.model.replica import HEALTH_PATH
from lab.services.cloudrun.instance import Address

REQUEST = f"GET {HEALTH_PATH} HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n".encode()

GOOD = range(200, 400)
"""The statuses that are a success: from 200, below 400 ("Configure container health checks")."""


async def ask_health(address: Address, within: float) -> str:
    """Why an instance did not answer well within so many seconds, in a few words; empty if so."""
    try:
        async with asyncio.timeout(within):
            line = await _first_line(address)
    except TimeoutError:
        return f"no answer within {within:g} s"
    except OSError as error:
        return error.strerror or "its connection failed"
    status = line.split()[1:2]
    if not status:
        return "its connection was closed without an answer"
    return "" if status[0].isdigit() and int(status[0]) in GOOD else f"it answered {status[0]}"


async def _first_line(address: Address) -> str:
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(REQUEST)
        return (await reader.readline()).decode("latin-1")
    finally:
        writer.close()
