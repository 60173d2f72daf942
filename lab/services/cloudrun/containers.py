"""The driver of the compose stack: an instance is a container, made over the Docker SDK.

The gateway runs on the host, so no container gets the engine's socket. The caller gives what
the container is made from (image, network, environment); the driver sets limits, port, name and
number. The number, LAB_INSTANCE, distinguishes instances, which all have the same process ids
in their containers. The SDK blocks, so its calls run in threads.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

import docker
import requests
from docker.errors import APIError, DockerException, NotFound

from lab.model import processes
from lab.model.replica import INSTANCE_LABEL, INSTANCE_PREFIX, INSTANCE_VARIABLE
from lab.services.cloudrun.instance import (
    CPU_PERIOD_US,
    HOST,
    PROBE_WITHIN_S,
    Address,
    DriverError,
    Ended,
)
from lab.services.cloudrun.probe import ask_health

T = TypeVar("T")
PORT = 8080
"""Cloud Run's default for the port on which a container listens."""
READ_EVERY_S = 0.5
"""Seconds between two readings of a container's usage, which is lost when it ends."""
THREADS = 64
"""At most two for each instance, of which one waits for its end."""


class ContainerDriver:
    """Makes instances as containers.

    Args:
        container: arguments of `containers.create`: ``image``, ``network``, ``environment`` …
        memory: bytes, swap and the files under /tmp included.
        logs: folder in which an instance's output is written to ``<name>.log`` at its end.

    Raises:
        DriverError: no engine answers.
    """

    def __init__(self, container: Mapping[str, Any], memory: int, logs: Path) -> None:
        self._container, self._memory, self._logs = container, memory, logs
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="docker")
        self._client = client()
        self._made = 0

    async def start(self, name: str, cpus: float) -> ContainerInstance:
        self._made += 1
        number = self._made
        try:
            made = await _call(self._threads, lambda: self._make(name, number, cpus))
        except NotFound as error:  # the image, or the network
            raise DriverError(str(error.explanation or error)) from error
        return ContainerInstance(made, address_of(made), self._logs / f"{name}.log", self._threads)

    def _make(self, name: str, number: int, cpus: float) -> Any:
        given = dict(self._container)
        environment = {
            **given.pop("environment", {}),
            "HOST": "0.0.0.0",  # noqa: S104 - the container's own
            "PORT": str(PORT),
            "LAB_INSTANCE": str(number),
            INSTANCE_VARIABLE: name,
        }
        labels = {**given.pop("labels", {}), INSTANCE_LABEL: str(os.getpid())}
        made = self._client.containers.create(
            **given,
            name=f"{INSTANCE_PREFIX}{os.getpid()}-{name}",
            environment=environment,
            labels=labels,
            ports={f"{PORT}/tcp": (HOST, None)},
            # What is written there is memory, as on Cloud Run; as in Compose's service.
            tmpfs={"/tmp": f"mode=1777,size={self._memory},noexec,nosuid,nodev"},  # noqa: S108
            mem_limit=self._memory,
            memswap_limit=self._memory,
            cpu_period=CPU_PERIOD_US,
            cpu_quota=round(cpus * CPU_PERIOD_US),
        )
        try:
            made.start()
            made.reload()
        except DockerException:
            made.remove(force=True)
            raise
        return made


