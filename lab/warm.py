"""A program whose imports are done: each process of it is forked, and begins at once.

    WarmProgram ──request, log──> python -m lab.warm lab.services.backend.serving …   imports, waits
                <──pid, code───     └──fork──> a new process of the program: own session, log,
                                               environment and folder

Python takes 0.6 s of a core and more to import Locust, or FastAPI with the storage client; from
one cell to the next nothing of that changes. What is forked has done nothing but import: it has
no thread, no connection and no state of an earlier process. In between, the warm process waits
for a request and takes no CPU. It ends when its end of the socket closes, which is when the lab
ends, however it ends; whoever it has forked by then is not its business.

Arguments are modules, which are imported in their order, and ``module:function``, which are
called in their order in each process that is forked; the last one is the program. What is used
here of `os` and `signal` is held by its own name, because Locust, when it is imported, replaces it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from os import WNOHANG, fork, waitpid
from select import select
from signal import SIG_DFL, SIGCHLD
from signal import signal as handle
from typing import Any

import psutil

from lab.model.environment import child_environment, python_variables
from lab.model.processes import how_held, rename

FORKED_WITHIN_S = 60.0
"""A slow machine may take this long to import a program."""
CLOSED_WITHIN_S = 2.0
LOOK_S = 0.05
REQUEST_BYTES = 1 << 16
UNKNOWN = 255
"""Exit code of a process whose warm process was gone before it: nobody has heard of its end."""


class NotForked(OSError):
    """No process could be forked; the message is what the program said last."""


@dataclass(frozen=True)
class Request:
    """What a process is to be forked with.

    Args:
        title: what its command line reads.
        arguments: of the program, without its name.
        env: its whole environment.
        folder: its working folder.
        umask: as of `os.umask`; None leaves it.
        cores: those that it is bound to; None: all.
    """

    title: str
    arguments: Sequence[str]
    env: Mapping[str, str]
    folder: str
    umask: int | None = None
    cores: Sequence[int] | None = None


class WarmProgram:
    """A program's warm process, which is started when it is first needed, and again if it died.

    Args:
        program: the arguments of this module.
    """

    def __init__(self, *program: str) -> None:
        self._program = program
        self._lock = threading.Lock()
        self._process: WarmProcess | None = None

    def start(self) -> int:
        """Have it import, if there is none that has, or is about to; does not wait for it.

        Returns:
            The process id of the warm process, which is the parent of what it forks.
        """
        return self._started().pid

    def _started(self) -> WarmProcess:
        with self._lock:
            if self._process is None or self._process.down():
                self._close()
                self._process = WarmProcess(self._program)
            return self._process

    def fork(self, request: Request, log: int) -> ForkedProcess:
        """A new process of the program.

        Args:
            request: what it is to have.
            log: descriptor for its output, which stays the caller's.

        Raises:
            NotForked: the program cannot be imported.
        """
        return self._started().fork(request, log)

    def close(self) -> None:
        """End it; processes that were forked go on."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._process:
            self._process.close()
            self._process = None


