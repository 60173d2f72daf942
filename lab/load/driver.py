"""Runs the generator: starts it, follows its progress, and ends it whatever happens.

    run ─> generator's process ─> t = 0 known: on_start ─> tick, tick, … ─> exit 0 ─> LoadResult

The generator is a process of its own (Locust patches its process) and a process group of its
own (Ctrl-C reaches the lab, which then ends it). It is forked by a process that has imported
Locust and done nothing else (`lab.warm`), and that ends with the lab. Its progress is read from
its status file and from the growing samples file.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Protocol

from lab.errors import PartFailed
from lab.files import cell_folder, logs_folder
from lab.load.plan import PLAN_VARIABLE, EndOrder, GeneratorStatus, LoadPlan, check
from lab.model.clock import BEAT_S, STILL_S, format_still
from lab.model.environment import child_environment, python_variables
from lab.model.evidence import Sample
from lab.model.experiment import Cell
from lab.model.journeys import Journey
from lab.model.load import AnyLoad, Window, end_of, shortened, users_at
from lab.model.run import LoadSoFar, LoadTick
from lab.warm import ForkedProcess, NotForked, Request, WarmProgram

PROGRAM = (
    *("locust.main", "lab.load.page", "lab.load.uplink", "lab.load.session", "numpy.random"),
    *("gevent:reinit", "locust.main:main"),
)
"""What the generator is forked from: Locust, which has to patch first, and what the locustfile
imports. gevent's loop, of which there is one from its import on, is made anew in each process."""

TICK = 0.25
"""Wall seconds between two ticks."""
START_LIMIT = 60.0
"""Wall seconds that the generator may take to be ready."""
GRACE = 30.0
"""Wall seconds after its last timeout at which the generator counts as hung."""
TERM_LIMIT = 2.0
"""Wall seconds between SIGTERM and SIGKILL."""
RECENT = 5.0
"""Real-world seconds over which the rate is averaged."""
LOOK_EVERY = 50
"""So many times what a look took goes by until the next one, which is not to disturb the load."""
BEAT = b'{"beat"'
"""How a sign of life begins, among the samples."""
FOREIGN = (ValueError, TypeError, ArithmeticError, RecursionError)
"""What Python raises of a line that is not the generator's."""


@dataclass(frozen=True)
class LoadStart:
    """The generator is ready.

    Args:
        pid: its process id.
        t0: the coming t = 0 on the monotonic clock.
        beat_s: how often it gives a sign of life, in wall seconds; None where it gives none.
    """

    pid: int
    t0: float
    beat_s: float | None = None


@dataclass(frozen=True)
class LoadResult:
    """How the load went.

    Args:
        t0: t = 0 on the monotonic clock.
        window: start and end of the measured time, in real-world seconds after t = 0.
        exit_code: of the generator; a failed upload is data and leaves it 0.
        pid: its process id, by now gone.
        dropped: arrivals of the window that ``max_in_flight`` kept from being sent.
        beat_s: as of `LoadStart`.
        decided_at: when every criterion was certain, where the window ended early for that.
    """

    t0: float
    window: Window
    exit_code: int
    pid: int
    dropped: int = 0
    beat_s: float | None = None
    decided_at: float | None = None


class StoodStill(PartFailed):
    """The generator gave no sign of life for a while, and was ended for that."""


class LoadGenerator(Protocol):
    """What offers a cell's load, as the runner sees it."""

    def run(
        self,
        cell: Cell,
        url: str,
        samples: Path,
        log: Path,
        tick: Callable[[LoadTick], None],
        on_start: Callable[[LoadStart], None] | None = None,
        is_decided: Callable[[LoadSoFar], bool] | None = None,
    ) -> LoadResult:
        """Offer the cell's load to ``url`` and follow every upload to its end.

        Args:
            cell: whose load, seed and speed.
            url: where users upload, without a path.
            samples: file that is replaced and gets a line for each attempt.
            log: file for the generator's output; its plan and status are written beside it.
            tick: called about four times a second; what it raises ends the load.
            on_start: called once, when t = 0 is known and just before it.
            is_decided: asked now and then while the load goes on; once it says so, the window
                ends. None: it goes on to its end.

        Raises:
            SpecError: a load that cannot be offered.
            PartFailed: the generator did not start, died, hung or stood still.
        """
        ...


