"""Whether every process of a part is there and runs: which one died, was stopped, or is new.

    part is ready ──settle──> its lasting processes ──check, four times a second──> None, or why

A part has lasting processes, as nginx its master and workers, and passing ones, as Postgres a
backend for each client. One that lasts may neither end nor be replaced, and none may be stopped.
What was seen first stays: a process that was resumed, or a server that has restarted itself,
leaves its part no less struck, until the part is started again.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import psutil

from lab.model import processes

SETTLES_WITHIN_S = 1.0
"""A part that answers may still start a lasting process: Postgres its launchers."""


class Role(NamedTuple):
    """What a process is for, as messages name it, and whether it lasts as long as its part."""

    name: str
    lasts: bool = True


SERVER = Role("server")
UNNAMED = Role("process", lasts=False)
"""A process that has just been forked, and has no title of its own yet."""
NAMED_AFTER_S = 1.0
"""A process that began this long ago has the title that it keeps."""

_TITLES: tuple[tuple[re.Pattern[str], Role], ...] = tuple(
    (re.compile(pattern), role)
    for pattern, role in (
        (r"(^|/)(docker-init|tini) ", Role("init")),
        (r"^nginx: master", Role("master")),
        (r"^nginx: worker", Role("worker")),
        (r"^postgres: checkpointer", Role("checkpointer")),
        (r"^postgres: background writer", Role("background writer")),
        (r"^postgres: walwriter", Role("walwriter")),
        (r"^postgres: io worker", Role("io worker")),
        (r"^postgres: autovacuum launcher", Role("autovacuum launcher")),
        (r"^postgres: logical replication launcher", Role("logical replication launcher")),
        (r"^postgres: autovacuum worker", Role("autovacuum worker", lasts=False)),
        (r"^postgres: ", Role("client backend", lasts=False)),
        (r"(^|/)postgres -", Role("postmaster")),
        (r"multiprocessing\.resource_tracker", Role("resource tracker")),
        (r"multiprocessing\.spawn|^lab\.services\.backend: worker", Role("worker")),
        (r"(^|/)(fake-gcs-server|toxiproxy-server|toxiproxy) ", SERVER),
        (r"lab\.services\.speech", SERVER),
        (r"lab\.services\.backend", Role("uvicorn")),
        (r"lab\.services\.cloudrun", Role("gateway")),
    )
)


def role_of(title: str, other: Role = UNNAMED) -> Role:
    """What a process is for, by its title; ``other`` if no title of a part is like it."""
    return next((role for pattern, role in _TITLES if pattern.search(title)), other)


class SeenProcess(NamedTuple):
    """A process as it is now.

    Args:
        role: what it is for.
        started: when, in seconds of the clock of who saw it; with the id it names a process.
        held: how it is kept from running, in a few words; empty if it is not.
    """

    role: Role
    started: float
    held: str = ""


class Reader(Protocol):
    """Sees a part's processes."""

    def now(self) -> float:
        """The clock by which `SeenProcess.started` is told."""

    def __call__(self) -> Mapping[int, SeenProcess]:
        """By process id, those that have not ended."""


Diagnosis = Callable[[int, Role], str | None]
"""How a lasting process ended, in a few words; None if that is a result of the cell, and empty
if it is not known yet."""


def died(pid: int, role: Role) -> str:
    """That a process is gone, where nothing else is known of its end."""
    return f"{role.name} {pid} died"


@dataclass(frozen=True)
class Member:
    """A process that lasts."""

    role: Role
    started: float


class Supervision:
    """Supervises a part's processes; safe to be asked from several threads.

    Args:
        main: the process that all descend from; how it ends, others tell.
        read: sees them.
        diagnosis: says how one ended.
        renews: whether the part replaces a lasting process by itself, which is its business:
            uvicorn, when a worker was killed for its memory.
    """

    def __init__(
        self, main: int, read: Reader, diagnosis: Diagnosis = died, renews: bool = False
    ) -> None:
        self._main, self._read, self._diagnosis, self._renews = main, read, diagnosis, renews
        self._members: dict[int, Member] = {}
        self._settled_at: float | None = None
        self._first: str | None = None

    def settle(self) -> None:
        """The part is ready: its lasting processes are those of now."""
        self._settled_at = self._read.now()
        self._members = self._lasting(self._read())

    def check(self) -> str | None:
        """What befell one of its processes first, in a line; None if nothing did."""
        if self._first is None:
            self._first = self._look(self._read())
        return self._first

    def _look(self, seen: Mapping[int, SeenProcess]) -> str | None:
        for pid, process in seen.items():
            if process.held:
                return f"{process.role.name} {pid} was {process.held}"
        if self._settled_at is None or self._main not in seen:
            return None
        ended = self._ended(seen)
        return self._replaced(seen, self._settled_at) if ended is None else ended or None

    def _ended(self, seen: Mapping[int, SeenProcess]) -> str | None:
        """How a lasting process ended; None if none did, empty if that is not known yet."""
        unexplained = None
        for pid, member in list(self._members.items()):
            if pid in seen and seen[pid].started == member.started:
                continue
            if why := self._diagnosis(pid, member.role):
                return why
            if why is None:
                del self._members[pid]
            else:
                unexplained = why
        return unexplained

    def _replaced(self, seen: Mapping[int, SeenProcess], settled_at: float) -> str | None:
        """Whether there is a lasting process more than there was; those that are late count in."""
        for pid, member in self._lasting(seen).items():
            late = member.started <= settled_at + SETTLES_WITHIN_S
            if pid not in self._members and (late or self._renews):
                self._members[pid] = member
            elif pid not in self._members:
                return f"{member.role.name} {pid} is new: another of its kind was replaced"
        return None

    def _lasting(self, seen: Mapping[int, SeenProcess]) -> dict[int, Member]:
        return {
            pid: Member(process.role, process.started)
            for pid, process in seen.items()
            if process.role.lasts and pid != self._main
        }


