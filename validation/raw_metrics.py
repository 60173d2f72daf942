"""Every metric of the table, worked out from a cell's stored lines with formulas of its own.

Written from what `lab metrics` says of each metric, and from nothing else: a second opinion on
figures that the lab's verdicts stand on. It reads the lines as plain JSON. Of the lab it uses
the cell (its window, speed and slots) and the table's names.

A figure has a tolerance, a share of its value: none where the lines give the figure exactly;
where it is an estimate with some freedom (a mean of readings between two moments, a slope, a
bound on the capacity) as much as two honest ways of working it out may differ.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from pathlib import Path
from statistics import fmean, linear_regression
from typing import Any

from lab.model.evidence import SERVICE_CAUSES, Cause
from lab.model.experiment import Cell
from lab.model.load import BurstLoad
from lab.model.physics import db_trips, max_processes, pool_connections

Line = Mapping[str, Any]

ESTIMATE, SLOPE = 0.1, 0.5
"""Tolerances: of means and levels between two readings, and of slopes."""
CUT_OFF = {
    *("gateway_timeout", "client_timeout", "request_timeout", "bad_gateway", "connection"),
    "instance_died",
}
"""How an upload ends whose user never hears what the service made of it."""


SERVICE = {"auth", "release", "gcs", "write"}
"""Stages of ``Server-Timing`` that are work; the others are waits."""


CHECKOUTS = ("pool_wait", "pool_wait2")
"""Stages that are a wait for a connection, before the query and before the write."""

GONE_WALL_S = 1.0
"""A worker that has not written for so long, in wall-clock seconds, is gone: it writes ten times a
second."""


@dataclass(frozen=True)
class RawCell:
    """A cell's stored lines."""

    cell: Cell
    samples: Sequence[Line]
    evidence: Sequence[Line]

    @classmethod
    def read(cls, folder: Path, cell: Cell) -> RawCell:
        """The lines of a cell's folder; the half line of a killed writer is left out.

        So are the load generator's signs of life among the samples, which no metric is of.
        """
        of_the_load = _lines(folder / "samples.jsonl")
        samples = [line for line in of_the_load if "beat" not in line]
        return cls(cell, samples, _lines(folder / "evidence.jsonl"))

    @property
    def window(self) -> tuple[float, float]:
        """Start and end of what counts, in real-world seconds; it may have ended early."""
        ends = [line["window"] for line in self.of("load") if line.get("decided_at") is not None]
        return (ends[-1][0], ends[-1][1]) if ends else self.cell.load.measured

    @cached_property
    def sent(self) -> list[Line]:
        """The uploads that count: all of a burst, else those sent in the window."""
        if isinstance(self.cell.load, BurstLoad):
            return list(self.samples)
        start, end = self.window
        return [sample for sample in self.samples if start <= sample["sent_at"] < end]

    @cached_property
    def good(self) -> list[Line]:
        """Of these, the successes."""
        return [sample for sample in self.sent if sample["error"] is None]

    @cached_property
    def until(self) -> float:
        """The end of what is looked at: the window's; of a burst, when its last upload ended."""
        if not isinstance(self.cell.load, BurstLoad):
            return self.window[1]
        return max((s["sent_at"] + s["latency_s"] for s in self.sent), default=0.0)

    @cached_property
    def _by_kind(self) -> Mapping[str, list[Line]]:
        kinds: dict[str, list[Line]] = defaultdict(list)
        for line in sorted(self.evidence, key=lambda line: float(line["t"])):
            kinds[line["kind"]].append(line)
        return kinds

    def of(self, kind: str) -> list[Line]:
        """The evidence of a kind, in the order of time; a file has one part after the other."""
        return self._by_kind.get(kind, [])

    def inside(self, kind: str) -> list[Line]:
        """Of a kind, what was read in the window."""
        return [line for line in self.of(kind) if self.window[0] <= line["t"] <= self.until]

    @cached_property
    def workers(self) -> Mapping[int, list[Line]]:
        """Readings in the window by worker."""
        pids: dict[int, list[Line]] = defaultdict(list)
        for line in self.inside("worker"):
            pids[line["pid"]].append(line)
        return pids


