"""``python -m lab.services.toxiproxy``: the flags, and one event loop for API and proxies.

Exit codes: 0 after SIGTERM or SIGINT, 2 a bad flag or config file, 3 an address is taken.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import random
import select
import selectors
import signal
import socket
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from lab.services.toxiproxy.api import VERSION, Api
from lab.services.toxiproxy.collection import Collection
from lab.services.toxiproxy.proxy import ServerError, resolve


class ConfigError(ServerError):
    """The config file cannot be read, or is wrong."""

    exit_code = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code."""
    flags = _flags().parse_args(arguments)
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    random.seed(flags.seed)
    try:
        config = b"[]" if flags.config is None else _read_config(flags.config)
        with asyncio.Runner(loop_factory=precise_loop) as runner:
            runner.run(_serve(flags, config))
    except ServerError as error:
        print(f"toxiproxy (lab): {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


def _flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lab.services.toxiproxy",
        description="A small server that speaks Toxiproxy's API.",
    )
    parser.add_argument("-host", "--host", default="127.0.0.1", help="address of the API")
    parser.add_argument("-port", "--port", default="8474", help="port of the API")
    parser.add_argument("-config", "--config", type=Path, help="JSON list of proxies")
    parser.add_argument("-seed", "--seed", type=int, help="seed of what toxics draw")
    parser.add_argument(
        "-anywhere",
        "--anywhere",
        action="store_true",
        help="let proxies listen on other addresses than loopback",
    )
    parser.add_argument("-version", "--version", action="version", version=VERSION)
    return parser


def _read_config(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read config {path}: {error.strerror}") from error


async def _serve(flags: argparse.Namespace, config: bytes) -> None:
    loop = asyncio.get_running_loop()
    collection = Collection(loop, flags.anywhere)
    with _api_socket(flags.host, flags.port) as listener:
        try:
            _populate(collection, config)
            server = _Server(
                uvicorn.Config(
                    Api(collection, flags.host).application(),
                    log_config=None,
                    log_level="warning",
                    access_log=False,
                    lifespan="off",
                    ws="none",
                    timeout_graceful_shutdown=1,
                )
            )
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, setattr, server, "should_exit", True)
            await server.serve(sockets=[listener])
        finally:
            collection.close()


class _Server(uvicorn.Server):
    """uvicorn without its signal handling, which would end the process with the signal."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def _api_socket(host: str, port: str) -> socket.socket:
    family, address = resolve(f"{host}:{port}")
    try:
        return socket.create_server(address, family=family)
    except OSError as error:
        why = os.strerror(error.errno or 0).lower()
        raise ServerError(
            f"{host}:{port} cannot be listened on: {why} - "
            "choose another with -port, or stop what holds it"
        ) from error


def _populate(collection: Collection, config: bytes) -> None:
    _, error = collection.populate(config)
    if error is None:
        return
    if error.status in (400, 403):
        raise ConfigError(f"config: {error}")
    raise ServerError(f"config: {error} - choose another address for that proxy")


def precise_loop() -> asyncio.AbstractEventLoop:
    """A new selector event loop whose timers keep microseconds, where the system has epoll.

    asyncio's selector rounds a timeout up to the next millisecond, because ``epoll_wait``
    takes whole ones: a delay of 5 ms becomes 5.0-6.1 ms. ``select`` takes microseconds, and
    an epoll descriptor is itself selectable, so waiting there first loses only the kernel's
    timer slack of 50 us.
    """
    return asyncio.SelectorEventLoop(_precise_selector())


def _precise_selector() -> selectors.BaseSelector:
    if not hasattr(selectors, "EpollSelector"):
        return selectors.DefaultSelector()

    class PreciseSelector(selectors.EpollSelector):
        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            if timeout is not None and timeout > 0:
                select.select([self.fileno()], [], [], timeout)
                timeout = 0
            return super().select(timeout)

    return PreciseSelector()


if __name__ == "__main__":
    sys.exit(main())
