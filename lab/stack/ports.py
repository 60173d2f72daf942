"""Ports on 127.0.0.1: found free, or asked for and checked."""

from __future__ import annotations

import socket

from lab.errors import MachineError

HOST = "127.0.0.1"


def free(count: int) -> list[int]:
    """That many different ports that nothing listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


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


def accepts(port: int) -> bool:
    """Whether something listens on the port and accepts."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((HOST, port)) == 0
