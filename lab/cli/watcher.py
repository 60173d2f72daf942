"""The live page's process beside a run, and what ``lab watch`` itself needs.

    lab run --watch ──socket that listens──> lab watch --socket ──reads──> the run's folder
                    ──SIGTERM at the end───>

The socket is the run's: it is there before the page's process is, so a browser that asks early
waits and is not refused. That process ends with the run, whichever way that ends; one that was
killed, or hangs, is nothing to the run.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from lab.cli.options import print_message
from lab.errors import MachineError, UsageError
from lab.model.environment import child_environment, python_variables

HOST = "127.0.0.1"

PORT = 8088
"""Where the page is served, where no other port is asked for."""

ADDRESS = f"http://{HOST}:{{port}}"

END_S = 3.0
"""Seconds that the page's process may take to end once it is told to."""

Command = Callable[..., Sequence[str]]


def listen(port: int, *, or_any: bool = False) -> socket.socket:
    """A socket that listens on 127.0.0.1.

    Args:
        port: on which.
        or_any: where that is taken, on one that is free.

    Raises:
        MachineError: it is taken, or this user may not listen on it.
    """
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        if or_any:
            return socket.create_server((HOST, 0))
        raise MachineError(
            f"port {port} on {HOST} cannot be used ({os.strerror(error.errno or 0)})",
            "choose another with --port",
        ) from error


def adopt(handle: int) -> socket.socket:
    """The socket that a run has given this process.

    Raises:
        UsageError: it is no socket that listens on 127.0.0.1.
    """
    with suppress(OSError):
        given = socket.socket(fileno=handle)
        if given.family == socket.AF_INET and given.getsockname()[0] == HOST:
            return given
        given.detach()
    raise UsageError(f"--socket {handle} is no socket on {HOST}", "leave it out")


def documents() -> dict[str, Command]:
    """The command lines of what a page has made by a command of its own.

    A run's ``report``, and, where the lab has that command, how two ``compare``.
    """

    def report(run: Path) -> Sequence[str]:
        return (*_lab(), "report", str(run.absolute()), "--html")

    def compare(before: Path, after: Path, *more: str) -> Sequence[str]:
        return (*_lab(), "compare", str(before.absolute()), str(after.absolute()), "--html", *more)

    has_compare = find_spec("lab.cli.compare") is not None
    return {"report": report, **({"compare": compare} if has_compare else {})}


@contextmanager
def watched(results: Path, *, wanted: bool) -> Iterator[None]:
    """Have the live page served while the block runs, and say where.

    Args:
        results: the folder that holds the runs.
        wanted: whether it is asked for; else nothing is done.
    """
    if not wanted:
        yield
        return
    with listen(PORT, or_any=True) as listening:
        process = _start(results, listening)
        port = listening.getsockname()[1]
    try:
        print_message(f"the live page: {ADDRESS.format(port=port)} (until the run ends)")
        yield
    finally:
        _end(process)


def _start(results: Path, listening: socket.socket) -> subprocess.Popen[bytes]:
    """The page's process: a session of its own, because Ctrl-C is the run's to tell it of."""
    handle = listening.fileno()
    command = (*_lab(), "watch", "--results", str(results.absolute()), "--socket", str(handle))
    return subprocess.Popen(  # noqa: S603 - the lab's own program
        command,
        env=child_environment(python_variables()),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(handle,),
        start_new_session=True,
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it: SIGTERM, by which it tells its browsers, then SIGKILL."""
    with suppress(ProcessLookupError):
        process.terminate()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _lab() -> tuple[str, ...]:
    return (sys.executable, "-P", "-m", "lab")


def parent() -> int:
    """The process that began this one, and with which it ends."""
    return os.getppid()
