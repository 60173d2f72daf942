"""Are an instance's limits what the knobs say? Tested on instances of the gateway's own driver.

a busy loop      gets `cloudrun_cpus` of a core
memory           below `cloudrun_memory` an instance lives, beyond it it is killed
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from lab.model.knobs import Knobs
from lab.services.cloudrun.instance import Driver, DriverError, Instance
from lab.services.cloudrun.rules import PROBE_EVERY_S

BURDEN = "lab.services.cloudrun.burden"
"""The module that such an instance runs."""
STEADY_S, EDGE_S = 2.0, 0.5
"""Seconds of a busy loop that are measured, and seconds left out before and after them.

The quota is granted in periods of 100 ms, so that a loop measured from its first instruction
to its last gains or loses up to a period: 0.025 cores of 0.5. Whole periods from its middle
have the same CPU wherever they begin.
"""
MAX_TRIES = 8
"""The greatest try counts: other programs on the machine can only lower the figure."""
TOLERANCE = 0.03
"""Cores by which a busy loop may miss its share."""
LISTENS_WITHIN_S = 60.0
ANSWERS_WITHIN_S = 60.0
FIRST_SHARE, MORE_SHARE = 200 / 256, 100 / 256
"""Shares of the limit: 200 MiB of 256 MiB fit beside the program, 100 MiB more do not."""


async def calibrate(driver: Driver, knobs: Knobs) -> dict[str, float | bool]:
    """Test the limits of two instances, of which one takes CPU and one memory.

    Returns:
        ``cores`` of a busy loop; ``first_mib`` and ``more_mib``, the memory it took; whether
        it lived with the first (``lived``), and was killed for memory by the rest (``killed``).

    Raises:
        DriverError: it cannot be made, or does not listen.
    """
    limit = knobs.cloudrun_memory / 1024**2
    first, more = limit * FIRST_SHARE, limit * MORE_SHARE
    cpus, cores = knobs.cloudrun_cpus, 0.0
    async with instance(driver, "calibration-cpu", cpus) as made:
        for _ in range(MAX_TRIES):
            if cores < cpus - TOLERANCE:
                cores = max(cores, await busy_cores(made))
    async with instance(driver, "calibration-memory", cpus) as made:
        lived = await command(made, "take", first) == first
        gone = await command(made, "take", more) is None
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
    """An instance that listens; it is removed after the block."""
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


async def busy_cores(made: Instance) -> float:
    """The cores that a busy loop gets once it runs, by the kernel's accounting."""
    looping = asyncio.create_task(command(made, "spin", STEADY_S + 2 * EDGE_S))
    try:
        await asyncio.sleep(EDGE_S)
        began, used_before = await made.read_usage(), made.usage()["cpu_s"]
        await asyncio.sleep(STEADY_S)
        ended, used = await made.read_usage(), made.usage()["cpu_s"]
        await looping
    finally:
        looping.cancel()
    return (used - used_before) / (ended - began)


async def command(made: Instance, act: str, amount: float) -> float | None:
    """Have the program in an instance do something (see `burden`).

    Returns:
        Its answer; None if the connection ended first.
    """
    try:
        async with asyncio.timeout(ANSWERS_WITHIN_S):
            reader, writer = await asyncio.open_connection(*made.address)
            writer.write(f"{act} {amount:g}\n".encode())
            answer = await reader.readline()
            writer.close()
    except (OSError, TimeoutError):
        return None
    return float(answer) if answer else None