class ContainerInstance:
    """An instance that is a container."""

    def __init__(
        self, container: Any, address: Address, log: Path, threads: ThreadPoolExecutor
    ) -> None:
        self.address = address
        self._container, self._log, self._threads = container, log, threads
        self._used: dict[str, float] = {}
        self._begun, self._oom = time.monotonic() - 1, False
        self._over = False
        self._pid: int | None = None

    async def listening(self) -> bool:
        """Whether the application itself listens: the engine's port proxy always accepts."""
        try:
            async with asyncio.timeout(PROBE_WITHIN_S):
                reader, writer = await asyncio.open_connection(*self.address)
                try:
                    return await self._is_held_open(reader)
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return False

    @staticmethod
    async def _is_held_open(reader: asyncio.StreamReader) -> bool:
        """Whether the connection stays open: the proxy closes it if nothing listens behind."""
        try:
            async with asyncio.timeout(0.05):
                return await reader.read(1) != b""
        except TimeoutError:
            return True

    async def health(self, within: float) -> str:
        return await ask_health(self.address, within)

    async def set_cpus(self, cpus: float) -> None:
        quota = round(cpus * CPU_PERIOD_US)
        await self._do(lambda: self._container.update(cpu_period=CPU_PERIOD_US, cpu_quota=quota))

    async def pause(self) -> None:
        await self._do(self._container.pause)

    async def resume(self) -> None:
        await self._do(self._container.unpause)

    async def terminate(self) -> None:
        await self._do(lambda: self._container.kill("SIGTERM"))

    async def kill(self) -> None:
        with suppress(DriverError):  # it was not paused
            await self._do(self._container.unpause)
        await self._do(lambda: self._container.kill("SIGKILL"))

    async def ended(self) -> Ended:
        waiting = asyncio.get_running_loop().run_in_executor(self._threads, self._wait)
        while not waiting.done():
            await asyncio.wait({waiting}, timeout=READ_EVERY_S)
            with suppress(DriverError, NotFound):
                await self.read_usage()
                if await _call(self._threads, self._lost_a_process):
                    await self.kill()
        self._over = True
        return waiting.result()

    def usage(self) -> Mapping[str, float]:
        return dict(self._used)

    async def withheld(self) -> str:
        with suppress(NotFound):
            return await _call(self._threads, self._held)
        return ""

    def _held(self) -> str:
        """By the kernel, where it shows the container's processes, else as the engine says."""
        if self._pid is None:
            self._container.reload()
            self._pid = int(self._container.attrs["State"]["Pid"])
        if self._container.id.encode() in processes.cgroups(self._pid):
            return processes.held_among(processes.descendants(self._pid))
        self._container.reload()
        if self._container.attrs["State"]["Paused"]:
            return "paused by the engine"
        ps = self._container.top(ps_args="-eo pid,stat")["Processes"]
        return next((processes.HELD[s[0]] for _, s in ps if s[0] in processes.HELD), "")

    async def read_usage(self) -> float:
        return await _call(self._threads, self._read_stats)

    async def remove(self) -> None:
        self._over = True
        with suppress(OSError, DriverError, NotFound):
            self._log.write_bytes(await _call(self._threads, self._container.logs))
        with suppress(NotFound):
            await _call(self._threads, lambda: self._container.remove(force=True, v=True))

    async def _do(self, action: Callable[[], object]) -> None:
        """Do something to the container; an error after its end is ignored."""
        try:
            await _call(self._threads, action)
        except (DriverError, NotFound):
            if not self._over and await _call(self._threads, self._lives):
                raise

    def _lives(self) -> bool:
        with suppress(NotFound):
            self._container.reload()
            return bool(self._container.attrs["State"]["Running"])
        return False

    def _lost_a_process(self) -> bool:
        """Whether the kernel has killed one of its processes for memory.

        The kernel ends a process; the platform ends the instance. The state of a container in
        which others run on says nothing of it, the engine's events do.
        """
        filters = {"container": self._container.id, "event": "oom"}
        now = time.time()  # the engine's own clock, which somebody may have set since
        begun = now - (time.monotonic() - self._begun)
        events = self._container.client.api.events(begun, now, filters)
        self._oom = self._oom or any(True for _ in events)
        return self._oom

    def _wait(self) -> Ended:
        while True:
            try:
                code = self._container.wait()["StatusCode"]
                self._container.reload()
                oom = self._oom or bool(self._container.attrs["State"]["OOMKilled"])
                return Ended(_exit_code(code), oom)
            except requests.ReadTimeout:  # the SDK's own timeout: the container still runs
                continue
            except (DockerException, requests.RequestException):
                return Ended(None)

    def _read_stats(self) -> float:
        stats = self._container.client.api.stats(
            self._container.id, stream=False, one_shot=True, decode=None
        )
        memory, cpu = stats.get("memory_stats", {}), stats.get("cpu_stats", {})
        peak = max(memory.get("max_usage", 0), memory.get("usage", 0))
        self._used["peak_bytes"] = max(self._used.get("peak_bytes", 0.0), float(peak))
        for name, value in (
            ("cpu_s", cpu.get("cpu_usage", {}).get("total_usage", 0)),
            ("throttled_s", cpu.get("throttling_data", {}).get("throttled_time", 0)),
        ):
            self._used[name] = max(self._used.get(name, 0.0), value / 1e9)
        return datetime.fromisoformat(stats["read"]).timestamp()


def client() -> Any:
    """The engine's client.

    Raises:
        DriverError: no engine answers.
    """
    try:
        return docker.from_env()
    except DockerException as error:
        raise DriverError(f"no Docker engine answers: {error}") from error


def address_of(container: Any) -> Address:
    """Where a started container serves: its published port, or its own address.

    An internal network publishes no ports; from the host it is reached directly.
    """
    settings = container.attrs["NetworkSettings"]
    if bindings := (settings["Ports"] or {}).get(f"{PORT}/tcp"):
        return HOST, int(bindings[0]["HostPort"])
    own = (network["IPAddress"] for network in settings["Networks"].values())
    return next(filter(None, own), HOST), PORT


def sweep(labels: Mapping[str, str]) -> list[str]:
    """Remove the containers of a replica's gateways that have ended; returns their names.

    May run several times at once: in another gateway that starts, in a lab that cleans up.

    Args:
        labels: what all of the replica's instances are labelled with, beside the gateway's pid.

    Raises:
        DriverError: no engine answers, or it refuses.
    """
    swept = []
    wanted = {"label": [INSTANCE_LABEL, *(f"{name}={value}" for name, value in labels.items())]}
    for container in client().containers.list(all=True, filters=wanted, ignore_removed=True):
        gateway = container.labels[INSTANCE_LABEL]
        ours = gateway.isdigit() and container.name.startswith(f"{INSTANCE_PREFIX}{gateway}-")
        if ours and not processes.runs(int(gateway)):
            _discard(container)
            swept.append(container.name)
    return swept


def _discard(container: Any) -> None:
    """Remove an orphaned container, which may be removed, or being removed, already."""
    try:
        container.remove(force=True, v=True)
    except APIError as error:
        if error.status_code not in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
            raise DriverError(str(error.explanation or error)) from error


def _exit_code(code: int) -> int:
    """An exit code as in Python, negative for a signal: the engine's 128 + n is signal n."""
    return 128 - code if 128 < code < 160 else code


async def _call(threads: ThreadPoolExecutor, function: Callable[[], T]) -> T:
    """Call the SDK in a thread.

    Raises:
        DriverError: the engine refuses, or does not answer.
    """
    try:
        return await asyncio.get_running_loop().run_in_executor(threads, function)
    except NotFound:
        raise
    except APIError as error:
        raise DriverError(str(error.explanation or error)) from error
    except (DockerException, requests.RequestException) as error:
        raise DriverError(str(error)) from error
