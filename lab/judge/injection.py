"""Injected against measured: is what was injected what the replica met?

    proxies          what Toxiproxy read back, against what the faults and knobs set
    process faults   planned, against those that happened: without its own a cell shows nothing
    delays           what storage, speech service and database take: `lab.judge.delays`
    quotas           connections of Postgres, or PgBouncer's; Cloud Run's limits of its instances

Each check applies only where nothing else could move its figure, and says nothing (``ok``
is None) of fewer than 20 samples. On Cloud Run an instance that waits for CPU lengthens
every stage, and that is a result: there a delay is held to its lower bound alone. A check that
is not ok says what to do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from lab.judge.delays import database_checks, make_check, speech_check, storage_check
from lab.judge.gateway import usage_by_instance
from lab.judge.remedies import CheckRemedy
from lab.judge.trial import Trial
from lab.model.evidence import (
    Cause,
    GatewayServing,
    Injected,
    InstanceEvent,
    ProcessFaultRecord,
)
from lab.model.fault import PAST_TENSE, ProcessFault, WireToxic, without_base
from lab.model.readings import DatabaseReading
from lab.model.replica import pooled
from lab.model.units import format_duration, format_size
from lab.model.verdict import Check

CPU_OVER_S = 5.0
CPU_GIVE = 0.15
"""CPU is taken over at least 5 s, in which a quota of 100 ms periods and a reading that comes
up to half a second late are worth 12 %; `lab calibrate` measures it to 0.03 cores."""

WAIT_GIVE_S = 0.1
"""How much shorter a wait may read that timers end."""

ALONE = CheckRemedy("let nothing else change the proxies while a cell runs, and run it again")
RECREATE = CheckRemedy(
    "end this replica with `lab down` and run the cell again; if it stays, see `lab doctor`"
)


def checks(trial: Trial) -> tuple[Check, ...]:
    """Every check that applies to this cell, in the order a reader wants them."""
    return (
        *_read_back(trial),
        *process_fault_checks(trial),
        *storage_check(trial),
        *speech_check(trial),
        *database_checks(trial),
        *_connections(trial),
        *quota_checks(trial),
    )


# Proxies: what was set is what is in force.


def _read_back(trial: Trial) -> Iterable[Check]:
    for line in trial.evidence(Injected):
        faults = [fault for fault in trial.cell.faults if fault.proxy == line.proxy]
        down = any(fault.down for fault in faults)
        knobs = without_base(trial.knobs, line.base_s)
        expected = [toxic for fault in faults for toxic in fault.to_toxics(knobs)]
        same = line.enabled != down and _same(expected, line.toxics)
        labels = [
            f"{toxic.type} ({', '.join(f'{k} {v}' for k, v in sorted(toxic.attributes.items()))})"
            for toxic in expected
        ]
        wanted = "; ".join(labels) or ("down" if down else "nothing")
        reason = f"proxy {line.proxy} is armed with {wanted}"
        if line.base_s:
            reason += f", {line.base_s * 1000:.1f} ms less for what a round trip takes by itself"
        if not same:
            reason = f"proxy {line.proxy} should be armed with {wanted}, but read back otherwise"
        yield make_check(f"armed {line.proxy}", wanted, None, same, reason, ALONE)


def _same(expected: Sequence[WireToxic], toxics: Sequence[Mapping[str, object]]) -> bool:
    """Whether each toxic came back as it was set; the server may add attributes of its own."""
    back = {toxic.get("name"): toxic for toxic in toxics}
    return len(toxics) == len(expected) and all(
        toxic.name in back and _as_set(toxic, back[toxic.name]) for toxic in expected
    )


def _as_set(toxic: WireToxic, back: Mapping[str, object]) -> bool:
    attributes = back.get("attributes")
    return (
        (back.get("type"), back.get("stream")) == (toxic.type, toxic.stream)
        and back.get("toxicity") == toxic.toxicity
        and isinstance(attributes, dict)
        and all(attributes.get(key) == value for key, value in toxic.attributes.items())
    )


# Process faults: what was planned happened.


def process_fault_checks(trial: Trial) -> Iterable[Check]:
    """A check for each planned process fault; it measures how long the fault took, in seconds.

    It is ok when the part was hit within the window, whether or not the load ended before its
    time was over, and served again.
    """
    start, end = trial.load.measured
    for planned in trial.cell.process_faults:
        happened = trial.process_faults.get(planned.fault)
        lasts = f", for {format_duration(planned.lasts)}" if planned.lasts else ""
        at = format_duration(start + planned.at)
        yield make_check(
            planned.fault,
            f"{planned.part} {PAST_TENSE[planned.action]} at {at}{lasts}",
            None if happened is None or happened.until is None else happened.until - happened.t,
            happened is not None and happened.until is not None and start <= happened.t < end,
            _what_happened(planned, happened, end),
            _remedy(planned, happened, end),
        )


def _what_happened(planned: ProcessFault, happened: ProcessFaultRecord | None, end: float) -> str:
    if happened is None:
        return f"the process fault {planned.fault} did not happen"
    event = f"{happened.part} was {PAST_TENSE[happened.action]} at {happened.t:.1f} s"
    if happened.t >= end:
        return f"{event}, after the window's end ({end:.0f} s)"
    if happened.until is None:
        return f"{event} and did not come back"
    return f"{event} and served again at {happened.until:.1f} s"


def _remedy(planned: ProcessFault, happened: ProcessFaultRecord | None, end: float) -> CheckRemedy:
    if happened is not None and happened.t >= end:
        return CheckRemedy("let the window end later, or strike earlier")
    return CheckRemedy(
        f"see the log of {planned.part} in the cell's folder, and run the cell again"
    )


# Quotas: no limit was passed.


def _connections(trial: Trial) -> Iterable[Check]:
    cap, of = trial.knobs.db_cap, "Postgres granted"
    if pooled(trial.knobs):
        cap, of = trial.knobs.pooler_size, "PgBouncer opened"
    if readings := trial.evidence(DatabaseReading):
        peak = max(reading.connections for reading in readings)
        reason = f"{of} {peak} of {cap} connections"
        yield make_check("connections", f"<= {cap}", peak, peak <= cap, reason, RECREATE)


def quota_checks(trial: Trial) -> list[Check]:
    """A check for each of Cloud Run's limits that the evidence shows; none on a VM."""
    if trial.cell.target == "vm":
        return []
    return [
        *_cpus(trial),
        *_memory(trial),
        *_files(trial),
        *_instances(trial),
        *_concurrency(trial),
        *_pending(trial),
    ]


