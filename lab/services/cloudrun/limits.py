"""The files by which a cgroup limits what is in it, and tells what that has used.

                 version 2                        version 1
    CPU          cpu.max                          cpu.cfs_quota_us over cpu.cfs_period_us
    memory       memory.max                       memory.limit_in_bytes
    swap         memory.swap.max = 0              memory.memsw.limit_in_bytes = the same limit
    freeze       cgroup.freeze                    freezer.state
    OOM kills    memory.events: oom_kill          memory.oom_control: oom_kill
    throttled    cpu.stat: throttled_usec         cpu.stat: throttled_time (nanoseconds)
    peak memory  memory.peak                      memory.max_usage_in_bytes

Sources: the kernel's admin-guide/cgroup-v2.rst and admin-guide/cgroup-v1/.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lab.services.cloudrun.instance import DriverError

PERIOD_US = 100_000
"""The kernel's default, and Docker's."""


@dataclass(frozen=True)
class Folders:
    """The folders of one cgroup; in version 2 they are the same one."""

    cpu: Path
    cpuacct: Path
    memory: Path
    freezer: Path

    @property
    def all(self) -> list[Path]:
        """Each folder once."""
        return list(dict.fromkeys((self.cpu, self.cpuacct, self.memory, self.freezer)))


class Cgroup(Protocol):
    """A cgroup with limits."""

    folders: Folders

    def limit_memory(self, size: int) -> None:
        """Memory and swap together, in bytes."""
        ...

    def limit_cpus(self, cpus: float) -> None:
        """A share of time, in cores."""
        ...

    def freeze(self, frozen: bool) -> None:
        """Withhold CPU altogether, or give it again."""
        ...

    def oom_kills(self) -> int:
        """Processes that the kernel killed for memory."""
        ...

    def usage(self) -> Mapping[str, float]:
        """``cpu_s`` and ``throttled_s`` in seconds, ``peak_bytes``."""
        ...


class V2:
    """A cgroup of version 2."""

    def __init__(self, folder: Path) -> None:
        self.folders = Folders(folder, folder, folder, folder)
        self._folder = folder

    def limit_memory(self, size: int) -> None:
        _write(self._folder / "memory.max", size)
        if (self._folder / "memory.swap.max").exists():  # absent where the kernel has no swap
            _write(self._folder / "memory.swap.max", 0)
        _write(self._folder / "memory.oom.group", 1)

    def limit_cpus(self, cpus: float) -> None:
        _write(self._folder / "cpu.max", f"{round(cpus * PERIOD_US)} {PERIOD_US}")

    def freeze(self, frozen: bool) -> None:
        _write(self._folder / "cgroup.freeze", int(frozen))

    def oom_kills(self) -> int:
        return int(_table(self._folder / "memory.events").get("oom_kill", 0))

    def usage(self) -> Mapping[str, float]:
        cpu = _table(self._folder / "cpu.stat")
        used = {"cpu_s": cpu["usage_usec"] / 1e6, "throttled_s": cpu["throttled_usec"] / 1e6}
        with suppress(FileNotFoundError):  # memory.peak came with Linux 5.19
            used["peak_bytes"] = float((self._folder / "memory.peak").read_text())
        return used


class V1:
    """A cgroup of version 1: one in each hierarchy that it needs."""

    def __init__(self, folders: Folders) -> None:
        self.folders = folders

    def limit_memory(self, size: int) -> None:
        _write(self.folders.memory / "memory.limit_in_bytes", size)
        with_swap = self.folders.memory / "memory.memsw.limit_in_bytes"
        if with_swap.exists():
            _write(with_swap, size)
        else:  # swap accounting is off: not a page of it then
            _write(self.folders.memory / "memory.swappiness", 0)

    def limit_cpus(self, cpus: float) -> None:
        _write(self.folders.cpu / "cpu.cfs_period_us", PERIOD_US)
        _write(self.folders.cpu / "cpu.cfs_quota_us", round(cpus * PERIOD_US))

    def freeze(self, frozen: bool) -> None:
        _write(self.folders.freezer / "freezer.state", "FROZEN" if frozen else "THAWED")

    def oom_kills(self) -> int:
        return int(_table(self.folders.memory / "memory.oom_control").get("oom_kill", 0))

    def usage(self) -> Mapping[str, float]:
        return {
            "cpu_s": float((self.folders.cpuacct / "cpuacct.usage").read_text()) / 1e9,
            "throttled_s": _table(self.folders.cpu / "cpu.stat")["throttled_time"] / 1e9,
            "peak_bytes": float((self.folders.memory / "memory.max_usage_in_bytes").read_text()),
        }


def _table(file: Path) -> dict[str, float]:
    return {name: float(value) for name, value in map(str.split, file.read_text().splitlines())}


def _write(file: Path, value: object) -> None:
    try:
        file.write_text(str(value))
    except OSError as error:
        raise DriverError(f"{file} cannot be set to {value}: {error.strerror}") from error
