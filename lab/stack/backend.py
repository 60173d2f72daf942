"""The backend: uvicorn with ``workers`` processes, on the VM's cores and within its memory.

`Workers` is what both stacks know of the workers, read from the evidence that these write;
`Backend` and its `MemoryWatch` belong to the embedded stack.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import psutil

from lab.errors import PartFailed
from lab.model.clock import foreign_clock
from lab.model.environment import python_variables
from lab.model.knobs import Knobs
from lab.model.replica import PORTS_VARIABLE
from lab.stack import ports
from lab.stack.files import make_folder
from lab.stack.ports import HOST
from lab.stack.process import GONE_WITHIN_S, Part, Process, last_line
from lab.stack.supervision import Role, died
from lab.warm import WarmProgram

WARM = ("lab.services.backend.serving", "lab.services.backend.__main__:main")
"""What a worker imports, and the program (`lab.warm`)."""
WATCH_S = 0.1
LINE_S = 0.1
"""How often a worker writes a line of evidence."""

OOM_FILE = "oom.jsonl"
"""Which workers were killed for memory; in the folder of the workers' evidence."""


class Backend(Part):
    """uvicorn and its workers.

    A worker is ready when its evidence file has a line, which it writes once its server
    listens. It is ended by SIGKILL: an orderly end would wait for uploads that no client awaits.

    It is forked by a process that has imported it (`lab.warm`). Where ``vm_memory`` limits what
    it takes it is started by itself, with imports of its own, at its first start and any other.
    """

    name = "backend"
    ask: ClassVar[signal.Signals] = signal.SIGKILL

    def __init__(
        self,
        folder: Path,
        port: int,
        database_url: str,
        storage_url: str,
        speech_url: str,
        bucket: str,
    ) -> None:
        super().__init__(folder)
        self.port = port
        self.url = f"http://{HOST}:{port}"
        self._ports = [port]
        self.evidence = folder / "evidence"
        make_folder(self.evidence, 0o755)
        self.workers = Workers(self.evidence, lambda pid, _: psutil.pid_exists(pid))
        self.addresses = {
            "DATABASE_URL": database_url.replace("postgresql://", "postgresql+psycopg2://", 1),
            "STORAGE_EMULATOR_HOST": storage_url,
            "SPEECH_URL": speech_url,
            "AUDIO_BUCKET": bucket,
            "LAB_EVIDENCE_DIR": str(self.evidence),
            "HOST": HOST,
            "PORT": str(port),
            "PYTHONUNBUFFERED": "1",
        }
        self._watch: MemoryWatch | None = None
        self.restarting, self._relaunching = threading.Event(), threading.Lock()
        self._warm = WarmProgram(*WARM)

    def warm_up(self, knobs: Knobs) -> None:
        """Have the imports begin, if these knobs let it be forked; does not wait for them."""
        if knobs.vm_memory is None:
            self._warm.start()

    def cool_down(self) -> None:
        """End what has imported it."""
        self._warm.close()

    def start(self, knobs: Knobs) -> None:
        self.workers.forget()
        self._launch(knobs)
        if knobs.vm_memory is not None:
            self._watch = MemoryWatch(self, knobs, knobs.vm_memory)
            self._watch.start()

    def listens_on(self, knobs: Knobs) -> list[int]:
        """The ports of its listening sockets; those that no cell has needed yet are drawn now.

        Raises:
            MachineError: not that many are free.
        """
        self._ports += ports.free(max(0, knobs.listeners - len(self._ports)))
        return self._ports[: knobs.listeners]

    def _launch(self, knobs: Knobs) -> None:
        listens_on = " ".join(map(str, self.listens_on(knobs)))
        self._process = Process(
            self.name,
            [sys.executable, "-m", "lab.services.backend"],
            self.log,
            env={
                **python_variables(),
                **knobs.as_env(),
                **self.addresses,
                PORTS_VARIABLE: listens_on,
            },
            diagnosis=self._diagnosis,
            renews=True,
            warm=self._warm if knobs.vm_memory is None else None,
            cores=_cores(knobs.vm_cpus),
        )
        self._process.wait_ready(lambda: len(self.workers.alive()) >= knobs.workers)

    def relaunch(self, knobs: Knobs) -> None:
        """End what is left of it and start it again, as the VM's service manager does.

        Until it serves it is not down.
        """
        with self._relaunching:
            self.restarting.set()
            try:
                if self._process:
                    self._process.kill()
                self._wait_for_ports()
                self._launch(knobs)
            finally:
                self.restarting.clear()

    def stop(self) -> None:
        if self._watch:
            self._watch.stop()
            self._watch = None
        super().stop()
        self._wait_for_ports()

    def _wait_for_ports(self) -> None:
        """Until nothing listens on any of its ports; a worker may have one of its own."""
        for port in self._ports:
            ports.wait_until_free(port, GONE_WITHIN_S)

    def down(self) -> str | None:
        was_restarting, why = self.restarting.is_set(), super().down()
        return None if was_restarting or self.restarting.is_set() else why

    def _diagnosis(self, pid: int, role: Role) -> str | None:
        """That a worker was killed for its memory is a result of the cell, not a fault."""
        return None if pid in self.workers.killed_for_memory() else died(pid, role)


