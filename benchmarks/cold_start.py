"""The cold start of the backend as a process beside that as a container, and of what it consists.

made      seconds until its program runs: with a container, the engine's own
listens   seconds from then until it listens, under the same CPU and memory
cpu       seconds of CPU that it has used by then: what of a start the machine's load leaves alone

Both are taken in turn, A B A B. A driver that this machine does not permit is left out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from lab import __version__
from lab.model.knobs import Knobs
from lab.services.cloudrun import cgroup, containers
from lab.services.cloudrun.calibrate import instance
from lab.services.cloudrun.containers import ContainerDriver
from lab.services.cloudrun.gateway import BACKEND, instance_env
from lab.services.cloudrun.instance import Driver, DriverError, Instance
from lab.services.cloudrun.process import ProcessDriver

PAIRS = 5
IMAGE = f"replica-lab/backend:{__version__}"
NOWHERE = {
    "DATABASE_URL": "postgresql+psycopg2://nobody@127.0.0.1:1/none",
    "STORAGE_EMULATOR_HOST": "http://127.0.0.1:1",
    "SPEECH_URL": "http://127.0.0.1:1",
    "AUDIO_BUCKET": "none",
}
"""What an instance is told of the rest of the replica, which it asks for nothing at its start."""

Figures = dict[str, float]


class Timed:
    """A driver that notes when what it makes has been made."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self.made = 0.0

    async def start(self, name: str, cpus: float) -> Instance:
        instance = await self._driver.start(name, cpus)
        self.made = time.monotonic()
        return instance


def processes(knobs: Knobs, logs: Path) -> Driver:
    """Instances as the embedded stack has them."""
    cgroup.check(knobs.cloudrun_memory, knobs.cloudrun_cpus)
    env = instance_env({**os.environ, **knobs.as_env(), **NOWHERE}, knobs)
    return ProcessDriver(BACKEND, env, knobs.cloudrun_memory, logs)


def images(knobs: Knobs, logs: Path) -> Driver:
    """Instances as the compose stack has them, but for its networks."""
    if not containers.client().images.list(IMAGE):
        raise DriverError(f"there is no image {IMAGE}; `lab images` builds it")
    env = instance_env({**knobs.as_env(), **NOWHERE}, knobs)
    made_from = {"image": IMAGE, "environment": env, "read_only": True}
    return ContainerDriver(made_from, knobs.cloudrun_memory, logs)


WAYS: dict[str, Callable[[Knobs, Path], Driver]] = {"process": processes, "container": images}


async def start(driver: Driver, knobs: Knobs) -> Figures:
    """One start, measured until it listens."""
    timed, began = Timed(driver), time.monotonic()
    async with instance(timed, "cold-start", knobs.cloudrun_cpus) as made:
        listens = time.monotonic()
        await made.read_usage()
        return {
            "made": timed.made - began,
            "listens": listens - timed.made,
            "cpu": made.usage()["cpu_s"],
        }


async def compare(knobs: Knobs, logs: Path) -> dict[str, Figures]:
    """The medians of each way that this machine permits."""
    drivers, found = {}, {}
    for name, make in WAYS.items():
        try:
            drivers[name] = make(knobs, logs)
        except (cgroup.NotPermittedError, DriverError) as error:
            print(f"{name}: {error}", file=sys.stderr)
    taken: dict[str, list[Figures]] = {name: [] for name in drivers}
    for _ in range(PAIRS):
        for name, driver in drivers.items():
            taken[name].append(await start(driver, knobs))
    for name, starts in taken.items():
        found[name] = {part: median(each[part] for each in starts) for part in starts[0]}
    return found


def main() -> None:
    """Print the medians, in seconds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cold_start")
    parser.add_argument("--json", action="store_true")
    as_json = parser.parse_args().json
    with tempfile.TemporaryDirectory() as logs:
        found = asyncio.run(compare(Knobs(), Path(logs)))
    if as_json:
        print(json.dumps(found))
        return
    for name, parts in found.items():
        print(f"{name:10}", *(f"{part} {seconds:.2f} s" for part, seconds in parts.items()))


if __name__ == "__main__":
    main()
