"""Injected against measured: is what was injected what the replica met?

    proxies          what Toxiproxy read back, against what the faults and knobs set
    process faults   planned, against those that happened: without its own a cell shows nothing
    delays           the stages that storage and the database take
    quotas           connections of Postgres; Cloud Run's limits of its instances and its queue

Each check applies only where nothing else could move its figure, and says nothing (``ok``
is None) of fewer than 20 samples. On Cloud Run an instance that waits for CPU lengthens
every stage, and that is a result: there a delay is held to its lower bound alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import ceil, inf, sqrt
from statistics import fmean

from lab.judge.gateway import usage_by_instance
from lab.judge.trial import Trial
from lab.model.evidence import (
    Cause,
    DatabaseReading,
    GatewayServing,
    Injected,
    InstanceEvent,
    ProcessFaultRecord,
)
from lab.model.experiment import Cell
from lab.model.fault import PAST_TENSE, Latency, ProcessFault, ProxyName, WireToxic, without_base
from lab.model.physics import db_trips
from lab.model.units import Span, format_duration, format_size
from lab.model.verdict import Check

MIN_SAMPLES = 20
"""Samples below which a check says nothing."""

ONE_REQUEST = 8 * 1024**2
"""google-cloud-storage sends an object up to 8 MiB in one request, a larger one in several."""

GCS_SHARE = 0.04
"""What storage, proxy and client may add to a mean of 3.5 s, at any speed that is allowed."""

DB_SHARE = 0.30
DB_TRIP_WALL_S = {"auth": 0.003, "release": 0.002, "write": 0.003}
"""What may be added to a stage: 30 %, or so much wall time a round trip where that is more.