def _lines(path: Path) -> list[Line]:
    whole, _, _rest = path.read_text(encoding="utf-8").rpartition("\n")
    return [json.loads(line) for line in whole.split("\n") if line]


@dataclass(frozen=True)
class Formula:
    """How a metric is worked out, None where there is no evidence; and its tolerance, a share."""

    value: Callable[[RawCell], float | None]
    tolerance: float = 0.0


def _mean(values: Iterable[float]) -> float | None:
    listed = list(values)
    return fmean(listed) if listed else None


def _quantile(values: Iterable[float], p: float) -> float | None:
    """The smallest value that a share p does not exceed."""
    ordered = sorted(values)
    return ordered[max(1, ceil(round(p * len(ordered), 9))) - 1] if ordered else None


def _latency(p: float) -> Formula:
    return Formula(lambda raw: _quantile((s["latency_s"] for s in raw.good), p))


def _latency_of_all(raw: RawCell) -> float | None:
    heard = [s for s in raw.sent if s["status"] or s["error"] == "client_timeout"]
    return _quantile((s["latency_s"] for s in heard), 0.95)


def _error_rate(raw: RawCell) -> float | None:
    return 1 - len(raw.good) / len(raw.sent) if raw.sent else None


def _errors(cause: str) -> Formula:
    def count(raw: RawCell) -> float | None:
        if not raw.sent:
            return None
        answered = _answered(raw)
        return float(sum(_failed_of(sample, answered) == cause for sample in raw.sent))

    return Formula(count)


def _answered(raw: RawCell) -> dict[str, str]:
    """By request: the cause that the service answered, where it was one of its own."""
    last = {record["request"]: record for record in raw.of("upload")}
    return {
        name: record["cause"]
        for name, record in last.items()
        if record["status"] is not None and record["cause"] in SERVICE_CAUSES
    }


def _failed_of(sample: Line, answered: Mapping[str, str]) -> str | None:
    """What an upload failed of: where the answer was lost on its way, what was answered."""
    told: str | None = sample["error"]
    if told not in ("bad_gateway", "connection"):
        return told
    return answered.get(sample.get("request") or "", told)


def _throughput(raw: RawCell) -> float | None:
    start, end = raw.window[0], raw.until
    if end <= start or not raw.sent:
        return None
    done = 0.0
    for s in raw.samples:
        if s["error"] is None:
            begun, ended = s["sent_at"], s["sent_at"] + s["latency_s"]
            inside = max(0.0, min(ended, end) - max(begun, start))
            done += inside / s["latency_s"] if s["latency_s"] else float(start <= begun < end)
    return done / (end - start)


def _stage(name: str) -> Formula:
    """The mean of a stage of the successes."""

    def mean(raw: RawCell) -> float | None:
        return _mean(s["stages"][name] for s in raw.good if name in s["stages"])

    return Formula(mean)


def _waited(*names: str) -> Formula:
    """The mean of waits, of all uploads of which one knows them, failures as well.

    Those that were answered tell; of one that was cut off its worker's last record has them.
    """

    def mean(raw: RawCell) -> float | None:
        recorded = _recorded_stages(raw)
        known = [s["stages"] or recorded.get(s.get("request") or "", {}) for s in raw.sent]
        staged = [stages for stages in known if any(name in stages for name in names)]
        return _mean(sum(stages.get(name, 0.0) for name in names) for stages in staged)

    return Formula(mean)


def _accept_wait(raw: RawCell) -> float | None:
    """The mean time from the proxy's hand to the worker's, of the uploads that came so far."""
    names = {s.get("request") for s in raw.sent}
    came = [r for r in raw.of("upload") if r["request"] in names and r["handed"] is not None]
    return _mean(max(0.0, r["arrived"] - r["handed"]) for r in came)


