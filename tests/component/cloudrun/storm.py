"""Clients that are slow or leave, and kills, on instances of a real driver.

    python -m tests.component.cloudrun.storm [process|docker] [--requests 1000]

Prints how each request ended; the exit code is 1 where one had no answer, or more than one,
or where anything is left over.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lab.model.knobs import Knobs
from lab.services.cloudrun.gateway import GatewayServer
from lab.services.cloudrun.instance import HOST, Driver, Instance
from tests.component.cloudrun.live import parse
from tests.component.cloudrun.service import ListLog

AT_ONCE = 60
KILL_EVERY_S = (0.2, 0.8)
KNOBS = {
    "cloudrun_cpus": 1,
    "cloudrun_concurrency": 20,
    "cloudrun_max_instances": 3,
    "cloudrun_pending": "60 s",
}
ANSWERS = {"200", "503", "cut", "left"}
"""An answer, that the instance was killed, that an answer was cut so, or the client's leaving."""


class Recorded:
    """A driver that keeps what it has made."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self.made: list[Instance] = []

    async def start(self, name: str, cpus: float) -> Instance:
        self.made.append(await self._driver.start(name, cpus))
        return self.made[-1]


@dataclass(frozen=True)
class Aftermath:
    """How the requests ended, by status or as ``cut`` or ``left``, and what was left over.

    ``open`` is how many of the gateway's leases were never given back.
    """

    outcomes: Counter[str]
    kills: int
    open: int
    left_over: list[str]

    def wrong(self, count: int) -> list[str]:
        """What should not be, in words; nothing where all is well."""
        strange = {kind: n for kind, n in self.outcomes.items() if kind not in ANSWERS}
        found = {
            f"{self.outcomes.total()} of {count} ended": self.outcomes.total() != count,
            f"answers that should not be: {strange}": bool(strange),
            "nothing was killed": self.kills == 0,
            f"{self.open} places never given back": self.open != 0,
            f"left over: {self.left_over}": bool(self.left_over),
        }
        return [what for what, so in found.items() if so]


async def storm(driver: Driver, count: int, left_over: Callable[[], list[str]]) -> Aftermath:
    """Send ``count`` requests while instances are killed, and close the gateway after them."""
    recorded, log, outcomes = Recorded(driver), ListLog(), Counter[str]()
    server = GatewayServer(Knobs().with_settings(KNOBS), recorded, log)
    listener = socket.create_server((HOST, 0), backlog=2048)
    port = listener.getsockname()[1]
    serving = asyncio.create_task(server.run_on(listener))
    gate = asyncio.Semaphore(AT_ONCE)
    asking = [
        asyncio.create_task(_ask(port, random.Random(number), gate, outcomes))
        for number in range(count)
    ]
    try:
        kills = await _kill_until(asyncio.gather(*asking), recorded)
    finally:
        server.stop()
        await serving
    still = len(log.of("request_start")) - len(log.of("request_end"))
    return Aftermath(outcomes, kills, still, [*server.stuck, *left_over()])


async def _kill_until(over: asyncio.Future[list[None]], recorded: Recorded) -> int:
    """Kill one of the youngest instances again and again; how often."""
    dice, kills = random.Random(7), 0
    while not over.done():
        await asyncio.wait({over}, timeout=dice.uniform(*KILL_EVERY_S))
        if recorded.made and not over.done():
            await dice.choice(recorded.made[-3:]).kill()  # nothing happens to one that ended
            kills += 1
    over.result()
    return kills


async def _ask(port: int, dice: random.Random, gate: asyncio.Semaphore, into: Counter[str]) -> None:
    """One client: its body in pieces with pauses; one in five leaves on the way."""
    async with gate:
        reader, writer = await asyncio.open_connection(HOST, port)
        pieces = [bytes(dice.choice([10, 1_000, 30_000])) for _ in range(4)]
        size = sum(map(len, pieces))
        head = f"POST /length HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {size}"
        writer.write(f"{head}\r\n\r\n".encode())
        leaves_at = dice.randrange(5) if dice.random() < 0.2 else None
        for number, piece in enumerate(pieces):
            if number != leaves_at:
                writer.write(piece)
                await asyncio.sleep(dice.uniform(0, 0.2))
                continue
            break
        if leaves_at is not None:
            writer.transport.abort()
            into["left"] += 1
            return
        into[kind_of(await reader.read(), size)] += 1
        writer.close()


def kind_of(answer: bytes, size: int) -> str:
    """Its status, if it is one answer and the right one; else what is wrong with it."""
    if not answer:
        return "none"
    status, headers, body = parse(answer)
    length = int(headers.get("content-length", 0))
    if len(body) != length:
        return "cut" if len(body) < length else "more than one"
    return "another's" if status == 200 and body != str(size).encode() else str(status)


def _driver(kind: str, folder: Path) -> tuple[Driver, Callable[[], list[str]]]:
    """A real driver of the test's program, and what tells what it left."""
    from tests.component.cloudrun import test_process
    from tests.compose import test_instance_containers

    if kind == "docker":
        from lab.services.cloudrun.containers import ContainerDriver

        made_from = test_instance_containers.spec(folder)
        return ContainerDriver(made_from, 256 * 1024**2, folder), test_instance_containers.left_over
    from lab.services.cloudrun.process import ProcessDriver

    driver = ProcessDriver(test_process.APP, {}, 256 * 1024**2, folder)
    return driver, test_process.left_over


def run(kind: str, count: int, folder: Path) -> Aftermath:
    """A storm on a driver, ``process`` or ``docker``."""
    driver, left_over = _driver(kind, folder)
    return asyncio.run(storm(driver, count, left_over))


def main() -> int:
    """A storm as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.component.cloudrun.storm")
    parser.add_argument("driver", nargs="?", choices=["process", "docker"], default="process")
    parser.add_argument("--requests", type=int, default=1000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        after = run(asked.driver, asked.requests, Path(folder))
    wrong = after.wrong(asked.requests)
    print(json.dumps({**after.outcomes, "kills": after.kills, "wrong": wrong}))  # noqa: T201
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