def max_cpus(life: Sequence[InstanceEvent]) -> float | None:
    """The most cores that a life got over any stretch of `CPU_OVER_S`, or a little more."""
    totals = [(line.t, line.cpu_s) for line in life if line.cpu_s is not None]
    rates: list[float] = []
    behind = 0
    for t, total in totals:
        while behind + 1 < len(totals) and totals[behind + 1][0] <= t - CPU_OVER_S:
            behind += 1
        began, before = totals[behind]
        if t - began >= CPU_OVER_S:
            rates.append((total - before) / (t - began))
    return max(rates, default=None)


def _cpus(trial: Trial) -> Iterable[Check]:
    if trial.knobs.cloudrun_boost == "on":
        return  # twice the quota, and more, until 10 s after each start
    lives = usage_by_instance(trial.instance_events).values()
    if rates := [rate for life in lives if (rate := max_cpus(life)) is not None]:
        quota, rate = trial.knobs.cloudrun_cpus, max(rates)
        reason = (
            f"an instance used {rate:.3f} cores at most, over {CPU_OVER_S:g} s; {quota:g} are its"
            " quota"
        )
        ok = rate <= quota * (1 + CPU_GIVE)
        yield make_check("instance CPU", f"<= {quota:g} cores", rate, ok, reason, RECREATE)


def _memory(trial: Trial) -> Iterable[Check]:
    peaks = [line.peak_bytes for line in trial.instance_events if line.peak_bytes is not None]
    if peaks:
        limit, peak = trial.knobs.cloudrun_memory, max(peaks)
        reason = f"an instance held {peak / 1024**2:.1f} MiB at most, of {format_size(limit)}"
        yield make_check(
            "instance memory", f"<= {format_size(limit)}", peak, peak <= limit, reason, RECREATE
        )


def _files(trial: Trial) -> Iterable[Check]:
    for line in trial.evidence(GatewayServing):
        reason = "there is no tmpfs here: files that an instance writes do not count as its memory"
        if line.files_are_memory:
            reason = "temporary files lie on a tmpfs, in the instance's memory"
        ok = line.files_are_memory or None
        yield make_check("temporary files", "count as memory", None, ok, reason, RECREATE)


def _instances(trial: Trial) -> Iterable[Check]:
    if readings := trial.gateway_readings:
        limit = trial.knobs.cloudrun_max_instances
        peak = max(reading.starting + reading.ready for reading in readings)
        reason = f"{peak} instances started or served at once, {limit} are allowed"
        yield make_check("instances", f"<= {limit}", peak, peak <= limit, reason, RECREATE)


def _concurrency(trial: Trial) -> Iterable[Check]:
    inside: Counter[str] = Counter()
    peak = 0
    for line in trial.gateway_requests:
        if line.event == "request_start":
            inside[line.instance] += 1
            peak = max(peak, inside[line.instance])
        elif line.event == "request_end":
            inside[line.instance] -= 1
    if peak:
        limit = trial.knobs.cloudrun_concurrency
        reason = f"an instance had {peak} requests at once, {limit} are its places"
        yield make_check("concurrency", f"<= {limit}", peak, peak <= limit, reason, RECREATE)


def _pending(trial: Trial) -> Iterable[Check]:
    waits = [
        line.took
        for line in trial.gateway_requests
        if line.cause == Cause.NO_INSTANCE and line.status == 429 and line.took is not None
    ]
    if waits:
        limit, shortest = trial.knobs.cloudrun_pending, min(waits)
        reason = f"{len(waits)} requests were refused, none before it had waited {shortest:.2f} s"
        ok = shortest >= limit - WAIT_GIVE_S
        yield make_check(
            "pending queue", f">= {format_duration(limit)}", shortest, ok, reason, RECREATE
        )