def _recorded_stages(raw: RawCell) -> dict[str, dict[str, float]]:
    """Seconds by stage of each upload, by its last record."""
    stages: dict[str, dict[str, float]] = {}
    for record in raw.of("upload"):
        stages[record["request"]] = {name: took for name, _, took in record["spans"]}
    return stages


def _unseen_failures(raw: RawCell) -> float | None:
    """Uploads that were cut off and whose last record has a cause."""
    cut_off = {s.get("request") for s in raw.sent if s["error"] in CUT_OFF}
    ended = {record["request"]: record["cause"] for record in raw.of("upload")}
    if not ended:
        return None
    return float(sum(cause is not None and name in cut_off for name, cause in ended.items()))


def _unheard(raw: RawCell) -> float | None:
    heard = [audit["unheard"] for audit in raw.of("audit") if audit.get("unheard") is not None]
    return float(len(heard[0])) if heard else None


def _capacity(raw: RawCell) -> float | None:
    """Uploads a second at most: by the loops, the threads, and connections where they are held.

    The stage times are those of the whole trial: where all of the window's uploads hang, what
    was sent before shows how long a slot is held.
    """
    times = {
        name: _mean(s["stages"][name] for s in raw.samples if name in s["stages"]) or 0.0
        for name in SERVICE
    }
    if not times["gcs"]:
        return None
    knobs, processes = raw.cell.knobs, max_processes(raw.cell)
    database = sum(times[name] for name in db_trips(knobs))
    whole = database + times["gcs"]
    bounds = [raw.cell.storage_slots / times["gcs"]]
    if raw.cell.target == "cloudrun" or knobs.gcs_call == "blocking":
        bounds.append(raw.cell.storage_slots / whole)
    elif knobs.db_call == "blocking":
        bounds.append(processes / database)
    if knobs.db_call == "threadpool":  # where a checkout waits in one of anyio's threads
        checkouts = _mean(sum(s["stages"].get(name, 0.0) for name in CHECKOUTS) for s in raw.good)
        threads = processes * knobs.anyio_threads
        bounds.append(threads / (database + (checkouts or 0.0)))
    if raw.cell.target == "vm":  # two of nginx's connections each, for no less than the work
        bounds.append((knobs.nginx_connections - 2) // 2 / whole)
    connected, connections = database, processes * pool_connections(knobs)
    if knobs.db_session == "hold":
        connected = whole
    held, wait = _by_transaction(raw, "held_s"), _by_transaction(raw, "wait_s")
    if knobs.pooler == "off":
        connections = min(knobs.db_cap, connections)
    elif held is not None and wait is not None:
        made = 1 if knobs.db_session == "hold" else 2  # transactions
        lent = made * held if knobs.pooler == "transaction" else connected - made * wait
        bounds.append(knobs.pooler_size / lent)
    bounds.append(connections / connected)
    return min(bounds)


def _by_transaction(raw: RawCell, total: str) -> float | None:
    """How much a running total of PgBouncer's grew in the window, a transaction."""
    lines = raw.inside("pooler")
    if not lines or lines[-1]["transactions"] == lines[0]["transactions"]:
        return None
    made, grown = (float(lines[-1][name] - lines[0][name]) for name in ("transactions", total))
    return grown / made


def _pooler_clients(raw: RawCell) -> float | None:
    counts: list[float] = [
        line["clients_active"] + line["clients_waiting"] for line in raw.inside("pooler")
    ]
    return max(counts, default=None)


def _utilisation(raw: RawCell) -> float | None:
    capacity, throughput = _capacity(raw), _throughput(raw)
    return throughput / capacity if capacity and throughput is not None else None


def _waits(raw: RawCell) -> list[float]:
    """Of successes, what is left of the latency without service and the user's own line."""
    return [
        s["latency_s"]
        - sum(service for name, service in s["stages"].items() if name in SERVICE)
        - (s["bytes"] / raw.cell.load.uplink if raw.cell.load.uplink else 0.0)
        for s in raw.good
        if s["stages"]
    ]


def _dropped(raw: RawCell) -> float | None:
    """Arrivals that were not sent; an earlier lab dropped none."""
    return next((float(line.get("dropped", 0)) for line in raw.of("load")), None)


def _peak(kind: str, key: str) -> Formula:
    def peak(raw: RawCell) -> float | None:
        return max((float(line[key]) for line in raw.inside(kind)), default=None)

    return Formula(peak)


def _peak_of_all(key: str) -> Formula:
    """The peak of a sum over workers, each counted by its latest reading while it writes any."""

    def peak(raw: RawCell) -> float | None:
        latest: dict[int, tuple[float, float]] = {}
        sums = []
        for line in sorted(raw.inside("worker"), key=lambda line: float(line["t"])):
            if line.get(key) is not None:
                latest[line["pid"]] = line["t"], line[key]
                since = line["t"] - GONE_WALL_S * raw.cell.knobs.speed
                sums.append(sum(value for t, value in latest.values() if t >= since))
        return max(sums, default=None)

    return Formula(peak, ESTIMATE)


def _grown(raw: RawCell, key: str, lines: Sequence[Line]) -> tuple[float, float] | None:
    """By how much a running total grew between two readings, and the wall-clock seconds."""
    have = [line for line in lines if line.get(key) is not None]
    if len(have) < 2 or have[-1]["t"] <= have[0]["t"]:
        return None
    wall = (have[-1]["t"] - have[0]["t"]) / raw.cell.knobs.speed
    return have[-1][key] - have[0][key], wall


def _rates(raw: RawCell, key: str) -> list[float]:
    grown = [_grown(raw, key, lines) for lines in raw.workers.values()]
    return [growth / wall for growth, wall in filter(None, grown)]


def _busiest(key: str) -> Formula:
    return Formula(lambda raw: max(_rates(raw, key), default=None), ESTIMATE)


def _cpu(of: Callable[[Iterable[float]], float]) -> Formula:
    """CPU-seconds a wall-clock second of all workers' time, of what each used."""

    def cores(raw: RawCell) -> float | None:
        read = raw.inside("worker")
        wall = (read[-1]["t"] - read[0]["t"]) / raw.cell.knobs.speed if read else 0.0
        return of(_used(raw, "cpu_s").values()) / wall if wall else None

    return Formula(cores, ESTIMATE)


def _used(raw: RawCell, key: str) -> dict[int, float]:
    """By how much each worker's running total grew in the window.

    One that began in the window grew from nothing, before its first reading.
    """
    begin = raw.window[0] + GONE_WALL_S * raw.cell.knobs.speed
    return {
        pid: lines[-1][key] - (lines[0][key] if lines[0]["t"] < begin else 0)
        for pid, lines in raw.workers.items()
    }


def _part(total: str, part: str) -> Formula:
    """The mean rate of a part's running total, by wall-clock second."""

    def rate(raw: RawCell) -> float | None:
        lines = [line for line in raw.inside("machine") if part in line.get(total, {})]
        if len(lines) < 2:
            return None
        wall = (lines[-1]["t"] - lines[0]["t"]) / raw.cell.knobs.speed
        return float((lines[-1][total][part] - lines[0][total][part]) / wall) if wall else None

    return Formula(rate, ESTIMATE)


def _memory(raw: RawCell) -> float | None:
    held = [
        line["memory"]["backend"] for line in raw.inside("machine") if "backend" in line["memory"]
    ]
    return max(held, default=None) or _peak_of_all("rss").value(raw)


def _slope(kind: str, key: str) -> Formula:
    """Growth a real-world second over the window, by least squares; of workers, all together."""

    def slope(raw: RawCell) -> float | None:
        groups = raw.workers.values() if kind == "worker" else [raw.inside(kind)]
        slopes = []
        for lines in groups:
            have = [(line["t"], line[key]) for line in lines if line.get(key) is not None]
            if len({t for t, _ in have}) > 1:
                slopes.append(linear_regression(*zip(*have, strict=True)).slope)
        return sum(slopes) if slopes else None

    return Formula(slope, SLOPE)


def _growth(key: str, *, per_second: bool = False) -> Formula:
    """By how much the workers' running totals grew in the window, together.

    A rate is that between the first and the last reading of any.
    """

    def growth(raw: RawCell) -> float | None:
        total, read = sum(_used(raw, key).values()), raw.inside("worker")
        seconds = read[-1]["t"] - read[0]["t"] if per_second and read else 1.0
        return total / seconds if read and seconds > 0 else None

    return Formula(growth, ESTIMATE)


def _throttled(raw: RawCell) -> float | None:
    """Of the time that the backend was there: on Cloud Run, of the time of all its instances."""
    if raw.cell.target == "vm":
        return _part("throttled_s", "backend").value(raw)
    instances: dict[str, list[Line]] = defaultdict(list)
    for line in raw.of("instance"):
        if line["event"] == "usage" and line.get("throttled_s") is not None:
            instances[line["instance"]].append(line)
    lived = sum(lines[-1]["t"] - lines[0]["t"] for lines in instances.values())
    waited = sum(x[-1]["throttled_s"] - x[0]["throttled_s"] for x in instances.values())
    return waited / lived if lived else None


def _audited(count: Callable[[Line], float]) -> Formula:
    return Formula(lambda raw: next((count(line) for line in raw.of("audit")), None))


def _instances(*events: str) -> Callable[[RawCell], list[Line]]:
    return lambda raw: [
        line for line in raw.of("instance") if line["event"] in events and line["t"] >= 0
    ]


def _starts(key: str, of: Callable[[list[float]], float]) -> Formula:
    """Of the instances that were started since the load began, and became ready."""

    def value(raw: RawCell) -> float | None:
        begun = {line["instance"] for line in _instances("starting")(raw)}
        ready = [line for line in _instances("ready")(raw) if line["instance"] in begun]
        have = [line[key] for line in ready if line.get(key) is not None]
        return of(have) if have else None

    return Formula(value)


def _count_at_gateway(count: Callable[[RawCell], float]) -> Formula:
    """What only Cloud Run's gateway can count: the VM has none of it."""

    def value(raw: RawCell) -> float | None:
        if raw.cell.target == "vm":
            return 0.0
        return count(raw) if raw.of("front") else None

    return Formula(value)


def _oom_kills(raw: RawCell) -> float:
    return len(raw.of("oom_kill")) + len(_instances("oom")(raw))


def _queue(raw: RawCell) -> list[float]:
    return [s["stages"]["queue"] for s in raw.good if "queue" in s["stages"]]


def _refused_waits(raw: RawCell) -> list[float]:
    refused = [s["stages"] for s in raw.sent if s["error"] == "no_instance"]
    return [stages["queue"] for stages in refused if "queue" in stages]


def _peak_memory_of_instances(raw: RawCell) -> float | None:
    peaks = [line["peak_bytes"] for line in raw.of("instance") if line.get("peak_bytes")]
    return max(peaks, default=None)


def _instances_at_once(raw: RawCell) -> float:
    return float(max(line["starting"] + line["ready"] for line in raw.of("front")))


FORMULAS: Mapping[str, Formula] = {
    "attempts": Formula(lambda raw: float(len(raw.sent))),
    "succeeded": Formula(lambda raw: float(len(raw.good)) if raw.sent else None),
    "dropped": Formula(_dropped),
    "error_rate": Formula(_error_rate),
    "throughput": Formula(_throughput),
    "capacity": Formula(_capacity, SLOPE),
    "utilisation": Formula(_utilisation, SLOPE),
    "p50": _latency(0.50),
    "p95": _latency(0.95),
    "p99": _latency(0.99),
    "p95_all": Formula(_latency_of_all),
    **{f"errors.{cause}": _errors(cause) for cause in Cause},
    "unseen_failures": Formula(_unseen_failures),
    "auth": _stage("auth"),
    "release": _stage("release"),
    "write": _stage("write"),
    "accept_wait": Formula(_accept_wait),
    "pool_wait": _waited("pool_wait", "pool_wait2"),
    "gcs_queue": _waited("gcs_queue"),
    "gcs_latency": _stage("gcs"),
    "pg_connections": _peak("database", "connections"),
    "pooler_clients": Formula(_pooler_clients),
    "pooler_waiting": _peak("pooler", "clients_waiting"),
    "pooler_wait": Formula(lambda raw: _by_transaction(raw, "wait_s")),
    "pooler_wait_max": _peak("pooler", "longest_wait_s"),
    "db_refusals": _audited(lambda audit: audit["refused"]),
    "pool_checked_out": _peak_of_all("checked_out"),
    "pool_waiting": _peak_of_all("waiting"),
    "threads_busy": _peak_of_all("threads_busy"),
    "threads_queued": _peak_of_all("threads_queued"),
    "uploads_inflight": _peak_of_all("inflight"),
    "loop_busy": _busiest("loop_busy_s"),
    "loop_lag": Formula(
        lambda raw: _quantile((line["loop_lag"] for line in raw.inside("worker")), 0.95), ESTIMATE
    ),
    "cpu_backend": _cpu(sum),
    "cpu_worker_max": _cpu(max),
    "cpu_generator": _part("cpu_s", "generator"),
    "cpu_machine": Formula(
        lambda raw: _mean(line["cpu_share"] for line in raw.inside("machine")), ESTIMATE
    ),
    "rss_backend": _peak_of_all("rss"),
    "memory_backend": Formula(_memory, ESTIMATE),
    "throttled_backend": Formula(_throttled, SLOPE),
    "threads": _peak_of_all("threads"),
    "fds": _peak_of_all("fds"),
    "rss_slope": _slope("worker", "rss"),
    "connections_slope": _slope("database", "connections"),
    "threads_slope": _slope("worker", "threads"),
    "fds_slope": _slope("worker", "fds"),
    "wait": Formula(lambda raw: _mean(_waits(raw))),
    "wait_p95": Formula(lambda raw: _quantile(_waits(raw), 0.95)),
    "gcs_attempts": _growth("gcs_attempts"),
    "net_to_gcs": _growth("gcs_bytes", per_second=True),
    "oom_kills": Formula(_oom_kills),
    "cold_starts": _count_at_gateway(lambda raw: len(_instances("starting")(raw))),
    "cold_start_s": _starts("start_s", fmean),
    "cold_start_made": _starts("made_s", fmean),
    "cold_start_max": _starts("start_s", max),
    "cold_uploads": _count_at_gateway(lambda raw: sum("cold" in s["stages"] for s in raw.sent)),
    "instances": _count_at_gateway(_instances_at_once),
    "memory_instance": Formula(_peak_memory_of_instances),
    "queue_depth": _count_at_gateway(lambda raw: max(line["queue"] for line in raw.of("front"))),
    "queue_wait": Formula(lambda raw: _mean(_queue(raw))),
    "queue_wait_p95": Formula(lambda raw: _quantile(_queue(raw), 0.95)),
    "queue_wait_refused": Formula(lambda raw: _mean(_refused_waits(raw))),
    "orphans": _audited(lambda audit: max(0, len(audit["orphans"]) - audit["inflight"])),
    "unheard": Formula(_unheard),
    "lost": _audited(lambda audit: len(audit["lost"])),
    "lateness": Formula(
        lambda raw: _quantile((s["sent_at"] - s["planned_at"] for s in raw.sent), 0.95)
    ),
}
