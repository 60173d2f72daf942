"""A part's process: started, waited for, diagnosed in one line, ended."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from lab.errors import MissingComponent, PartFailed

READY_WITHIN_S = 30.0
TAIL_BYTES = 8192


def last_line(log: Path) -> str:
    """The last line with text of a log; empty where there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


class Process:
    """One child process in a session of its own, so that Ctrl-C reaches the lab alone.

    Args:
        name: of the part, as messages name it.
        command: the program and its arguments.
        log: file that its output is appended to.
        env: variables added to this process's own.
        user: whom to run it as, when the lab runs as root.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        log: Path,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            try:
                self._popen = subprocess.Popen(  # noqa: S603 - the replica's own parts
                    [str(part) for part in command],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **(env or {})},
                    cwd=cwd,
                    start_new_session=True,
                    user=user,
                    extra_groups=[] if user else None,
                )
            except OSError as error:
                raise MissingComponent(
                    f"{name}: {command[0]} cannot be started ({error.strerror})",
                    "run `make setup`, then `lab doctor`",
                ) from error

    @property
    def pid(self) -> int:
        """Of the process itself."""
        return self._popen.pid

    @property
    def code(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        return self._popen.poll()

    def pids(self) -> list[int]:
        """Of the process and all its descendants that are alive."""
        try:
            family = psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        return [self.pid, *(child.pid for child in family)]

    def down(self) -> str | None:
        """One line that says how the process is dead or stopped; None while it runs."""
        code = self._popen.poll()
        if code is None:
            try:
                stopped = psutil.Process(self.pid).status() == psutil.STATUS_STOPPED
            except psutil.NoSuchProcess:
                return "gone"
            return "stopped (SIGSTOP)" if stopped else None
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
        said = last_line(self.log)
        return f"{how}: {said}" if said else how

    def wait_ready(self, ready: Callable[[], bool], within: float = READY_WITHIN_S) -> None:
        """Wait until ``ready`` says so.

        Raises:
            PartFailed: the process died first, or was not ready in time.
        """
        deadline = time.monotonic() + within
        while not ready():
            down = self.down()
            if down or time.monotonic() > deadline:
                said = last_line(self.log)
                why = down or f"not ready after {within:.0f} s" + (f": {said}" if said else "")
                raise PartFailed(f"{self.name} did not come up: {why}", f"its log is {self.log}")
            time.sleep(0.02)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process, if it is still there."""
        if self._popen.poll() is None:
            self._popen.send_signal(number)

    def stop(self, ask: signal.Signals = signal.SIGTERM, grace: float = 3.0) -> None:
        """Ask, wait up to ``grace`` seconds, then kill the whole session; waits for the end."""
        self.send(ask)
        self.reap(grace)

    def reap(self, grace: float) -> None:
        """Wait up to ``grace`` seconds for the end, then kill what is left of the session.

        Descendants outlive a killed parent but stay in its process group.
        """
        try:
            self._popen.wait(grace)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def kill(self) -> None:
        """End the process and its descendants at once."""
        self.stop(signal.SIGKILL, grace=5.0)
