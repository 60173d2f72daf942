"""Cloud Run's limits: were they kept by the instances and by the front that stands for it?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from lab.judge.instances import usage_by_instance
from lab.judge.window import readings
from lab.model.causes import Cause
from lab.model.cell import Cell
from lab.model.observation import (
    FrontReading,
    FrontRequest,
    FrontServing,
    InstanceEvent,
    Observation,
)
from lab.model.units import format_duration, format_size
from lab.model.verdict import Check

CPU_OVER_S = 5.0
CPU_GIVE = 0.15
"""CPU is taken over at least 5 s, in which a quota of 100 ms periods and a reading that comes
up to half a second late are worth 12 %; `lab calibrate` measures it to 0.03 cores."""

WAIT_GIVE_S = 0.1
"""How much shorter a wait may read that timers end."""


def quota_checks(cell: Cell, observation: Observation) -> list[Check]:
    """A check for each limit that this cell's evidence can tell of; none on a VM."""
    if cell.target == "vm":
        return []
    events = readings(InstanceEvent, observation.evidence)
    requests = readings(FrontRequest, observation.evidence)
    standing = readings(FrontReading, observation.evidence)
    return [
        *_cpus(cell, events),
        *_memory(cell, events),
        *_files(observation),
        *_instances(cell, standing),
        *_concurrency(cell, requests),
        *_pending(cell, requests),
    ]


def most_cpus(life: Sequence[InstanceEvent]) -> float | None:
    """The most cores that a life got over any stretch of `CPU_OVER_S`, or a little more."""
    totals = [(line.t, line.cpu_s) for line in life if line.cpu_s is not None]
    found: list[float] = []
    behind = 0
    for t, total in totals:
        while behind + 1 < len(totals) and totals[behind + 1][0] <= t - CPU_OVER_S:
            behind += 1
        began, before = totals[behind]
        if t - began >= CPU_OVER_S:
            found.append((total - before) / (t - began))
    return max(found, default=None)


def _cpus(cell: Cell, events: Sequence[InstanceEvent]) -> Iterable[Check]:
    if cell.knobs.cloudrun_boost == "on":
        return  # twice the quota, and more, until 10 s after each start
    rates = [
        rate for life in usage_by_instance(events).values() if (rate := most_cpus(life)) is not None
    ]
    if rates:
        quota, most = cell.knobs.cloudrun_cpus, max(rates)
        yield _check(
            "instance CPU",
            f"<= {quota:g} cores",
            most,
            most <= quota * (1 + CPU_GIVE),
            f"an instance used {most:.3f} cores at most, over {CPU_OVER_S:g} s; {quota:g} are its"
            " quota",
        )


def _memory(cell: Cell, events: Sequence[InstanceEvent]) -> Iterable[Check]:
    peaks = [line.peak_bytes for line in events if line.peak_bytes is not None]
    if peaks:
        limit, most = cell.knobs.cloudrun_memory, max(peaks)
        reason = f"an instance held {most / 1024**2:.1f} MiB at most, of {format_size(limit)}"
        yield _check("instance memory", f"<= {format_size(limit)}", most, most <= limit, reason)


def _files(observation: Observation) -> Iterable[Check]:
    for line in observation.evidence:
        if isinstance(line, FrontServing):
            kept = line.files_are_memory
            yield Check(
                name="temporary files",
                expected="count as memory",
                measured=None,
                ok=True if kept else None,
                reason="temporary files lie on a tmpfs, in the instance's memory"
                if kept
                else "there is no tmpfs here: files that an instance writes are no memory of its",
            )


def _instances(cell: Cell, standing: Sequence[FrontReading]) -> Iterable[Check]:
    if standing:
        limit = cell.knobs.cloudrun_max_instances
        most = max(reading.starting + reading.ready for reading in standing)
        reason = f"{most} instances started or served at once, {limit} are allowed"
        yield _check("instances", f"<= {limit}", most, most <= limit, reason)


def _concurrency(cell: Cell, requests: Sequence[FrontRequest]) -> Iterable[Check]:
    inside: Counter[str] = Counter()
    most = 0
    for line in requests:
        if line.event == "request_start":
            inside[line.instance] += 1
            most = max(most, inside[line.instance])
        elif line.event == "request_end":
            inside[line.instance] -= 1
    if most:
        limit = cell.knobs.cloudrun_concurrency
        reason = f"an instance had {most} requests at once, {limit} are its places"
        yield _check("concurrency", f"<= {limit}", most, most <= limit, reason)


def _pending(cell: Cell, requests: Sequence[FrontRequest]) -> Iterable[Check]:
    waits = [
        line.took
        for line in requests
        if line.cause == Cause.NO_INSTANCE and line.status == 429 and line.took is not None
    ]
    if waits:
        limit, least = cell.knobs.cloudrun_pending, min(waits)
        reason = f"{len(waits)} requests were refused, none before it had waited {least:.2f} s"
        expected = f">= {format_duration(limit)}"
        yield _check("pending queue", expected, least, least >= limit - WAIT_GIVE_S, reason)


def _check(name: str, expected: str, measured: float, ok: bool, reason: str) -> Check:
    return Check(name=name, expected=expected, measured=round(measured, 6), ok=ok, reason=reason)
