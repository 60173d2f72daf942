"""Cloud Run's gateway before its instances, which it makes and ends itself.

    users ──> gateway ──> instance ──> Toxiproxy …

It is started for each cell, so that a cell begins with no instance but those that are kept
warm. An instance belongs to the gateway: it is not a part, and its death is a result.
`Instances` follows what the gateway writes about them.

In messages and on disk its name is "front", as its files have been called from the start.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.errors import MissingComponent, PartFailed
from lab.files import Folder
from lab.model.environment import child_environment, python_variables
from lab.model.knobs import Knobs
from lab.model.readings import Usage
from lab.model.replica import GATEWAY
from lab.stack.files import make_folder
from lab.stack.ports import HOST, POLL_S, accepts
from lab.stack.process import Part, Process

PROGRAM = [sys.executable, "-m", "lab.services.cloudrun"]
EVENTS = "front.jsonl"
LOGS = "instances"
"""Folder of the replica in which the gateway keeps its instances' output."""
WARM_WITHIN_S = 250.0
"""An instance may take 240 s to listen."""
ENDS_WITHIN_S = 15.0
"""The gateway gives up after 10 s on an instance that SIGKILL does not end."""


@dataclass(frozen=True)
class Burdened:
    """What a Cloud Run instance got when its limits were tested by a busy loop and by memory.

    Args:
        cores: CPU of its busy loop, in cores' worth of time.
        first_mib: memory that it took first.
        more_mib: memory that it took after that.
        lived: whether it survived the first.
        killed: whether it was killed for the second.
    """

    cores: float
    first_mib: float
    more_mib: float
    lived: bool
    killed: bool


class Gateway(Part):
    """The gateway, as a process of the lab's.

    Args:
        port: where users upload.
        evidence: folder for its events and for its instances' readings.
        env: variables beside the knobs: which driver, and what instances are made from.
    """

    name = GATEWAY

    def __init__(
        self, folder: Path, port: int, evidence: Path, env: Callable[[Knobs], Mapping[str, str]]
    ) -> None:
        super().__init__(folder)
        self.port = port
        self.url = f"http://{HOST}:{port}"
        self.events = evidence / EVENTS
        self.logs = folder / LOGS
        self.instances = Instances(self.events)
        self._env = env

    def start(self, knobs: Knobs) -> None:
        shutil.rmtree(self.logs, ignore_errors=True)
        make_folder(self.logs, 0o755)
        self.log.write_bytes(b"")
        for old in self.events.parent.glob("*.jsonl"):
            old.unlink()
        self.instances = Instances(self.events)
        environment = self._environment(knobs)
        self._process = Process(self.name, PROGRAM, self.log, environment, supervised=0)
        self._process.wait_ready(lambda: accepts(self.port))
        self._wait_until_warm(knobs.cloudrun_min_instances)

    def _environment(self, knobs: Knobs) -> dict[str, str]:
        return {
            **python_variables(),
            **knobs.as_env(),
            **self._env(knobs),
            "HOST": HOST,
            "PORT": str(self.port),
            "FRONT_EVENTS": str(self.events),
            "FRONT_LOGS": str(self.logs),
        }

    def burden(self, knobs: Knobs) -> Burdened:
        """Have another gateway test the limits of an instance, and do nothing else.

        Raises:
            PartFailed: the test could not be made.
        """
        done = _run("--calibrate", self._environment(knobs))
        if done.returncode:
            why = done.stderr.strip().removeprefix("front: ")
            raise PartFailed(f"no instance could be burdened: {why}", "see `lab doctor`")
        return Burdened(**json.loads(done.stdout))

    def _wait_until_warm(self, count: int) -> None:
        deadline = time.monotonic() + WARM_WITHIN_S
        while self.instances.ready() < count:
            down, failed = self.down(), self.instances.failed()
            if down or failed or time.monotonic() > deadline:
                why = down or failed or f"no instance was warm within {WARM_WITHIN_S:.0f} s"
                raise PartFailed(f"front did not come up: {why}", f"its log is {self.log}")
            time.sleep(POLL_S)

    def ask_to_stop(self) -> None:
        """Have it end every instance at once: no client awaits what is in them."""
        for number in (signal.SIGTERM, signal.SIGINT):  # a second signal ends instances at once
            if self._process:
                self._process.send(number)

    def stop(self) -> None:
        if self._process is None:
            return
        self.ask_to_stop()
        self._process.end_within(ENDS_WITHIN_S)
        if self._process.code != 0:
            sweep(self.logs)
        self._process = None

    def pids(self) -> list[int]:
        """Its own process only: its children are instances."""
        return super().pids()[:1]

    def usage(self, others: Callable[[], Mapping[str, Usage]]) -> Callable[[], dict[str, Usage]]:
        """What the other parts use, and under ``backend`` what all instances use together."""
        instances = self.instances
        return lambda: {**others(), "backend": instances.usage()}

    def keep(self, into: Folder) -> None:
        """Copy its log, its events and the output of each instance."""
        for file in (self.log, self.events, *self.logs.glob("*.log")):
            if file.exists():
                with file.open("rb") as source:
                    into.keep(file.name, source)