class LocustLoad:
    """The load by Locust, in a process of its own; ``pid`` is its id while it runs.

    A context in which the next generator is begun at once; without one it takes its imports.
    """

    def __init__(self) -> None:
        self.pid: int | None = None
        self._warm = WarmProgram(*PROGRAM)

    def __enter__(self) -> LocustLoad:
        """Have the imports begin."""
        self._warm.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        """End what has imported."""
        self._warm.close()

    def run(
        self,
        cell: Cell,
        url: str,
        samples: Path,
        log: Path,
        tick: Callable[[LoadTick], None],
        on_start: Callable[[LoadStart], None] | None = None,
        is_decided: Callable[[LoadSoFar], bool] | None = None,
    ) -> LoadResult:
        check(cell.load)
        may_end = is_decided is not None
        plan = _prepare(cell, url, samples, log, self._warm.start(), may_end)
        looks = Looks(plan, is_decided)
        process = _spawn(self._warm, plan, log)
        self.pid = process.pid
        try:
            start = _wait_for_start(process, plan, log)
            if on_start:
                on_start(LoadStart(process.pid, start.t0, BEAT_S))
            last = _follow(process, plan, log, tick, start, looks)
        finally:
            _end(process)
            self.pid = None
        load, exit_code = _as_offered(plan, last), process.wait()
        decided_at = None if last.ended_at is None else looks.decided_at
        return LoadResult(
            start.t0, load.measured, exit_code, process.pid, last.dropped, BEAT_S, decided_at
        )


def _prepare(
    cell: Cell, url: str, samples: Path, log: Path, parent: int, may_end: bool
) -> LoadPlan:
    cell_folder(samples.parent).make()
    logs_folder(log.parent).make()
    cell_folder(samples.parent).keep(samples.name, BytesIO())
    status = log.with_suffix(".status.json").absolute()
    end = log.with_suffix(".end.json").absolute()
    for earlier in (status, end):
        logs_folder(log.parent).remove(earlier.name)
    return LoadPlan(
        load=cell.load,
        speed=cell.knobs.speed,
        seed=cell.seed,
        url=url.rstrip("/"),
        samples=samples.absolute(),
        status=status,
        parent=parent,
        end=end if may_end else None,
    )


def generator_environment() -> dict[str, str]:
    """What any program needs, with the lab importable; no setting of the user's for Locust."""
    return child_environment(python_variables())


def locust_arguments(*arguments: str) -> list[str]:
    """Locust's arguments, with our locustfile before the others."""
    return ["-f", str(Path(__file__).with_name("locustfile.py")), *arguments]


def locust_command(*arguments: str) -> list[str]:
    """Locust on our locustfile; ``-P`` keeps the working directory out of the import path."""
    return [sys.executable, "-P", "-m", "locust", *locust_arguments(*arguments)]


def _spawn(warm: WarmProgram, plan: LoadPlan, log: Path) -> ForkedProcess:
    path, logs = log.with_suffix(".plan.json").absolute(), logs_folder(log.parent)
    logs.keep(path.name, BytesIO(plan.model_dump_json().encode()))
    logs.keep(log.name, BytesIO())
    users = str(plan.load.peak_users)
    request = Request(
        title="locust -f locustfile.py",
        arguments=locust_arguments(
            *("--headless", "--only-summary", "--host", plan.url), *("-u", users, "-r", users)
        ),
        env={**generator_environment(), PLAN_VARIABLE: str(path)},
        folder=str(path.parent),
    )
    with os.fdopen(logs.appending(log.name), "wb") as out:
        try:
            return warm.fork(request, out.fileno())
        except NotForked as error:
            out.write(f"{error}\n".encode())
            raise PartFailed(f"the load generator did not start {error}", f"see {log}") from error


def _wait_for_start(process: ForkedProcess, plan: LoadPlan, log: Path) -> GeneratorStatus:
    deadline = time.monotonic() + START_LIMIT
    while time.monotonic() < deadline:
        if status := GeneratorStatus.read(plan.status):
            return status
        if process.poll() is not None:
            raise _failed(f"did not start (exit code {process.returncode})", log)
        time.sleep(0.02)
    raise _failed(f"was not ready within {START_LIMIT:g} s", log)


