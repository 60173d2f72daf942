"""Injected against measured: is what a fault should do what the replica met?

Each check applies only where nothing else could move its figure, and says nothing (``ok``
is None) of fewer than 20 samples. On Cloud Run an instance that waits for CPU lengthens
every stage, and that is a result: there a delay is held to its lower bound alone.

Cloud Run's limits: were they kept by the instances and by the front that stands for it?

Planned strikes against those that happened: without its strike a cell shows nothing.

A part that was struck has to start before it serves again. That is work, which no speed
divides: at speed s what takes e seconds looks like s e seconds, s e - e of which are not
real (`lab.judge.validity` says the same of uploads).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import fsum, inf, sqrt

from lab.judge.distance import db_trips, only_delay
from lab.judge.metrics import successes, usage_by_instance
from lab.judge.trial import readings, sent_in_window, struck
from lab.judge.validity import true_speed
from lab.model.evidence import (
    Cause,
    DatabaseReading,
    GatewayReading,
    GatewayRequest,
    GatewayServing,
    Injected,
    InstanceEvent,
    Observation,
    ProcessFaultRecord,
)
from lab.model.experiment import Cell
from lab.model.fault import PAST_TENSE, ProcessFault, WireToxic, without_base
from lab.model.units import Span, format_duration, format_size
from lab.model.verdict import Check

FEWEST = 20
"""Samples below which a check says nothing."""

ONE_REQUEST = 8 * 1024**2
"""google-cloud-storage sends an object up to 8 MiB in one request, a larger one in several."""

GCS_SHARE = 0.04
"""What storage, proxy and client may add to a mean of 3.5 s, at any speed that is allowed."""

DB_SHARE = 0.30
DB_TRIP_WALL_S = {"auth": 0.003, "release": 0.002, "write": 0.003}
"""What may be added to a stage: 30 %, or so much wall time a round trip where that is more.

