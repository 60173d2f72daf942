"""The gateway: its settings, the log of its events, and the server with its orderly end.

Its settings are its environment:

    HOST, PORT         where it listens for users
    LAB_*              the knobs; the instance gets them, too
    FRONT_EVENTS       the file of its events
    FRONT_LOGS         the folder of its instances' logs
    FRONT_DRIVER       process (default) or docker
    FRONT_COMMAND      process: the command as a JSON list; the backend, if not given
    FRONT_CONTAINER    docker: the arguments of `containers.create`, as a JSON object

An instance gets this environment without FRONT_*, with a HOST and PORT of its own, and instead
of the VM's knobs its own: cloudrun_workers processes, on as many cores as its CPU limit amounts
to.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Self, TextIO

import uvicorn
from pydantic import BaseModel, ConfigDict, Field, Json, ValidationError

from lab.model.clock import BEAT_S
from lab.model.knobs import Knobs
from lab.services.cloudrun.http import BoundedHead, application
from lab.services.cloudrun.instance import HOST, Driver, EventLog
from lab.services.cloudrun.request import Requests
from lab.services.cloudrun.rules import KILL_WITHIN_S, TERM_GRACE_S
from lab.services.cloudrun.scheduler import Scheduler

BACKEND = [sys.executable, "-m", "lab.services.backend"]
KEEP_ALIVE_S = 75
"""Longer than any client of the lab trusts an idle connection; the platform's is 600 s."""
BACKLOG = 2048
READ_EVERY_S = BEAT_S
USAGE_EVERY_S = 0.5
LOOK_EVERY_S = 0.25


class GatewaySettings(BaseModel):
    """The gateway's settings; see the module."""

    model_config = ConfigDict(frozen=True)

    host: str = Field(HOST, alias="HOST")
    port: int = Field(8080, alias="PORT")
    events: Path = Field(alias="FRONT_EVENTS")
    logs: Path = Field(alias="FRONT_LOGS")
    driver: Literal["process", "docker"] = Field("process", alias="FRONT_DRIVER")
    command: Json[list[str]] = Field(BACKEND, alias="FRONT_COMMAND")
    container: Json[dict[str, Any]] = Field({}, alias="FRONT_CONTAINER")
    knobs: Knobs
    instance_env: dict[str, str]

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Read the environment.

        Raises:
            ValueError: a value is missing or not allowed, or knobs contradict each other; on
                one line.
        """
        knobs = knobs_of(env)
        try:
            return cls.model_validate(
                {**env, "knobs": knobs, "instance_env": instance_env(env, knobs)}
            )
        except ValidationError as error:
            raise ValueError(_first_of(error)) from None


def knobs_of(env: Mapping[str, str]) -> Knobs:
    """The knobs, checked alone and together.

    Raises:
        ValueError: a value is not allowed, or knobs contradict each other; on one line.
    """
    try:
        knobs = Knobs.from_env(env)
    except ValidationError as error:
        raise ValueError(_first_of(error)) from None
    if contradiction := knobs.contradiction():
        raise ValueError(" - ".join(contradiction))
    return knobs


def _first_of(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    name = first["loc"][0]
    return f"{name} is not set" if first["type"] == "missing" else f"{name}: {first['msg']}"


def instance_env(env: Mapping[str, str], knobs: Knobs) -> dict[str, str]:
    """The environment of an instance, except HOST and PORT."""
    kept = {name: value for name, value in env.items() if not name.startswith("FRONT_")}
    return {**kept, **in_place_of_the_vm(knobs)}


def in_place_of_the_vm(knobs: Knobs) -> dict[str, str]:
    """The variables of an instance that differ from those of the backend on the VM."""
    return {
        "LAB_WORKERS": str(knobs.cloudrun_workers),
        "LAB_VM_CPUS": str(knobs.instance_cores),
    }


class EventFile:
    """Events as JSON lines of a file that is flushed line by line, so that it outlives a kill.

    Args:
        clock: the monotonic clock: each line's ``at``, in seconds.
    """

    def __init__(self, file: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._clock = clock

    def write(self, event: str, **fields: object) -> None:
        line = {"at": round(self._clock(), 6), "event": event, **fields}
        self._file.write(json.dumps(line, separators=(",", ":")) + "\n")
        self._file.flush()


async def keep_reading(log: EventLog, read: Callable[[], Mapping[str, object]]) -> None:
    """Write a beat ten times a second, and a reading when it has changed; until cancelled."""
    last: Mapping[str, object] | None = None
    while True:
        log.write("beat")
        if (now := read()) != last:
            log.write("reading", **now)
            last = now
        await asyncio.sleep(READ_EVERY_S)


async def keep_usage(
    log: EventLog, usages: Callable[[], Mapping[str, Mapping[str, float]]]
) -> None:
    """Write twice a second what instances have used, if that has changed; until cancelled."""
    last: Mapping[str, Mapping[str, float]] = {}
    while True:
        now = usages()
        for instance, used in now.items():
            if used != last.get(instance):
                log.write("usage", instance=instance, **used)
        last = dict(now)
        await asyncio.sleep(USAGE_EVERY_S)


async def keep_looking(look: Callable[[], Awaitable[None]]) -> None:
    """Look four times a second whether an instance was frozen; until cancelled."""
    while True:
        await look()
        await asyncio.sleep(LOOK_EVERY_S)


class GatewayServer(uvicorn.Server):
    """The server of a service; `run_on` serves until `stop`.

    On SIGTERM waiting requests are refused, those in flight may finish while the instances stop,
    and the server returns when none is left. A second signal ends every instance at once.
    """

    def __init__(self, knobs: Knobs, driver: Driver, log: EventLog) -> None:
        self._log = log
        self.scheduler = Scheduler(knobs, driver, log)
        self.requests = Requests(knobs, self.scheduler, log)
        config = uvicorn.Config(
            application(self.requests),
            http=BoundedHead,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=int(TERM_GRACE_S + KILL_WITHIN_S) + 1,
        )
        super().__init__(config)
        self._closing: asyncio.Task[None] | None = None

    async def run_on(self, listener: socket.socket) -> None:
        """Serve on a socket until `stop`; afterwards no instance is left, or `stuck` names it.

        An answer is sent in pieces, so its connection must not wait for more data (Nagle). The
        option is inherited from the listener; asyncio sets it only if a socket names TCP.
        """
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        notes = [
            asyncio.create_task(keep_reading(self._log, self.scheduler.reading)),
            asyncio.create_task(keep_usage(self._log, self.scheduler.usages)),
            asyncio.create_task(keep_looking(self.scheduler.look_whether_frozen)),
        ]
        self.scheduler.open()
        try:
            await self.serve(sockets=[listener])
        finally:
            for note in notes:
                note.cancel()
            await self._close()
            await self.requests.close()

    def stop(self) -> None:
        """Take no new requests and end in an orderly way; a second call ends at once."""
        if self.should_exit:
            self.scheduler.abort()
        self.should_exit = True
        self._close()

    def _close(self) -> asyncio.Task[None]:
        if self._closing is None:
            self._closing = asyncio.create_task(self.scheduler.close())
        return self._closing

    @property
    def stuck(self) -> list[str]:
        """The instances that could not be ended or removed."""
        return self.scheduler.stuck

    def stop_on_signals(self) -> None:
        """SIGTERM and SIGINT call `stop`."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals alone: uvicorn would end the process with them."""
        yield
