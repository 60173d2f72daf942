"""Instances as containers, on a real engine with the backend's image; skipped without either."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from lab import __version__
from lab.model.replica import INSTANCE_LABEL, INSTANCE_PREFIX
from lab.services.cloudrun import containers
from lab.services.cloudrun.containers import ContainerDriver, ContainerInstance
from lab.services.cloudrun.instance import DriverError, Ended
from tests.component.cloudrun.test_process import APP, get, play

IMAGE = f"replica-lab/backend:{__version__}"
MIB = 1024**2


def refusal() -> str:
    """Why there can be no containers here; empty where there can."""
    try:
        found = containers.client().images.list(IMAGE)
    except DriverError as error:
        return str(error)
    return "" if found else f"there is no image {IMAGE}; `lab images` builds it"


_REFUSAL = refusal()
pytestmark = [pytest.mark.compose, pytest.mark.skipif(bool(_REFUSAL), reason=_REFUSAL)]


def spec(tmp_path: Path, **more: Any) -> dict[str, Any]:
    """What a container is made from: the test's program in the backend's image."""
    program = tmp_path / "app.py"
    program.write_bytes(Path(APP[1]).read_bytes())
    program.chmod(0o444)
    volumes = {str(program): {"bind": "/app.py", "mode": "ro"}}
    return {"image": IMAGE, "command": ["python", "/app.py"], "volumes": volumes, **more}


@asynccontextmanager
async def instance(tmp_path: Path, **more: Any) -> AsyncIterator[ContainerInstance]:
    """A container that listens; afterwards nothing of it may be left."""
    made = await ContainerDriver(spec(tmp_path, **more), 256 * MIB, tmp_path).start("i", 1.0)
    try:
        while not await made.listening():
            await asyncio.sleep(0.05)
        yield made
    finally:
        await made.remove()
        await made.remove()
        assert left_over() == []


def left_over() -> list[str]:
    mine = {"label": f"{INSTANCE_LABEL}={os.getpid()}"}
    return [found.name for found in containers.client().containers.list(all=True, filters=mine)]


def test_a_container_serves_acts_on_sigterm_and_keeps_its_log(tmp_path: Path) -> None:
    async def story() -> None:
        async with instance(tmp_path) as made:
            assert b"200 OK" in await get(made, "/pid")
            await made.set_cpus(0.5)
            await made.terminate()
            assert await made.ended() == Ended(0)
            for nothing_happens in (made.pause, made.resume, made.terminate, made.kill):
                await nothing_happens()
        assert (tmp_path / "i.log").read_text() == "SIGTERM\n"

    play(story)


@pytest.mark.parametrize("second", ["/take?n=100", "/file?n=100"])
def test_memory_and_temporary_files_beyond_the_limit_kill(tmp_path: Path, second: str) -> None:
    async def story() -> None:
        async with instance(tmp_path) as made:
            assert b"200 OK" in await get(made, "/take?n=200")
            ending = asyncio.create_task(made.ended())
            assert await get(made, second) == b""
            assert await ending == Ended(-9, oom=True)

    play(story)


def test_what_a_container_uses_is_looked_at_while_it_lives(tmp_path: Path) -> None:
    async def story() -> None:
        async with instance(tmp_path) as made:
            ending = asyncio.create_task(made.ended())
            await get(made, "/take?n=200")
            while made.usage().get("peak_bytes", 0) < 200 * MIB:
                await asyncio.sleep(0.1)
            assert made.usage()["cpu_s"] > 0
            await made.kill()
            assert await ending == Ended(-9)

    play(story)


def test_work_left_after_the_answer_makes_no_progress_while_paused(tmp_path: Path) -> None:
    async def story() -> None:
        async with instance(tmp_path) as made:
            await get(made, "/later?n=60")
            await made.pause()
            first = await made.read_usage()
            before = made.usage()["cpu_s"]
            await asyncio.sleep(1.0)
            assert await made.read_usage() > first
            assert made.usage()["cpu_s"] == pytest.approx(before, abs=0.005)
            await made.resume()
            assert b"200 OK" in await get(made, "/pid")
            await made.pause()
            await made.kill()
            assert await made.ended() == Ended(-9)

    play(story)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"image": "replica-lab/no-such:0"}, "No such image: replica-lab/no-such:0"),
        ({"network": "replica-lab-no-such"}, "network replica-lab-no-such not found"),
        ({"command": ["/no/such"]}, "/no/such"),
    ],
)
def test_a_container_that_cannot_be_made_leaves_nothing(
    tmp_path: Path, more: dict[str, Any], message: str
) -> None:
    async def story() -> None:
        driver = ContainerDriver(spec(tmp_path, **more), 256 * MIB, tmp_path)
        with pytest.raises(DriverError, match=message):
            await driver.start("i", 1.0)
        assert left_over() == []

    play(story)


NOBODY = 99999999
"""The id of no process."""


def of_front(pid: int, name: str) -> Any:
    """A container as a gateway of this process id makes it."""
    engine, labels = containers.client(), {INSTANCE_LABEL: str(pid)}
    return engine.containers.create(IMAGE, labels=labels, name=f"{INSTANCE_PREFIX}{pid}-{name}")


def test_containers_of_fronts_that_are_no_more_are_swept() -> None:
    mine, gone = of_front(os.getpid(), "mine"), of_front(NOBODY, "gone")
    like = containers.client().containers.create(IMAGE, labels={INSTANCE_LABEL: str(NOBODY)})
    try:
        assert containers.sweep({}) == [gone.name]
        assert left_over() == [mine.name]
        like.reload()  # which raises where it has gone
    finally:
        for kept in (mine, like):
            kept.remove(force=True)


def test_several_may_sweep_at_once() -> None:
    gone = {of_front(NOBODY, f"gone-{number}").name for number in range(4)}
    with ThreadPoolExecutor() as pool:
        swept = [each.result() for each in [pool.submit(containers.sweep, {}) for _ in range(3)]]
    assert set().union(*swept) == gone
    assert containers.sweep({}) == []


@pytest.mark.parametrize(
    ("settings", "address"),
    [
        ({"Ports": {"8080/tcp": [{"HostPort": "49153"}]}, "Networks": {}}, ("127.0.0.1", 49153)),
        ({"Ports": {}, "Networks": {"a": {"IPAddress": "172.20.0.7"}}}, ("172.20.0.7", 8080)),
        ({"Ports": None, "Networks": {"a": {"IPAddress": ""}}}, ("127.0.0.1", 8080)),
    ],
)
def test_where_a_container_serves(settings: dict[str, Any], address: tuple[str, int]) -> None:
    class Made:
        attrs: dict[str, Any] = {"NetworkSettings": settings}  # noqa: RUF012 - as the SDK has it

    assert containers.address_of(Made()) == address


@pytest.mark.knob("cloudrun_workers")
def test_when_one_of_its_processes_is_killed_for_memory_the_container_ends(tmp_path: Path) -> None:
    async def story() -> None:
        async with instance(tmp_path) as made:
            assert b"200 OK" in await get(made, "/child?n=100")
            await get(made, "/child?n=160")
            assert await made.ended() == Ended(-9, oom=True)

    play(story)