class SampleReader:
    """Running totals of a samples file that still grows; an unfinished line is left for later.

    Attributes:
        answered: attempts of users that have ended.
        failed: of these, those that failed.
        beat: the generator's last sign of life, in real-world seconds after t = 0.
        samples: the attempts themselves, if they are to be kept.
    """

    def __init__(self, path: Path, keep: bool = False) -> None:
        self._folder, self._name = cell_folder(path.parent), path.name
        self._offset = 0
        self._successes: deque[float] = deque()
        self._keep = keep
        self.samples: list[Sample] = []
        self.answered = 0
        self.failed = 0
        self.beat = 0.0

    def read(self) -> None:
        """Read the lines that were added since the last call and are complete by now.

        Raises:
            StoreError: the file is gone, or something else is in its place.
        """
        added = self._folder.added(self._name, self._offset)
        whole = added[: added.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            with suppress(*FOREIGN):
                self._count(json.loads(line))
                if self._keep and not line.startswith(BEAT):
                    self.samples.append(Sample.model_validate_json(line))

    def _count(self, line: object) -> None:
        """Count a line of the generator's; another is told as damage when the cell is judged."""
        match line:
            case {"beat": int() | float() as beat}:
                self.beat = float(beat)
            case {"journey": Journey.HEALTH}:
                pass  # asked for beside the load
            case {"error": None, "sent_at": int() | float() as sent, "latency_s": took}:
                self._successes.append(float(sent + took))
                self.answered += 1
            case {"error": str()}:
                self.failed += 1
                self.answered += 1

    def rate(self, t: float) -> float:
        """Successes a real-world second, over the last seconds before ``t``."""
        while self._successes and self._successes[0] < t - RECENT:
            self._successes.popleft()
        return len(self._successes) / min(RECENT, t) if t > 0 else 0.0


class Looks:
    """Asks, while a load goes on, whether it is decided, and then tells the generator to end it.

    A look goes through all uploads, so it takes the longer the more there were.

    Args:
        plan: of the load.
        is_decided: whom to ask; None: nobody.

    Attributes:
        decided_at: as of when it was decided; None while it is not.
    """

    def __init__(self, plan: LoadPlan, is_decided: Callable[[LoadSoFar], bool] | None) -> None:
        self._order, self._is_decided = plan.end, is_decided
        self._next = 0.0
        self.decided_at: float | None = None

    @property
    def wanted(self) -> bool:
        """Whether anybody is to be asked."""
        return self._is_decided is not None

    def look(self, status: GeneratorStatus, samples: Sequence[Sample]) -> None:
        """Ask, if it is time, of the load as the generator's status and the samples show it."""
        if not (self._is_decided and self._order) or self.decided_at is not None:
            return
        if (began := time.monotonic()) < self._next:
            return
        others = {Journey(name): sent for name, sent in status.others_under_way.items()}
        if self._is_decided(LoadSoFar(status.at, samples, status.under_way, others)):
            self.decided_at = status.at
            EndOrder(status.at).write(self._order)
        ended = time.monotonic()
        self._next = ended + LOOK_EVERY * (ended - began)


def _follow(
    process: ForkedProcess,
    plan: LoadPlan,
    log: Path,
    tick: Callable[[LoadTick], None],
    start: GeneratorStatus,
    looks: Looks,
) -> GeneratorStatus:
    """Tick until the generator has ended; returns its last status.

    Raises:
        PartFailed: it died, did not end by its deadline, or stood still.
    """
    end = (end_of(plan.load) + plan.load.followed_s) / plan.speed
    deadline = start.t0 + end + GRACE
    reader, running = SampleReader(plan.samples, keep=looks.wanted), True
    while running:
        try:
            process.wait(TICK)
            running = False
        except subprocess.TimeoutExpired:
            if time.monotonic() > deadline:
                raise _failed("did not end", log) from None
        status = GeneratorStatus.read(plan.status) or start
        progress = _progress(plan, status, reader)
        if running and not status.done:
            _check_alive(plan, progress.t, reader.beat)
            looks.look(status, reader.samples)
        tick(progress)
    if process.returncode != 0 or not status.done:
        raise _failed(f"died (exit code {process.returncode})", log)
    return status


def _check_alive(plan: LoadPlan, t: float, beat: float) -> None:
    """Raise `StoodStill` if at ``t`` the last sign of life is too long ago."""
    still = t - beat
    if still > STILL_S * plan.speed:
        raise StoodStill(f"it stood still for {format_still(still, plan.speed)}, from {beat:.1f} s")


def _progress(plan: LoadPlan, status: GeneratorStatus, reader: SampleReader) -> LoadTick:
    t = max(0.0, (time.monotonic() - status.t0) * plan.speed)
    reader.read()
    sent = max(status.sent, reader.answered)
    users = users_at(_as_offered(plan, status), t, inflight=sent - reader.answered)
    rate = reader.rate(t)
    return LoadTick(t, users, sent, reader.answered, reader.failed, rate, status.ended_at)


def _as_offered(plan: LoadPlan, status: GeneratorStatus) -> AnyLoad:
    """The load, with the window that it has by this status."""
    return plan.load if status.ended_at is None else shortened(plan.load, status.ended_at)


def _failed(what: str, log: Path) -> PartFailed:
    lines = logs_folder(log.parent).added(log.name, 0).decode(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")
    return PartFailed(f"the load generator {what}: {last}", f"see {log}")


def _end(process: ForkedProcess) -> None:
    """End the generator's process group, if it has not ended: SIGTERM, then SIGKILL.

    One that was stopped (SIGSTOP) acts on a SIGTERM only when it goes on.
    """
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        os.killpg(process.pid, number)
        os.killpg(process.pid, signal.SIGCONT)
        try:
            process.wait(TERM_LIMIT)
        except subprocess.TimeoutExpired:
            continue