class KernelReader:
    """Sees a process of this machine and its descendants, by /proc.

    Args:
        main: the process.
        depth: how many generations of descendants belong to the part.
    """

    def __init__(self, main: int, depth: int = 1) -> None:
        self._main, self._depth = main, depth
        self._roles: dict[tuple[int, int], Role] = {}
        state = processes.state_of(main)
        self._lasting: dict[int, int] = {main: state.started} if state else {}
        self._last: dict[int, int] = {}

    def now(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def __call__(self) -> dict[int, SeenProcess]:
        parents = self._parents()
        seen, started = {}, {}
        for pid, parent in parents.items():
            state = processes.state_of(pid)
            if state is None or not state.runs:
                continue
            role = self._role(pid, state.started, parent)
            # Whose cgroup is asked costs as much as its state, and clients' are the server's.
            held = processes.held(pid, state) if role.lasts else processes.stopped(state)
            seen[pid] = SeenProcess(role, state.started / _TICKS, held)
            started[pid] = state.started
        self._lasting = {pid: started[pid] for pid, process in seen.items() if process.role.lasts}
        self._roles = {key: role for key, role in self._roles.items() if key[0] in seen}
        if self._main in seen:
            self._last = started
        return seen

    def left(self) -> list[int]:
        """Of the processes that were there when it last had its main one, those that still are."""
        return self._same(self._last)

    def _same(self, known: Mapping[int, int]) -> list[int]:
        """Of processes by their starts, those that run and are still the same."""
        states = {pid: processes.state_of(pid) for pid in known}
        return [
            pid
            for pid, state in states.items()
            if state and state.runs and state.started == known[pid]
        ]

    def _parents(self) -> dict[int, int]:
        """The parent of each process of the family; lasting ones are asked for by name, since the
        kernel's list of children may be incomplete. Whoever has their id now may be another."""
        parents = dict.fromkeys(self._same(self._lasting), self._main)
        generation = [pid for pid in parents if pid == self._main]
        for _ in range(self._depth):
            born = {child: parent for parent in generation for child in processes.children(parent)}
            parents |= born
            generation = list(born)
        return parents

    def _role(self, pid: int, started: int, parent: int) -> Role:
        known = self._roles.get((pid, started))
        if known is None:
            title = processes.title(pid)
            if pid == self._main:
                known = role_of(title, SERVER)
            else:
                known = UNNAMED if title == processes.title(parent) else role_of(title)
            if self.now() - started / _TICKS > NAMED_AFTER_S:
                self._roles[pid, started] = known
        return known


_TICKS = os.sysconf("SC_CLK_TCK")


class PsutilReader:
    """The same where there is no /proc."""

    def __init__(self, main: int, depth: int = 1) -> None:
        self._main, self._depth = main, depth
        self._last: list[psutil.Process] = []

    def now(self) -> float:
        return time.time()

    def left(self) -> list[int]:
        """Of the processes that were there when it last had its main one, those that still are."""
        return [process.pid for process in self._last if process.is_running()]

    def __call__(self) -> dict[int, SeenProcess]:
        seen = {}
        try:
            main = psutil.Process(self._main)
            family = [main, *(main.children() if self._depth else ())]
        except psutil.NoSuchProcess:
            return {}
        self._last = family
        for process in family:
            try:
                status = process.status()
                other = SERVER if process == main else UNNAMED
                role = role_of(" ".join(process.cmdline()), other)
                stopped = status in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
                held = processes.HELD["T"] if stopped else ""
                if status != psutil.STATUS_ZOMBIE:
                    seen[process.pid] = SeenProcess(role, process.create_time(), held)
            except psutil.Error:
                continue  # ended meanwhile
        return seen


def reader(main: int, depth: int = 1) -> KernelReader | PsutilReader:
    """What sees a process of this machine, and as many generations of its descendants."""
    return KernelReader(main, depth) if processes.visible() else PsutilReader(main, depth)