class WarmProcess:
    """A warm process, as who started it sees it; any thread may call this."""

    def __init__(self, program: Sequence[str]) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        self._control, theirs = socket.socketpair()
        with theirs:
            self._popen = subprocess.Popen(  # noqa: S603 - this interpreter, our own module
                [sys.executable, "-P", "-m", "lab.warm", *program],
                stdin=theirs.fileno(),
                stdout=self._said,
                stderr=subprocess.STDOUT,
                env=child_environment(python_variables()),
                start_new_session=True,
            )
        self._lock = threading.Lock()
        self._unread, self._ended = b"", False
        self._forked: list[int] = []
        self._codes: dict[int, int] = {}

    @property
    def pid(self) -> int:
        """Of the warm process."""
        return int(self._popen.pid)

    def down(self) -> bool:
        """Whether it has ended, or is kept from running."""
        return self._popen.poll() is not None or bool(how_held(self._popen.pid))

    def fork(self, request: Request, log: int) -> ForkedProcess:
        """As of `WarmProgram.fork`."""
        line = json.dumps(asdict(request)).encode() + b"\n"
        with suppress(OSError):  # it is gone: `_await` says why
            socket.send_fds(self._control, [line], [log])
        return ForkedProcess(self, self._await())

    def _await(self) -> int:
        """The process id that it answers with."""
        deadline = time.monotonic() + FORKED_WITHIN_S
        while not self._forked:
            self.listen(LOOK_S)
            if not self._forked and (self._ended or time.monotonic() > deadline):
                raise NotForked(self._last_words())
        return self._forked.pop(0)

    def _last_words(self) -> str:
        code = self._popen.wait(CLOSED_WITHIN_S) if self._ended else None
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").split("\n")
        said = next((line.strip() for line in reversed(lines) if line.strip()), "")
        how = f"not within {FORKED_WITHIN_S:g} s" if code is None else f"exit code {code}"
        return f"({how}): {said or 'it printed nothing'}"

    def listen(self, within: float) -> None:
        """Take what it has to tell, for which to wait so many seconds at most."""
        if not self._ended and select([self._control], [], [], within)[0]:
            with self._lock:
                self._take()
        elif self._ended:
            time.sleep(within)

    def _take(self) -> None:
        while not self._ended and select([self._control], [], [], 0)[0]:
            try:
                told = self._control.recv(REQUEST_BYTES)
            except ConnectionError:
                told = b""
            self._ended = not told
            *whole, self._unread = (self._unread + told).split(b"\n")
            for line in whole:
                self._hear(**json.loads(line))

    def _hear(self, pid: int, code: int | None = None) -> None:
        if code is None:
            self._forked.append(pid)
        else:
            self._codes[pid] = code

    def code(self, pid: int, within: float = 0.0) -> int | None:
        """How a process that it has forked has ended; None if it has not by then."""
        if pid not in self._codes:
            self.listen(within)
        if pid not in self._codes and self._ended and _gone(pid):
            return UNKNOWN
        return self._codes.get(pid)

    def close(self) -> None:
        """End it."""
        self._control.close()
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(0 if how_held(self._popen.pid) else CLOSED_WITHIN_S)
        self._popen.kill()
        self._popen.wait()
        self._said.close()


def _gone(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


class ForkedProcess:
    """A process of a warm program, with the part of `subprocess.Popen` that is needed of it.

    Attributes:
        returncode: its exit code, negative for a signal; None until its end was noticed.
    """

    def __init__(self, parent: WarmProcess, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._parent = parent

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._noticed(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end.

        Raises:
            subprocess.TimeoutExpired: it did not end within these seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self._noticed(LOOK_S)) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
        return code

    def _noticed(self, within: float) -> int | None:
        if self.returncode is None:
            self.returncode = self._parent.code(self.pid, within)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it has not ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Send it SIGKILL, if it has not ended."""
        self.send_signal(signal.SIGKILL)


def serve(control: socket.socket) -> None:
    """Fork a process for each request; returns in each of these, and never in the caller's.

    Args:
        control: gets a `Request` a line with the descriptor of a log; closed when the lab ends.
    """

    def reap(*_signal: object) -> None:
        with suppress(ChildProcessError, OSError):
            while (ended := waitpid(-1, WNOHANG))[0]:
                _tell(control, pid=ended[0], code=os.waitstatus_to_exitcode(ended[1]))

    handle(SIGCHLD, reap)
    while asked := _receive(control):
        request, log = asked
        pid = fork()
        if not pid:
            handle(SIGCHLD, SIG_DFL)
            control.close()
            _become(request, log)
            return
        os.close(log)
        _tell(control, pid=pid)
    os._exit(0)


def _receive(control: socket.socket) -> tuple[Request, int] | None:
    """The next request and its log; None if there will be none."""
    line, logs = b"", list[int]()
    while not line.endswith(b"\n"):
        part, given, _, _ = socket.recv_fds(control, REQUEST_BYTES, 1)
        if not part:
            return None
        line, logs = line + part, [*logs, *given]
    return Request(**json.loads(line)), logs[0]


def _tell(control: socket.socket, **what: int) -> None:
    control.sendall(json.dumps(what).encode() + b"\n")


def _become(request: Request, log: int) -> None:
    """Have this process what was asked for."""
    os.setsid()
    rename(request.title)
    for number in (1, 2):
        os.dup2(log, number)
    os.close(log)
    os.environ.clear()
    os.environ.update(request.env)
    os.chdir(request.folder)
    if request.umask is not None:
        os.umask(request.umask)
    if request.cores is not None:
        os.sched_setaffinity(0, request.cores)
    sys.argv[1:] = request.arguments


def main(program: Sequence[str]) -> None:
    """Import, and serve; in what is forked, go on as the program."""
    control = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    named = [name.partition(":") for name in program]
    modules = [import_module(module) for module, _, _ in named]
    calls: list[Callable[[], Any]] = [
        getattr(module, function)
        for module, (_, _, function) in zip(modules, named, strict=True)
        if function
    ]
    serve(control)
    for call in calls:
        call()


if __name__ == "__main__":
    main(sys.argv[1:])