A release is a round trip and nothing else; in the others ORM and driver work, and Postgres
writes. It is enough to tell that the right delay is armed; what the addition does to a result
at a high speed is weighed by `lab.judge.validity`."""

TICK_WALL_S = 0.001
"""Toxiproxy holds whole milliseconds of wall time."""


def checks(cell: Cell, observation: Observation, metrics: Mapping[str, float]) -> tuple[Check, ...]:
    """Every check that applies to this cell, in the order a reader wants them.

    The metrics are the cell's, as `lab.judge.metrics` gives them; a check of a mean
    reports the same figure where both are of the same samples.
    """
    found = [*_readbacks(cell, observation), *strike_checks(cell, observation)]
    if span := only_delay(cell, "gcs"):
        found.append(_gcs_latency(cell, observation, span))
    if span := only_delay(cell, "db"):
        found += _database(cell, observation, metrics, span)
    if connections := readings(DatabaseReading, observation.evidence):
        found.append(_cap(cell, max(reading.connections for reading in connections)))
    found += quota_checks(cell, observation)
    return tuple(found)


def _gcs_latency(cell: Cell, observation: Observation, span: Span) -> Check:
    """The mean within 4 standard errors and 4 %, and nothing faster than the fastest."""
    values = [
        sample.stages["gcs"]
        for sample in successes(sent_in_window(cell, observation))
        if "gcs" in sample.stages and sample.bytes <= ONE_REQUEST
    ]
    expected = f"mean {format_duration(span.mean)}, none under {format_duration(span.low)}"
    if len(values) < FEWEST:
        return _too_few("gcs latency", expected, len(values))
    mean = fsum(values) / len(values)
    # The standard deviation of a uniform distribution is its width / sqrt(12).
    error = (span.high - span.low) / sqrt(12 * len(values))
    tick = TICK_WALL_S * cell.knobs.speed
    allowed = 4 * error + GCS_SHARE * span.mean + tick
    near = -allowed <= mean - span.mean <= _more(cell, allowed)
    slow = min(values) >= span.low - tick
    reason = f"storage took {mean:.3f} s in the mean of {len(values)}"
    if not near:
        reason += f", {span.mean:.3f} s ± {allowed:.3f} s was injected"
    if not slow:
        reason += f"; the fastest took {min(values):.3f} s"
    return _check("gcs latency", expected, mean, near and slow, reason)


def _database(
    cell: Cell, observation: Observation, metrics: Mapping[str, float], span: Span
) -> list[Check]:
    """Stages that are so many round trips: auth 2, release 1, write 4 (3 in an open session)."""
    good = successes(sent_in_window(cell, observation))
    return [
        _stage(cell, stage, count, span, measured, sum(stage in s.stages for s in good))
        for stage, count in db_trips(cell).items()
        if (measured := metrics.get(stage)) is not None
    ]


def _stage(cell: Cell, stage: str, trips: int, span: Span, measured: float, count: int) -> Check:
    """The mean at least what the round trips take, less a tick each, and not much more."""
    expected, speed = trips * span.mean, cell.knobs.speed
    share, trip = DB_SHARE * expected, DB_TRIP_WALL_S[stage] * trips
    more = max(share, trip * speed)
    less = TICK_WALL_S * trips * speed
    text = f"{expected * 1000:.0f} ms, up to {more * 1000:.0f} ms more"
    if count < FEWEST:
        return _too_few(stage, text, count)
    reason = f"{stage} took {measured * 1000:.1f} ms in the mean of {count}, expected {text}"
    near = -less <= measured - expected <= _more(cell, more)
    if not near and measured > expected and speed > 1:
        added = (measured - expected) / speed  # by each upload, in wall-clock seconds
        fitting = true_speed(speed, lambda s: added * s <= max(share, trip * s))
        reason += f" - lower --speed, to about {fitting:g}"
    return _check(stage, text, measured, near, reason)


def _more(cell: Cell, seconds: float) -> float:
    """How much longer than it should a stage may take."""
    return seconds if cell.target == "vm" else inf


def _cap(cell: Cell, peak: int) -> Check:
    cap = cell.knobs.db_cap
    reason = f"Postgres granted {peak} connections of {cap}"
    return _check("connections", f"<= {cap}", peak, peak <= cap, reason)


def _readbacks(cell: Cell, observation: Observation) -> Iterable[Check]:
    """What Toxiproxy read back, against what these faults and knobs arm."""
    for line in observation.evidence:
        if not isinstance(line, Injected):
            continue
        faults = [fault for fault in cell.faults if fault.proxy == line.proxy]
        down = any(fault.down for fault in faults)
        knobs = without_base(cell.knobs, line.base_s)
        expected = [toxic for fault in faults for toxic in fault.to_toxics(knobs)]
        same = line.enabled != down and _same(expected, line.toxics)
        wanted = "; ".join(_form(toxic) for toxic in expected) or ("down" if down else "nothing")
        reason = f"proxy {line.proxy} is armed with {wanted}"
        if line.base_s:
            reason += f", {line.base_s * 1000:.1f} ms less for what a round trip takes by itself"
        if not same:
            reason = f"proxy {line.proxy} should be armed with {wanted}, but read back otherwise"
        yield _check(f"armed {line.proxy}", wanted, None, same, reason)


def _same(expected: list[WireToxic], toxics: list[dict[str, object]]) -> bool:
    """Whether each toxic came back as it was set; the server may add attributes of its own."""
    back = {toxic.get("name"): toxic for toxic in toxics}
    return len(toxics) == len(expected) and all(
        armed.name in back and _as_set(armed, back[armed.name]) for armed in expected
    )


def _as_set(armed: WireToxic, toxic: Mapping[str, object]) -> bool:
    attributes = toxic.get("attributes")
    return (
        (toxic.get("type"), toxic.get("stream")) == (armed.type, armed.stream)
        and toxic.get("toxicity") == armed.toxicity
        and isinstance(attributes, dict)
        and all(attributes.get(key) == value for key, value in armed.attributes.items())
    )


def _form(armed: WireToxic) -> str:
    attributes = ", ".join(f"{key} {value}" for key, value in sorted(armed.attributes.items()))
    return f"{armed.type} ({attributes})"


def _too_few(name: str, expected: str, count: int) -> Check:
    reason = f"{name}: {count} samples say too little, {FEWEST} are needed"
    return _check(name, expected, None, None, reason)


def _check(name: str, expected: str, measured: float | None, ok: bool | None, reason: str) -> Check:
    rounded = None if measured is None else round(float(measured), 6)
    return Check(name=name, expected=expected, measured=rounded, ok=ok, reason=reason)


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
    requests = readings(GatewayRequest, observation.evidence)
    standing = readings(GatewayReading, observation.evidence)
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
        yield _limit_check(
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
        yield _limit_check(
            "instance memory", f"<= {format_size(limit)}", most, most <= limit, reason
        )


def _files(observation: Observation) -> Iterable[Check]:
    for line in observation.evidence:
        if isinstance(line, GatewayServing):
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


def _instances(cell: Cell, standing: Sequence[GatewayReading]) -> Iterable[Check]:
    if standing:
        limit = cell.knobs.cloudrun_max_instances
        most = max(reading.starting + reading.ready for reading in standing)
        reason = f"{most} instances started or served at once, {limit} are allowed"
        yield _limit_check("instances", f"<= {limit}", most, most <= limit, reason)


def _concurrency(cell: Cell, requests: Sequence[GatewayRequest]) -> Iterable[Check]:
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
        yield _limit_check("concurrency", f"<= {limit}", most, most <= limit, reason)


def _pending(cell: Cell, requests: Sequence[GatewayRequest]) -> Iterable[Check]:
    waits = [
        line.took
        for line in requests
        if line.cause == Cause.NO_INSTANCE and line.status == 429 and line.took is not None
    ]
    if waits:
        limit, least = cell.knobs.cloudrun_pending, min(waits)
        reason = f"{len(waits)} requests were refused, none before it had waited {least:.2f} s"
        expected = f">= {format_duration(limit)}"
        yield _limit_check("pending queue", expected, least, least >= limit - WAIT_GIVE_S, reason)


def _limit_check(name: str, expected: str, measured: float, ok: bool, reason: str) -> Check:
    return Check(name=name, expected=expected, measured=round(measured, 6), ok=ok, reason=reason)


def strike_checks(cell: Cell, observation: Observation) -> Iterable[Check]:
    """A check for each planned strike; what it measures is how long it took, in seconds.

    It is ok when the part was struck within the window, whether or not the load ended
    before its time was over, and served again.
    """
    done_to_it = struck(observation)
    start, end = cell.load.measured
    for planned in cell.process_faults:
        done = done_to_it.get(planned.fault)
        took = None if done is None or done.until is None else round(done.until - done.t, 6)
        yield Check(
            name=planned.fault,
            expected=_expected(planned, start + planned.at),
            measured=took,
            ok=took is not None and done is not None and start <= done.t < end,
            reason=_reason(planned, done, end),
        )


def _expected(planned: ProcessFault, at: float) -> str:
    lasts = f", for {format_duration(planned.lasts)}" if planned.lasts else ""
    return f"{planned.part} {PAST_TENSE[planned.action]} at {format_duration(at)}{lasts}"


def _reason(planned: ProcessFault, done: ProcessFaultRecord | None, end: float) -> str:
    if done is None:
        return f"the strike {planned.fault} did not happen"
    what = f"{done.part} was {PAST_TENSE[done.action]} at {done.t:.1f} s"
    if done.t >= end:
        return f"{what}, after the window's end ({end:.0f} s)"
    if done.until is None:
        return f"{what} and did not come back"
    return f"{what} and served again at {done.until:.1f} s"
