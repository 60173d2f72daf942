"""How a process or container of a running replica is found and struck, and what is then left.

`strike_when_due` waits for the moment in the load, finds what is to be struck among all that
descends from the lab, or among the replica's containers, and strikes it. Nothing but what
descends from that lab, or has its label, is ever touched.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import psutil
from docker.errors import DockerException

from lab.errors import MachineError
from lab.load.plan import GeneratorStatus
from lab.model import processes
from lab.stack import ownership
from lab.stack.compose import engine, resources
from lab.stack.compose.resources import SERVICE_LABEL
from validation.clock_step import SteppedClock

Got = TypeVar("Got")

LAB = "the lab itself"
"""In place of an expression: the process that runs the lab."""
BEGINS_WITHIN_S = 120.0
THERE_WITHIN_S = 20.0
"""Wall seconds in which a load begins, and what is to be struck is there."""
FREEZER = Path("/sys/fs/cgroup/freezer")
UNIFIED = Path("/sys/fs/cgroup")
PAUSE_S = 0.5
"""Wall seconds in which a process runs between two blows."""
CGROUP = "replica-lab-strike"


@dataclass(frozen=True)
class Target:
    """What is to be struck.

    Args:
        title: an expression that its command line has, or `LAB`.
        container: the part in whose container it is; empty on the embedded stack. If ``title``
            is empty the container itself is meant.
    """

    title: str
    container: str = ""


@dataclass(frozen=True)
class Blow:
    """How it is struck.

    Args:
        how: a signal's name, ``freeze`` (by a cgroup of its own or the container's), or what
            the engine does: ``pause``, ``kill``.
        seconds: wall seconds after which it is resumed; None: not by who struck it.
        times: how often, `PAUSE_S` after it was resumed.
    """

    how: str
    seconds: float | None = None
    times: int = 1

    def __str__(self) -> str:
        often = f"{self.times} times " if self.times > 1 else ""
        return self.how if self.seconds is None else f"{self.how} {often}for {self.seconds:g} s"


@dataclass(frozen=True)
class Struck:
    """What was struck.

    Args:
        after: wall seconds after t = 0.
        replica: id of the replica.
        gateways: process ids of Cloud Run's gateways that were seen.
    """

    after: float
    replica: str
    gateways: tuple[int, ...]


def strike_when_due(
    lab: int, results: Path, target: Target, blow: Blow, at: float, replica: str | None = None
) -> Struck:
    """Strike what is to be struck, ``at`` wall seconds after the load of the first cell began.

    Args:
        lab: process id of the lab.
        results: its results folder, new.
        replica: the replica's id, if it is known; else that of the only replica in this
            process's temporary folder.

    Raises:
        MachineError: the load did not begin, or there is no such process.
    """
    t0 = _wait_until_due(lab, results, at)
    replica = replica or next(mine.id for _, mine in ownership.replicas())
    gateways = tuple(_titled(lab, r"lab\.services\.cloudrun"))
    begun, first = [], 0.0

    def strike(resumed: ExitStack) -> bool:
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            begun.append(time.monotonic())
            return _strike(lab, replica, target, blow, resumed)
        return False

    why = f"nothing like '{target.title}' was there to be struck"
    for number in range(blow.times):
        time.sleep(PAUSE_S if number else 0.0)
        with ExitStack() as resumed:
            _wait_for(partial(strike, resumed), THERE_WITHIN_S, why)
            time.sleep(blow.seconds or 0.0)
        first = first or begun[-1]
    return Struck(first - t0, replica, gateways)


def set_when_due(lab: int, results: Path, clock: SteppedClock, seconds: float, at: float) -> Struck:
    """Set the clock of a lab and its parts by so many seconds, at such a moment as a strike.

    Raises:
        MachineError: the load did not begin.
    """
    t0 = _wait_until_due(lab, results, at)
    clock.step(seconds)
    begun = time.monotonic()
    return Struck(begun - t0, next(mine.id for _, mine in ownership.replicas()), ())


def _wait_until_due(lab: int, results: Path, at: float) -> float:
    """Wait until so many wall seconds after the first load began, at the monotonic moment given."""
    status = _wait_for(lambda: _status(results, lab), BEGINS_WITHIN_S, "no load began")
    time.sleep(max(0.0, status.t0 + at - time.monotonic()))
    return status.t0


def _wait_for(get: Callable[[], Got | None], within: float, why: str) -> Got:
    deadline = time.monotonic() + within
    while not (got := get()):
        if time.monotonic() > deadline:
            raise MachineError(why, "see the run's logs")
        time.sleep(0.02)
    return got


def _status(results: Path, lab: int) -> GeneratorStatus | None:
    """What the first cell's generator says of its load; None before it has begun.

    Raises:
        MachineError: the lab has ended.
    """
    if not processes.runs(lab):
        raise MachineError("the lab has ended before a load began", "see what it says")
    files = sorted(results.glob("*/cells/*/logs/generator.status.json"))
    return GeneratorStatus.read(files[0]) if files else None


def _titled(lab: int, title: str) -> Iterator[int]:
    """What descends from the lab and has such a command line."""
    for process in psutil.Process(lab).children(recursive=True):
        if re.search(title, processes.title(process.pid)) and processes.runs(process.pid):
            yield process.pid


def _strike(lab: int, replica: str, target: Target, blow: Blow, resumed: ExitStack) -> bool:
    """Strike, and have it resumed when the block ends, if it is to be; False if it is not there."""
    if target.container:
        with _container(replica, target.container) as container:
            if not target.title:
                return _strike_container(container, blow, resumed)
            family = processes.descendants(int(container.attrs["State"]["Pid"]))
            found = [pid for pid in family if re.search(target.title, processes.title(pid))]
    else:
        found = [lab] if target.title == LAB else list(_titled(lab, target.title))
    if not found:
        return False
    pid = found[-1]
    if blow.how == "freeze":
        freeze(pid, blow, resumed)
        return True
    os.kill(pid, signal.Signals[blow.how])
    if blow.seconds is not None:
        resumed.callback(_resume, pid)
    return True


def _resume(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


@contextmanager
def _container(replica: str, part: str) -> Iterator[Any]:
    """The container of a part, or an instance by its name's end."""
    client = engine.connect()
    try:
        for container in resources.containers(client, replica):
            named = container.labels.get(SERVICE_LABEL) == part or container.name.endswith(part)
            if named and container.status in ("running", "paused"):
                yield container
                return
        raise ProcessLookupError(part)
    finally:
        client.close()


