"""The limits of an instance, tried on instances that are burdened."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lab.model.knobs import Knobs
from lab.services.cloudrun.calibrate import TOLERANCE, busy_cores, calibrate, command
from lab.services.cloudrun.instance import DriverError
from tests.component.cloudrun.double import Double, Doubles, Plan
from tests.component.cloudrun.permitted import needs_cgroups
from tests.component.cloudrun.test_main import GATEWAY
from tests.component.cloudrun.test_process import left_over
from tests.component.cloudrun.virtual import run


def calibrated(folder: Path, **settings: str) -> Any:
    paths = {"FRONT_EVENTS": str(folder / "events"), "FRONT_LOGS": str(folder)}
    done = subprocess.run(
        [*GATEWAY, "--calibrate"],
        env={**os.environ, **paths, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_cgroups
@pytest.mark.parametrize(("memory", "first"), [("256 MiB", 200), ("128 MiB", 100)])
def test_a_busy_loop_gets_no_more_than_its_share_and_memory_beyond_the_limit_kills(
    tmp_path: Path, memory: str, first: float
) -> None:
    """Another's load can take CPU away from it, so that nothing is said of the least.

    A quarter of a core is had at the first try also where others want the cores.
    """
    figures = calibrated(tmp_path, LAB_CLOUDRUN_MEMORY=memory, LAB_CLOUDRUN_CPUS="0.25")
    assert 0 < figures.pop("cores") <= 0.25 + TOLERANCE
    assert figures == {"first_mib": first, "more_mib": first / 2, "lived": True, "killed": True}
    assert left_over() == []


@pytest.mark.parametrize(
    ("plan", "why"),
    [
        (Plan(listens=None), "calibration-cpu did not listen within 60 s"),
        (Plan(listens=None, dies=1.0), "calibration-cpu ended before it listened: exit code 1"),
    ],
)
def test_one_that_does_not_listen_is_an_error_and_is_removed(plan: Plan, why: str) -> None:
    driver = Doubles([plan])
    with pytest.raises(DriverError, match=why):
        run(calibrate(driver, Knobs()))
    assert driver.made[0].removed


@pytest.mark.parametrize("cores", [0.5, 0.25])
def test_a_busy_loop_is_measured_by_the_instances_own_account(
    monkeypatch: pytest.MonkeyPatch, cores: float
) -> None:
    """What it says of itself does not count; here it says nothing for as long as it loops."""

    async def loops(_made: Double, act: str, amount: float) -> None:
        assert act == "spin"
        await asyncio.sleep(amount)

    async def story() -> float:
        return await busy_cores(await Doubles([Plan(cores=cores)]).start("i", cores))

    monkeypatch.setattr("lab.services.cloudrun.calibrate.command", loops)
    assert run(story()) == pytest.approx(cores)


def test_a_connection_that_ends_first_is_no_answer() -> None:
    async def story() -> float | None:
        server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
        async with server:

            class Made:
                address = server.sockets[0].getsockname()[:2]

            return await command(Made(), "take", 1)  # type: ignore[arg-type]

    assert asyncio.run(story()) is None