def check(knobs: Knobs, logs: Path | None = None) -> None:
    """Check that instances that are processes can be limited on this machine.

    Args:
        logs: folder of a replica in which the cgroup is noted that this takes.

    Raises:
        MissingComponent: they cannot be.
    """
    if logs and not logs.exists():
        make_folder(logs, 0o755)
    done = _run("--check", knobs.as_env() | ({"FRONT_LOGS": str(logs)} if logs else {}))
    if done.returncode:
        what, _, remedy = done.stderr.strip().removeprefix("front: ").partition(" - ")
        raise MissingComponent(what or "the front does not start", remedy or "see `lab doctor`")


def sweep(logs: Path) -> None:
    """Remove what a replica's killed gateways left: processes, frozen or not, and their cgroups.

    Args:
        logs: the folder of their instances' output, where they noted what they made.
    """
    _run("--sweep", {"FRONT_LOGS": str(logs)})


def _run(flag: str, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - the replica's own part
        [*PROGRAM, flag],
        env=child_environment({**python_variables(), **env}),
        capture_output=True,
        text=True,
        check=False,
    )


OVER = {"stopped", "died", "oom", "removed", "start_failed"}
"""Events after which an instance takes no memory."""


class Instances:
    """Follows the gateway's log of events, on demand and from any thread.

    Args:
        file: the log; it need not be there yet.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._at = 0
        self._inflight = 0
        self._live: dict[str, bool] = {}
        self._used: dict[str, dict[str, Any]] = {}
        self._failed = ""

    def ready(self) -> int:
        """How many instances serve now."""
        with self._lock:
            self._read()
            return sum(self._live.values())

    def inflight(self) -> int:
        """How many requests are inside instances now, including those whose client has left."""
        with self._lock:
            self._read()
            return self._inflight

    def failed(self) -> str:
        """Why an instance last failed to start; empty if none has."""
        with self._lock:
            self._read()
            return self._failed

    def usage(self) -> Usage:
        """What all instances have used so far, including those that have ended.

        The memory is the sum of the peaks of those that are alive, their files included.
        """
        with self._lock:
            self._read()
            return Usage(
                cpu_s=sum(used.get("cpu_s", 0.0) for used in self._used.values()),
                throttled_s=sum(used.get("throttled_s", 0.0) for used in self._used.values()),
                memory=round(
                    sum(self._used.get(name, {}).get("peak_bytes", 0.0) for name in self._live)
                ),
            )

    def _read(self) -> None:
        """Process the lines that were added since the last call and are complete."""
        if not self._file.exists():
            return
        with self._file.open("rb") as file:
            file.seek(self._at)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._at += len(whole) + len(newline)
        for line in whole.splitlines():
            self._see(json.loads(line))

    def _see(self, line: dict[str, Any]) -> None:
        event, name = line["event"], line.get("instance", "")
        if "cpu_s" in line:
            self._used[name] = line
        if event == "request_start":
            self._inflight += 1
        elif event == "request_end":
            self._inflight -= 1
        elif event in ("starting", "ready"):
            self._live[name] = event == "ready"
        elif event in OVER:
            self._live.pop(name, None)
        if event == "start_failed":
            self._failed = str(line["why"])
