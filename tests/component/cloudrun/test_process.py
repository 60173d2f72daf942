"""Instances as processes in cgroups: what is limited is limited, and nothing is left over."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from lab.model.replica import INSTANCE_PREFIX
from lab.services.cloudrun import cgroup, process
from lab.services.cloudrun.instance import DriverError, Ended, Instance
from lab.services.cloudrun.process import ProcessDriver, ProcessInstance
from tests.component.cloudrun.permitted import needs_cgroups

pytestmark = needs_cgroups
MIB = 1024**2
APP = [sys.executable, str(Path(__file__).with_name("app.py"))]


@asynccontextmanager
async def instance(
    logs: Path, memory: int = 256, cpus: float = 1.0, command: list[str] = APP
) -> AsyncIterator[ProcessInstance]:
    """An instance that listens; afterwards nothing of it may be left."""
    made = await ProcessDriver(command, dict(os.environ), memory * MIB, logs).start("i", cpus)
    try:
        while not await made.listening():
            await asyncio.sleep(0.02)
        yield made
    finally:
        await made.remove()
        assert left_over() == []
        assert not Path("/proc", str(made.pid)).exists()


def left_over() -> list[str]:
    """Cgroups and files of this process's instances."""
    mine = f"{INSTANCE_PREFIX}{os.getpid()}-*"
    parents = {folder.parent for folder in cgroup._at("x").folders.all}
    return [str(path) for parent in (*parents, process.TMPFS) for path in parent.glob(mine)]


