"""Parts that are child processes: started, awaited, diagnosed in a line, and ended.

`Process` is a child process with its descendants, `Part` what every part of the embedded
replica can do, `ProcessUsage` the CPU and memory of all parts, of ended processes too.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Protocol

import psutil

from lab.errors import MissingComponent, PartFailed
from lab.model.environment import child_environment
from lab.model.knobs import Knobs
from lab.model.readings import Usage
from lab.paths import SETUP
from lab.stack.files import make_folder
from lab.stack.ports import POLL_S
from lab.stack.supervision import Diagnosis, Supervision, died, reader
from lab.warm import ForkedProcess, NotForked, Request, WarmProgram

READY_WITHIN_S = 30.0
GONE_WITHIN_S = 5.0
TAIL_BYTES = 8192
UMASK = 0o022
"""Of every part, whatever the user's: as root, nginx's workers read what its master makes."""


def last_line(log: Path) -> str:
    """The last line of a log that is not blank; empty if there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


class Child(Protocol):
    """A process that was started: `subprocess.Popen`, or one that was forked."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, _number: int, /) -> None: ...
    def kill(self) -> None: ...


class Process:
    """A child process in a session of its own, so that Ctrl-C reaches only the lab.

    Args:
        name: of the part, as messages name it.
        command: the program and its arguments.
        log: file that its output is appended to.
        env: its variables, beside those that any program needs (`lab.model.environment`).
        user: as whom it runs, if the lab runs as root.
        supervised: generations of its descendants that are the part's own.
        diagnosis, renews: what `Supervision` is to know of them.
        warm: has the imports of this command, and is to fork it.
        cores: those that it is bound to (Linux); None: all.

    Raises:
        MissingComponent: its program cannot be started.
        PartFailed: ``warm`` could not import it.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        log: Path,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        cwd: Path | None = None,
        supervised: int = 1,
        diagnosis: Diagnosis = died,
        renews: bool = False,
        warm: WarmProgram | None = None,
        cores: Sequence[int] | None = None,
    ) -> None:
        self.name = name
        self.log = log
        arguments = [str(part) for part in command]
        with log.open("ab") as output:
            if warm:
                self._child: Child = self._forked(warm, arguments, output.fileno(), env, cwd, cores)
            else:
                self._child = self._spawned(arguments, output.fileno(), env, user, cwd, cores)
        self._family = reader(self.pid, supervised)
        self._supervision = Supervision(self.pid, self._family, diagnosis, renews)

    def _spawned(
        self,
        command: list[str],
        output: int,
        env: Mapping[str, str] | None,
        user: str | None,
        cwd: Path | None,
        cores: Sequence[int] | None,
    ) -> subprocess.Popen[bytes]:
        try:
            child = subprocess.Popen(  # noqa: S603 - the replica's own parts
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=child_environment(env),
                umask=UMASK,
                cwd=cwd,
                start_new_session=True,
                user=user,
                extra_groups=[] if user else None,
            )
        except OSError as error:
            raise MissingComponent(
                f"{self.name}: {command[0]} cannot be started ({error.strerror})",
                f"{SETUP}, then `lab doctor`",
            ) from error
        if cores:
            os.sched_setaffinity(child.pid, cores)
        return child

    def _forked(
        self,
        warm: WarmProgram,
        command: list[str],
        output: int,
        env: Mapping[str, str] | None,
        cwd: Path | None,
        cores: Sequence[int] | None,
    ) -> ForkedProcess:
        request = Request(
            title=" ".join(["python", *command[1:]]),
            arguments=[],
            env=child_environment(env),
            folder=str(cwd or Path.cwd()),
            umask=UMASK,
            cores=cores,
        )
        try:
            return warm.fork(request, output)
        except NotForked as error:
            raise PartFailed(f"{self.name} did not come up {error}", "see `lab doctor`") from error

    @property
    def pid(self) -> int:
        """Of the process itself."""
        return self._child.pid

    @property
    def code(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        return self._child.poll()

    def pids(self) -> list[int]:
        """Of the process and all its descendants that are alive."""
        try:
            family = psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        return [self.pid, *(child.pid for child in family)]

    def down(self) -> str | None:
        """How the process, or one of its own, is dead or was stopped; None if all run.

        What befell one of its own stays.
        """
        code = self._child.poll()
        if code is None:
            return self._supervision.check()
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
        last = last_line(self.log)
        return f"{how}: {last}" if last else how

    def wait_ready(self, ready: Callable[[], bool], within: float = READY_WITHIN_S) -> None:
        """Wait until ``ready`` returns True; from then on its processes are supervised.

        Raises:
            PartFailed: the process died first, or was not ready in time.
        """
        deadline = time.monotonic() + within
        while not ready():
            down = self.down()
            if down or time.monotonic() > deadline:
                last = last_line(self.log)
                why = down or f"not ready after {within:.0f} s" + (f": {last}" if last else "")
                raise PartFailed(f"{self.name} did not come up: {why}", f"its log is {self.log}")
            time.sleep(POLL_S)
        self._supervision.settle()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process, if it is still there."""
        if self._child.poll() is None:
            self._child.send_signal(number)

    def stop(self, ask: signal.Signals = signal.SIGTERM, grace: float = 3.0) -> None:
        """Send ``ask``, wait up to ``grace`` seconds, kill the session; return after its end."""
        self.send(ask)
        self.end_within(grace)

    def end_within(self, grace: float) -> None:
        """Wait up to ``grace`` seconds for the end, then kill what is left of the session.

        Descendants outlive a killed parent but stay in its process group, except for Postgres',
        which end by themselves, and do not if they are stopped.
        """
        self._family()
        try:
            self._child.wait(grace)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._kill_left()

    def _kill_left(self) -> None:
        """Kill what is left of its descendants, and wait for their end."""
        deadline = time.monotonic() + GONE_WITHIN_S
        while (left := self._family.left()) and time.monotonic() < deadline:
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(POLL_S)

    def kill(self) -> None:
        """End the process and its descendants at once."""
        self.stop(signal.SIGKILL, grace=5.0)


class Part(ABC):
    """A server of the embedded replica.

    Args:
        folder: the replica's folder; the part keeps its files and its log there.
    """

    name: ClassVar[str]
    ask: ClassVar[signal.Signals] = signal.SIGTERM  #: the signal that ends it in an orderly way

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "logs" / f"{self.name}.log"
        if not self.log.parent.exists():
            make_folder(self.log.parent, 0o755)
        self._process: Process | None = None

    @abstractmethod
    def start(self, knobs: Knobs) -> None:
        """Start and wait until ready.

        Raises:
            PartFailed: it did not come up.
            MissingComponent: its program is not here.
        """

    def ask_to_stop(self) -> None:
        """Send the signal that ends it, without waiting."""
        if self._process:
            self._process.send(self.ask)

    def stop(self) -> None:
        """Stop, if it runs, and wait for the end."""
        if self._process:
            self._process.stop(self.ask)
            self._process = None

    def pids(self) -> list[int]:
        """Its processes that are alive."""
        return self._process.pids() if self._process else []

    def down(self) -> str | None:
        """How one of its processes is dead or was stopped, in a line; None if all run.

        What was seen stays until the part is started again.
        """
        return self._process.down() if self._process else "not started"


class ProcessUsage:
    """Running totals since this was made.

    Args:
        parts: name of each part to a function that returns its process ids now.
    """

    def __init__(self, parts: Mapping[str, Callable[[], list[int]]]) -> None:
        self._parts = parts
        self._cpu: dict[tuple[str, int], float] = {}

    def __call__(self) -> dict[str, Usage]:
        """The totals now; they include what processes that have ended used."""
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