def _strike_container(container: Any, blow: Blow, resumed: ExitStack) -> bool:
    if blow.how == "freeze":
        freeze(int(container.attrs["State"]["Pid"]), blow, resumed)
        return True
    getattr(container, blow.how)()
    if blow.seconds is not None:
        resumed.callback(_unpause, container)
    return True


def _unpause(container: Any) -> None:
    with suppress(DockerException):  # the lab has started it anew meanwhile
        container.unpause()


def freeze(pid: int, blow: Blow, resumed: ExitStack) -> None:
    """Freeze a process by its own cgroup, or by one that is made for it, if it shares another's."""
    own = freezer_of(pid)
    made = own == freezer_of(os.getpid())
    folder = own / f"{CGROUP}-{os.getpid()}" if made else own
    if made:
        folder.mkdir()
        (folder / "cgroup.procs").write_text(str(pid))
    set_frozen(folder, True)

    def thaw() -> None:
        with suppress(FileNotFoundError):  # the lab has removed it with what was in it
            set_frozen(folder, False)
            if made:
                _remove(folder, own)

    if blow.seconds is not None or made:
        resumed.callback(thaw)


def _remove(folder: Path, parent: Path) -> None:
    """Remove a cgroup; what is still in it goes back, and what was killed there ends first."""

    def emptied() -> bool:
        with suppress(OSError):
            for pid in (folder / "cgroup.procs").read_text().split():
                (parent / "cgroup.procs").write_text(pid)
            folder.rmdir()
        return not folder.exists()

    _wait_for(emptied, THERE_WITHIN_S, f"{folder} could not be removed")


def set_frozen(folder: Path, frozen: bool) -> None:
    """Freeze all that is in a cgroup, or thaw it."""
    version_1 = folder / "freezer.state"
    if version_1.exists():
        version_1.write_text("FROZEN" if frozen else "THAWED")
    else:
        (folder / "cgroup.freeze").write_text(str(int(frozen)))


def freezer_of(pid: int) -> Path:
    """The folder of the cgroup that can freeze a process, of version 1 or 2."""
    paths = {
        kinds: path.lstrip("/")
        for _, kinds, path in (
            line.split(":", 2) for line in processes.cgroups(pid).decode().splitlines()
        )
    }
    return FREEZER / paths["freezer"] if FREEZER.exists() else UNIFIED / paths[""]


def left_over(folder: Path, struck: Struck, compose: bool) -> list[str]:
    """What a replica has left: processes, folders, cgroups, and containers on the engine.

    Args:
        folder: the temporary folder of its lab.
        compose: whether the engine is asked too.
    """
    left = [f"process {p.pid} ({p.name()})" for p in ownership.processes(struck.replica)]
    left += [str(path) for path in folder.glob(f"{ownership.PREFIX}*")]
    for gateway in struck.gateways:
        for root in (UNIFIED, Path("/dev/shm")):  # noqa: S108 - looked at, not written
            left += [str(path) for path in root.rglob(f"replica-lab-front-{gateway}-*")]
    if compose:
        client = engine.connect()
        left += [f"container {c.name}" for c in resources.containers(client, struck.replica)]
        client.close()
    return left