A release is a round trip and nothing else; in the others ORM and driver work, and Postgres
writes. It is enough to show that the right delay is injected; what the addition does to a result
at a high speed is weighed by `lab.judge.validity`."""

TICK_WALL_S = 0.001
"""Toxiproxy holds whole milliseconds of wall time."""

CPU_OVER_S = 5.0
CPU_GIVE = 0.15
"""CPU is taken over at least 5 s, in which a quota of 100 ms periods and a reading that comes
up to half a second late are worth 12 %; `lab calibrate` measures it to 0.03 cores."""

WAIT_GIVE_S = 0.1
"""How much shorter a wait may read that timers end."""


def checks(trial: Trial) -> tuple[Check, ...]:
    """Every check that applies to this cell, in the order a reader wants them."""
    return (
        *_read_back(trial),
        *process_fault_checks(trial),
        *_storage(trial),
        *_database(trial),
        *_connections(trial),
        *quota_checks(trial),
    )


def only_delay(cell: Cell, proxy: ProxyName) -> Span | None:
    """The delay of a proxy's answers; None where the cell's faults do anything else to them.

    A process fault is more: a pause lengthens every stage that it falls into, and after a
    restart connections are made anew.
    """
    if cell.process_faults:
        return None
    faults = [fault for fault in cell.faults if fault.proxy == proxy]
    if len(faults) != 1 or faults[0].down or len(faults[0].toxics) != 1:
        return None
    toxic = faults[0].toxics[0]
    if not isinstance(toxic, Latency) or toxic.stream != "downstream" or toxic.toxicity != 1:
        return None
    return toxic.span(cell.knobs)


def true_speed(speed: float, fits: Callable[[float], bool]) -> float:
    """The highest speed below this one, in halves, at which something fits; 1 where none does."""
    return next((half / 2 for half in range(ceil(2 * speed) - 1, 2, -1) if fits(half / 2)), 1.0)


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
        yield _check(f"armed {line.proxy}", wanted, None, same, reason)


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
    start, end = trial.cell.load.measured
    for planned in trial.cell.process_faults:
        happened = trial.process_faults.get(planned.fault)
        lasts = f", for {format_duration(planned.lasts)}" if planned.lasts else ""
        at = format_duration(start + planned.at)
        yield _check(
            planned.fault,
            f"{planned.part} {PAST_TENSE[planned.action]} at {at}{lasts}",
            None if happened is None or happened.until is None else happened.until - happened.t,
            happened is not None and happened.until is not None and start <= happened.t < end,
            _what_happened(planned, happened, end),
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


# Delays: the stages of an upload take what their round trips take.


def _storage(trial: Trial) -> Iterable[Check]:
    """The mean within 4 standard errors and 4 %, and nothing faster than the fastest."""
    span = only_delay(trial.cell, "gcs")
    if span is None:
        return
    values = [
        sample.stages["gcs"]
        for sample in trial.succeeded
        if "gcs" in sample.stages and sample.bytes <= ONE_REQUEST
    ]
    expected = f"mean {format_duration(span.mean)}, none under {format_duration(span.low)}"
    if len(values) < MIN_SAMPLES:
        yield _too_few("gcs latency", expected, len(values))
        return
    mean = fmean(values)
    # The standard deviation of a uniform distribution is its width / sqrt(12).
    error = (span.high - span.low) / sqrt(12 * len(values))
    tick = TICK_WALL_S * trial.knobs.speed
    allowed = 4 * error + GCS_SHARE * span.mean + tick
    near = -allowed <= mean - span.mean <= _slack(trial, allowed)
    slow = min(values) >= span.low - tick
    reason = f"storage took {mean:.3f} s in the mean of {len(values)}"
    if not near:
        reason += f", {span.mean:.3f} s ± {allowed:.3f} s was injected"
    if not slow:
        reason += f"; the fastest took {min(values):.3f} s"
    yield _check("gcs latency", expected, mean, near and slow, reason)


def _database(trial: Trial) -> Iterable[Check]:
    """Stages that are so many round trips: auth 2, release 1, write 4 (3 in an open session)."""
    span = only_delay(trial.cell, "db")
    for stage, trips in db_trips(trial.knobs).items():
        if span and stage in trial.metrics:
            yield _stage(trial, stage, trips, span)


def _stage(trial: Trial, stage: str, trips: int, span: Span) -> Check:
    """The mean at least what the round trips take, less a tick each, and not much more.

    It is the metric of the same samples.
    """
    measured, speed = trial.metrics[stage], trial.knobs.speed
    count = sum(stage in sample.stages for sample in trial.succeeded)
    expected = trips * span.mean
    share, wall_s = DB_SHARE * expected, DB_TRIP_WALL_S[stage] * trips
    more = max(share, wall_s * speed)
    less = TICK_WALL_S * trips * speed
    text = f"{expected * 1000:.0f} ms, up to {more * 1000:.0f} ms more"
    if count < MIN_SAMPLES:
        return _too_few(stage, text, count)
    reason = f"{stage} took {measured * 1000:.1f} ms in the mean of {count}, expected {text}"
    near = -less <= measured - expected <= _slack(trial, more)
    if not near and measured > expected and speed > 1:
        added = (measured - expected) / speed  # by each upload, in wall-clock seconds
        fitting = true_speed(speed, lambda s: added * s <= max(share, wall_s * s))
        reason += f" - lower --speed, to about {fitting:g}"
    return _check(stage, text, measured, near, reason)


def _slack(trial: Trial, seconds: float) -> float:
    """How much longer than it should a stage may take."""
    return seconds if trial.cell.target == "vm" else inf


# Quotas: no limit was passed.


def _connections(trial: Trial) -> Iterable[Check]:
    cap = trial.knobs.db_cap
    if readings := trial.evidence(DatabaseReading):
        peak = max(reading.connections for reading in readings)
        reason = f"Postgres granted {peak} connections of {cap}"
        yield _check("connections", f"<= {cap}", peak, peak <= cap, reason)


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
        yield _check("instance CPU", f"<= {quota:g} cores", rate, ok, reason)


def _memory(trial: Trial) -> Iterable[Check]:
    peaks = [line.peak_bytes for line in trial.instance_events if line.peak_bytes is not None]
    if peaks:
        limit, peak = trial.knobs.cloudrun_memory, max(peaks)
        reason = f"an instance held {peak / 1024**2:.1f} MiB at most, of {format_size(limit)}"
        yield _check("instance memory", f"<= {format_size(limit)}", peak, peak <= limit, reason)


def _files(trial: Trial) -> Iterable[Check]:
    for line in trial.evidence(GatewayServing):
        reason = "there is no tmpfs here: files that an instance writes do not count as its memory"
        if line.files_are_memory:
            reason = "temporary files lie on a tmpfs, in the instance's memory"
        ok = line.files_are_memory or None
        yield _check("temporary files", "count as memory", None, ok, reason)


def _instances(trial: Trial) -> Iterable[Check]:
    if readings := trial.gateway_readings:
        limit = trial.knobs.cloudrun_max_instances
        peak = max(reading.starting + reading.ready for reading in readings)
        reason = f"{peak} instances started or served at once, {limit} are allowed"
        yield _check("instances", f"<= {limit}", peak, peak <= limit, reason)


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
        yield _check("concurrency", f"<= {limit}", peak, peak <= limit, reason)


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
        yield _check("pending queue", f">= {format_duration(limit)}", shortest, ok, reason)


def _too_few(name: str, expected: str, count: int) -> Check:
    reason = f"{name}: {count} samples say too little, {MIN_SAMPLES} are needed"
    return _check(name, expected, None, None, reason)


def _check(name: str, expected: str, measured: float | None, ok: bool | None, reason: str) -> Check:
    rounded = None if measured is None else round(float(measured), 6)
    return Check(name=name, expected=expected, measured=rounded, ok=ok, reason=reason)
