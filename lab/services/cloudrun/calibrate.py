"""Are an instance's limits what the knobs say? Tried on instances of the front's own driver.

a busy loop      gets `cloudrun_cpus` of a core
memory           so much lives, and what is beyond `cloudrun_memory` is killed
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from lab.model.knobs import Knobs
from lab.services.cloudrun.instance import Driver, DriverError, Instance
from lab.services.cloudrun.rules import PROBE_EVERY_S

MODULE = "lab.services.cloudrun.burden"
"""What such an instance runs."""
STEADY_S, EDGE_S = 2.0, 0.5
"""Seconds that are measured of a busy loop, and before and after them.

The quota is granted by periods of 100 ms, so that a loop measured from its first instruction
to its last gains or loses up to one: 0.025 cores of 0.5. Whole periods in the midst of it have
as much CPU wherever they begin.
"""
TRIES, NEAR = 8, 0.03
"""What other programs take of the machine's cores is no limit: the greatest try counts."""
LISTENS_WITHIN_S = 60.0
ANSWERS_WITHIN_S = 60.0
FIRST, MORE = 200 / 256, 100 / 256
"""Shares of the limit: 200 MiB of 256 MiB fit beside the program, 100 MiB more do not."""


async def calibrate(driver: Driver, knobs: Knobs) -> dict[str, float | bool]:
    """What an instance got.

    Returns:
        ``cores`` of a busy loop; ``first_mib`` and ``more_mib``, the memory it took; whether
        it lived with the first (``lived``), and was killed for memory by the rest (``killed``).

    Raises:
        DriverError: it cannot be made, or does not listen.
    """
    limit = knobs.cloudrun_memory / 1024**2
    first, more = limit * FIRST, limit * MORE
    async with instance(driver, "calibration-cpu", knobs.cloudrun_cpus) as made:
        cores = 0.0
        for _ in range(TRIES):
            if cores < knobs.cloudrun_cpus - NEAR:
                cores = max(cores, await steady(made))
    async with instance(driver, "calibration-memory", knobs.cloudrun_cpus) as made:
        lived = await ask(made, "take", first) == first
        gone = await ask(made, "take", more) is None
        killed = gone and (await made.ended()).oom
    return {
        "cores": cores,
        "first_mib": first,
        "more_mib": more,
        "lived": lived,
        "killed": killed,
    }


@asynccontextmanager
async def instance(driver: Driver, name: str, cpus: float) -> AsyncIterator[Instance]:
    """An instance that listens; afterwards nothing is left of it."""
    made = await driver.start(name, cpus)
    dying = asyncio.create_task(made.ended())
    try:
        try:
            async with asyncio.timeout(LISTENS_WITHIN_S):
                while not await made.listening():
                    if dying.done():
                        raise DriverError(f"{name} ended before it listened: {dying.result()}")
                    await asyncio.sleep(PROBE_EVERY_S)
        except TimeoutError:
            raise DriverError(f"{name} did not listen within {LISTENS_WITHIN_S:g} s") from None
        yield made
    finally:
        dying.cancel()
        await made.remove()


async def steady(made: Instance) -> float:
    """The cores that a busy loop gets once it runs, by the kernel's account of the instance."""
    looping = asyncio.create_task(ask(made, "spin", STEADY_S + 2 * EDGE_S))
    try:
        await asyncio.sleep(EDGE_S)
        began = await _used(made)
        await asyncio.sleep(STEADY_S)
        ended = await _used(made)
        await looping
    finally:
        looping.cancel()
    return (ended[1] - began[1]) / (ended[0] - began[0])


async def _used(made: Instance) -> tuple[float, float]:
    """A moment, and the CPU seconds used by then."""
    at = await made.look()
    return at, made.usage()["cpu_s"]


async def ask(made: Instance, act: str, amount: float) -> float | None:
    """What it answers; None where its connection ended first."""
    try:
        async with asyncio.timeout(ANSWERS_WITHIN_S):
            reader, writer = await asyncio.open_connection(*made.address)
            writer.write(f"{act} {amount:g}\n".encode())
            answer = await reader.readline()
            writer.close()
    except (OSError, TimeoutError):
        return None
    return float(answer) if answer else None
