"""Ports on 127.0.0.1: drawn from the free ones, or given and checked."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

import requests

from lab.errors import MachineError

HOST = "127.0.0.1"

POLL_S = 0.02
"""How long to wait before a part is asked again whether it serves."""

OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")
"""Where Linux shows the range from which it takes the ports of outgoing connections."""

SPAN = range(20_000, 32_768)
"""Ports that neither Linux nor macOS gives to outgoing connections by default."""


def free(count: int, but: int | None = None) -> list[int]:
    """That many different ports that nothing listens on now, drawn at random.

    A part begins to listen seconds after its port was chosen. A port that the system chose
    (``bind`` to 0) may by then belong to an outgoing connection, so it is drawn from those
    that outgoing connections never get.

    Args:
        count: how many.
        but: a port that is not to be among them: it is somebody's already, who will listen soon.

    Raises:
        MachineError: not that many are free.
    """
    candidates = _never_given()
    drawn = random.Random().sample(candidates, len(candidates))  # noqa: S311 - not a secret
    ports = list(islice((port for port in drawn if port != but and _is_free(port)), count))
    if len(ports) < count:
        raise MachineError(
            f"{count} free ports on {HOST} were not found", "end programs that listen on many"
        )
    return ports


def _never_given() -> Sequence[int]:
    """`SPAN` without the ports of outgoing connections; all of it if they cover it."""
    try:
        low, high = map(int, OUTGOING.read_text().split())
    except (OSError, ValueError):
        return SPAN
    return [port for port in SPAN if not low <= port <= high] or SPAN


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def check(port: int) -> int:
    """``port``, if it can be listened on.

    Raises:
        MachineError: something listens there already, or this user may not.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise MachineError(
                f"port {port} on {HOST} cannot be used ({error.strerror})",
                "choose another with --port",
            ) from error
    return port


def wait_until_free(port: int, within: float) -> None:
    """Wait until ``port`` can be listened on again, for so many seconds at most.

    A process that was killed is a zombie when its first thread has ended; until its last has, what
    it listened on is open.
    """
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        with suppress(MachineError):
            check(port)
            return
        time.sleep(POLL_S)


def http() -> requests.Session:
    """A client for the replica: no proxy, certificate or password of the user's environment."""
    session = requests.Session()
    session.trust_env = False
    return session


def accepts(port: int) -> bool:
    """Whether something listens on the port and accepts."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((HOST, port)) == 0
