"""CPU and memory of a part's processes, also of those that ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import psutil

from lab.model.observation import Usage


class ProcessUsage:
    """Running totals since this was made.

    Args:
        parts: name of each part to a function that gives its process ids now.
    """

    def __init__(self, parts: Mapping[str, Callable[[], list[int]]]) -> None:
        self._parts = parts
        self._cpu: dict[tuple[str, int], float] = {}

    def __call__(self) -> dict[str, Usage]:
        """The totals now; what a process used stays counted when it has ended."""
        return {name: self._read(name, pids()) for name, pids in self._parts.items()}

    def _read(self, name: str, pids: list[int]) -> Usage:
        memory = 0
        for pid in pids:
            try:
                process = psutil.Process(pid)
                times = process.cpu_times()
                memory += process.memory_info().rss
            except psutil.Error:
                continue
            self._cpu[name, pid] = times.user + times.system
        spent = sum(seconds for (part, _), seconds in self._cpu.items() if part == name)
        return Usage(cpu_s=spent, memory=memory)
