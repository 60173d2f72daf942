"""Who asks for the health of the VM's backend, and has it started anew where it does not answer.

    every health_probe ── GET /health through nginx ──> answered within health_timeout
                              └── not so, health_failures times in a row ──> the backend is ended

So a load balancer asks that stands before the VM, or its service manager. Durations are divided by
``speed``. What fails is noted in `HEALTH_FILE`.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import requests

from lab.errors import LabError
from lab.model.knobs import Knobs
from lab.model.replica import HEALTH_FILE, HEALTH_PATH
from lab.stack import ports

ENDS_WITHIN_S = 65.0
"""Seconds in which a backend that is being started anew does, or has failed to."""


class HealthWatch(threading.Thread):
    """Asks until it is stopped.

    Args:
        url: of nginx, without a path.
        knobs: how often, how long, and how many failures.
        evidence: the folder of the workers' evidence.
        renew: ends the backend and starts it anew; returns once it serves.

    Attributes:
        failed: why the backend did not come back; empty while it did.
    """

    def __init__(self, url: str, knobs: Knobs, evidence: Path, renew: Callable[[], None]) -> None:
        super().__init__(name="health-watch", daemon=True)
        self.failed = ""
        self._url = url + HEALTH_PATH
        self._period = (knobs.health_probe or 0.0) / knobs.speed
        self._within, self._told_within = knobs.health_timeout / knobs.speed, knobs.health_timeout
        self._enough = knobs.health_failures
        self._file = evidence / HEALTH_FILE
        self._renew = renew
        self._ended = threading.Event()
        self._paused = threading.Event()

    def run(self) -> None:
        """Ask every so often."""
        due, failures = time.monotonic() + self._period, 0
        while not self._ended.wait(max(0.0, due - time.monotonic())):
            due = max(due, time.monotonic()) + self._period
            why = "" if self._paused.is_set() else self._ask()
            if self._ended.is_set() or self._paused.is_set() or not why:
                failures = 0
                continue
            failures += 1
            self._note("failed", why=why, in_row=failures)
            if failures == self._enough:
                self._start_anew(why, failures)
                due, failures = time.monotonic() + self._period, 0

    def pause(self) -> None:
        """Ask nothing: the backend, or nginx, is about to be struck on purpose."""
        self._paused.set()

    def resume(self) -> None:
        """Go on asking."""
        self._paused.clear()

    def stop(self) -> None:
        """End the thread, after the backend has come back if it is being started anew."""
        self._ended.set()
        if self.is_alive():
            self.join(timeout=ENDS_WITHIN_S)

    def _ask(self) -> str:
        """Why the backend did not answer well, in a few words; empty if it did."""
        try:
            with ports.http() as session:
                status = session.get(self._url, timeout=self._within).status_code
        except requests.Timeout:
            return f"no answer within {self._told_within:g} s"
        except requests.RequestException:
            return "its connection failed"
        return "" if status < requests.codes.bad_request else f"it answered {status}"

    def _start_anew(self, why: str, failures: int) -> None:
        self._note("ended", why=why, in_row=failures)
        try:
            self._renew()
        except LabError as error:
            self.failed = str(error)
        else:
            self._note("back")

    def _note(self, event: str, **fields: object) -> None:
        with self._file.open("a", encoding="utf-8") as file:
            line = {"at": time.monotonic(), "event": event, **fields}
            file.write(json.dumps(line, separators=(",", ":")) + "\n")