async def get(made: Instance, path: str) -> bytes:
    """The answer's bytes; none where the connection ended first."""
    reader, writer = await asyncio.open_connection(*made.address)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    try:
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def play(story: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await story()

    asyncio.run(main())


async def share(made: ProcessInstance) -> float:
    """The cores that a busy loop of 2 s got."""
    before, began = made.usage()["cpu_s"], time.monotonic()
    await get(made, "/spin?n=2")
    return (made.usage()["cpu_s"] - before) / (time.monotonic() - began)


@pytest.mark.knob("cloudrun_cpus")
@pytest.mark.parametrize("cpus", [0.5, 0.25])
def test_a_busy_loop_gets_its_share_of_cpu(tmp_path: Path, cpus: float) -> None:
    """Another's load can only take away from it, so the best of some counts."""

    async def story() -> None:
        async with instance(tmp_path, cpus=0.75) as made:
            await made.set_cpus(cpus)
            shares = [await share(made)]
            while len(shares) < 15 and max(shares) < 0.94 * cpus:
                shares.append(await share(made))
            assert max(shares) == pytest.approx(cpus, rel=0.06)
            assert made.usage()["throttled_s"] > 0

    play(story)


@pytest.mark.knob("cloudrun_memory")
@pytest.mark.parametrize(
    ("memory", "asked", "dies"),
    [
        (256, ["/take?n=200"], False),
        (256, ["/take?n=200", "/take?n=100"], True),
        (512, ["/take?n=200", "/take?n=100"], False),
        (256, ["/file?n=200"], False),
        (256, ["/file?n=200", "/take?n=100"], True),
    ],
    ids=str,
)
def test_memory_and_temporary_files_beyond_the_limit_kill(
    tmp_path: Path, memory: int, asked: list[str], dies: bool
) -> None:
    if "/file" in asked[0] and not process.files_count_as_memory():
        pytest.skip("there is no tmpfs to write on here")

    async def story() -> None:
        async with instance(tmp_path, memory) as made:
            *before, last = asked
            for path in before:
                assert b"200 OK" in await get(made, path)
            assert (await get(made, last) == b"") is dies
            if dies:
                assert await made.ended() == Ended(-9, oom=True)
                assert str(await made.ended()) == "out of memory"
            else:
                assert made.usage()["peak_bytes"] >= 200 * MIB

    play(story)


@pytest.mark.knob("cloudrun_workers")
@pytest.mark.parametrize(("second", "dies"), [(60, False), (160, True)])
def test_the_memory_of_all_its_processes_is_limited_and_all_end_together(
    tmp_path: Path, second: int, dies: bool
) -> None:
    async def story() -> None:
        async with instance(tmp_path, 256) as made:
            assert b"200 OK" in await get(made, "/child?n=100")
            await get(made, f"/child?n={second}")
            if dies:
                assert await made.ended() == Ended(-9, oom=True)
                while cgroup.pids(made._group):  # SIGKILL was sent; they have yet to end
                    await asyncio.sleep(0.01)
            else:
                assert len(cgroup.pids(made._group)) == 3

    play(story)


def test_work_left_after_the_answer_makes_no_progress_while_paused(tmp_path: Path) -> None:
    async def story() -> None:
        async with instance(tmp_path) as made:
            await get(made, "/later?n=60")
            await made.pause()
            await asyncio.sleep(0.2)  # the kernel freezes in its own time
            before = made.usage()["cpu_s"]
            await asyncio.sleep(1.0)
            assert made.usage()["cpu_s"] == pytest.approx(before, abs=0.005)
            await made.resume()
            while made.usage()["cpu_s"] < before + 0.2:
                await asyncio.sleep(0.05)
            assert b"200 OK" in await get(made, "/pid")

    play(story)


@pytest.mark.parametrize("how", ["stopped (SIGSTOP)", "frozen by its cgroup"])
def test_who_withholds_an_instances_cpu_is_seen(tmp_path: Path, how: str) -> None:
    async def story() -> None:
        async with instance(tmp_path) as made:
            assert await made.withheld() == ""
            if how == "stopped (SIGSTOP)":
                os.kill(made.pid, signal.SIGSTOP)
            else:
                made._group.freeze(True)
            await asyncio.sleep(0.1)
            assert await made.withheld() == f"process {made.pid} was {how}"
            os.kill(made.pid, signal.SIGCONT)
            made._group.freeze(False)
            await asyncio.sleep(0.1)
            assert await made.withheld() == ""

    play(story)


def test_sigterm_reaches_the_application(tmp_path: Path) -> None:
    async def story() -> None:
        async with instance(tmp_path) as made:
            await made.terminate()
            assert await made.ended() == Ended(0)
            assert (tmp_path / "i.log").read_text() == "SIGTERM\n"
            await made.pause()
            await made.resume()
            await made.set_cpus(0.5)
            await made.terminate()  # nothing happens to what has ended

    play(story)


@pytest.mark.parametrize("paused", [True, False])
def test_sigkill_ends_one_that_does_not_obey_also_while_it_is_paused(
    tmp_path: Path, paused: bool
) -> None:
    async def story() -> None:
        async with instance(tmp_path, command=[*APP, "stubborn"]) as made:
            await made.terminate()
            await asyncio.sleep(0.1)
            if paused:
                await made.pause()
            await made.kill()
            assert await made.ended() == Ended(-9)

    play(story)


def test_what_is_removed_is_ended_with_its_descendants(tmp_path: Path) -> None:
    shell = ["/bin/sh", "-c", 'sleep 600 & exec "$@"', "sh", *APP]

    async def story() -> None:
        async with instance(tmp_path, command=shell) as made:
            assert len(cgroup.pids(made._group)) == 2

    play(story)


def test_a_program_that_is_not_there_ends_at_once(tmp_path: Path) -> None:
    async def story() -> None:
        driver = ProcessDriver(["/no/such"], dict(os.environ), 256 * MIB, tmp_path)
        made = await driver.start("i", 1.0)
        assert (await made.ended()).code == 127
        assert not await made.listening()
        await made.remove()
        await made.remove()
        assert left_over() == []
        assert "/no/such" in (tmp_path / "i.log").read_text()

    play(story)


def test_two_instances_of_one_name_are_refused(tmp_path: Path) -> None:
    async def story() -> None:
        async with instance(tmp_path) as made:
            driver = ProcessDriver(APP, dict(os.environ), 256 * MIB, tmp_path)
            with pytest.raises(DriverError, match="there is a cgroup replica-lab-front-"):
                await driver.start("i", 1.0)
            assert b"200 OK" in await get(made, "/pid")

    play(story)


def test_a_limit_that_the_kernel_refuses_leaves_nothing() -> None:
    with pytest.raises(DriverError, match="cannot be set to"):
        cgroup.make(f"{INSTANCE_PREFIX}{os.getpid()}-x", 256 * MIB, 1e-6)
    assert left_over() == []


def test_a_sweep_removes_what_was_noted_by_a_dead_gateway_and_nothing_like_it(
    tmp_path: Path,
) -> None:
    dead = 4_194_305  # one more than Linux gives
    names = {
        "noted": f"{INSTANCE_PREFIX}{dead}-i",
        "by hand": f"{INSTANCE_PREFIX}{dead}-by-hand",
        "of one that lives": f"{INSTANCE_PREFIX}{os.getpid()}-i",
    }
    groups = {what: cgroup.make(name, 64 * MIB, 1.0) for what, name in names.items()}
    folders = {what: process.TMPFS / f"{name}-abcdefgh" for what, name in names.items()}
    linked = process.TMPFS / f"{names['noted']}-ijklmnop"
    try:
        for folder in folders.values():
            folder.mkdir()
        linked.symlink_to(tmp_path)
        cgroup.note(tmp_path, names["noted"])
        cgroup.note(tmp_path, names["of one that lives"])
        cgroup.note(tmp_path, "../../somewhere")
        assert process.sweep(tmp_path) == [names["noted"]]
        assert process.sweep(tmp_path) == []
        left = {what for what, group in groups.items() if group.folders.memory.exists()}
        assert left == {"by hand", "of one that lives"}
        assert {what for what, folder in folders.items() if folder.exists()} == left
        assert (tmp_path / cgroup.NOTES).exists()
    finally:
        linked.unlink(missing_ok=True)
        for what, group in groups.items():
            cgroup.remove(group)
            shutil.rmtree(folders[what], ignore_errors=True)