def _cores(cpus: float) -> list[int] | None:
    """As many of this machine's cores as the VM has (Linux); None: all."""
    mine = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
    return mine[: math.ceil(cpus)] if math.ceil(cpus) < len(mine) else None


class MemoryWatch(threading.Thread):
    """Stands in for the kernel's OOM killer, which needs a cgroup and so root.

    When the backend's resident memory exceeds ``vm_memory`` the largest worker is killed and
    a line is written to ``oom.jsonl``. uvicorn's parent process starts a new worker; a single
    worker has no parent and is launched again.
    """

    def __init__(self, backend: Backend, knobs: Knobs, limit: int) -> None:
        super().__init__(name="memory-watch", daemon=True)
        self._backend = backend
        self._knobs = knobs
        self._limit = limit
        self._ended = threading.Event()

    def run(self) -> None:
        """Check ten times a second."""
        while not self._ended.wait(WATCH_S):
            sizes = self._sizes()
            if sum(sizes.values()) > self._limit:
                self._kill_largest(sizes)

    def _sizes(self) -> dict[int, int]:
        sizes = {}
        for pid in self._backend.pids():
            try:
                sizes[pid] = psutil.Process(pid).memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return sizes

    def _kill_largest(self, sizes: dict[int, int]) -> None:
        pid = max(sizes, key=sizes.__getitem__)
        single = self._knobs.workers == 1
        if single:
            self._backend.restarting.set()
        note_oom(self._backend.evidence, time.monotonic(), pid, sizes[pid])
        with suppress(psutil.NoSuchProcess):
            psutil.Process(pid).kill()
            if single:
                self._backend.relaunch(self._knobs)
        if single:
            self._backend.restarting.clear()

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()
        if threading.current_thread() is not self:
            self.join(timeout=35)


class Workers:
    """Reads the workers' evidence files.

    Args:
        evidence: their folder.
        alive: whether the worker with this pid and this evidence file is alive.
    """

    def __init__(self, evidence: Path, alive: Callable[[int, Path], bool]) -> None:
        self.evidence = evidence
        self._alive = alive

    def forget(self) -> None:
        """Remove what earlier workers wrote."""
        for old in self.evidence.glob("*.jsonl"):
            old.unlink(missing_ok=True)

    def seen(self) -> list[int]:
        """Every worker that ever wrote a line."""
        files = self.evidence.glob("worker-*.jsonl")
        return [int(file.stem.removeprefix("worker-")) for file in files if file.stat().st_size]

    def alive(self, since: float = 0.0) -> list[int]:
        """Workers that are alive and have written since then (on the monotonic clock)."""
        return [
            pid
            for pid in self.seen()
            if self._alive(pid, self._file(pid)) and last_reading(self._file(pid))["at"] >= since
        ]

    def inflight(self) -> int:
        """Uploads inside the workers, by each worker's last line."""
        return sum(last_reading(self._file(pid)).get("inflight", 0) for pid in self.alive())

    def inside(self) -> int:
        """All that students have asked for and the workers have not answered, uploads among it."""
        last = [last_reading(self._file(pid)) for pid in self.alive()]
        return sum(reading.get("inside", reading.get("inflight", 0)) for reading in last)

    def killed_for_memory(self) -> set[int]:
        """Process ids of the workers that `note_oom` has noted."""
        file = self.evidence / OOM_FILE
        lines = file.read_text().splitlines() if file.exists() else []
        return {json.loads(line)["pid"] for line in lines}

    def busy(self) -> bool:
        """Whether anything is still inside the workers after several more lines of evidence."""
        deadline = time.monotonic() + 3 * LINE_S
        while self.inside():
            if time.monotonic() > deadline:
                return True
            time.sleep(LINE_S / 4)
        return False

    def _file(self, pid: int) -> Path:
        return self.evidence / f"worker-{pid}.jsonl"


def note_oom(evidence: Path, at: float, pid: int = 0, rss: int = 0) -> None:
    """Write down that the memory limit was exceeded.

    Args:
        evidence: the workers' folder.
        at: when, on the monotonic clock.
        pid: of the worker that was killed; 0 where it was the whole container.
        rss: its resident bytes; 0 if unknown.
    """
    with (evidence / OOM_FILE).open("a") as file:
        file.write(json.dumps({"at": at, "pid": pid, "rss": rss}) + "\n")


def last_reading(file: Path) -> dict[str, Any]:
    """A worker's last line; one that says nothing where there is none, or only half of one.

    Raises:
        PartFailed: its clock is not the lab's.
    """
    try:
        line: dict[str, Any] = {"at": 0.0, **json.loads(last_line(file))}
    except ValueError:
        return {"at": 0.0}
    if wrong := foreign_clock(line.get("clock")):
        raise PartFailed(f"{file.stem}: {wrong}", "run the backend on the lab's own kernel")
    return line


def wrote_lately(_pid: int, file: Path) -> bool:
    """Whether a worker still writes; for a process that is not visible from here."""
    return time.monotonic() - float(last_reading(file)["at"]) < 5 * LINE_S
