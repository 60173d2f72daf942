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
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil
from pathlib import Path
from statistics import fmean, linear_regression
from typing import Any

from lab.model.evidence import SERVICE_CAUSES, Cause
from lab.model.experiment import Cell
from lab.model.load import BurstLoad
from lab.model.physics import db_trips, max_processes, pool_connections
from lab.model.replica import nginx_limits

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

NETWORK = {
    "nginx": "nginx",
    "backend": "backend",
    "postgres": "postgres",
    "storage": "fake-gcs-server",
}
"""The parts whose bytes on the network are metrics, and what readings call them."""

GONE_WALL_S = 1.0
"""A worker that has not written for so long, in wall-clock seconds, is gone: it writes ten times a
second."""


@dataclass(frozen=True)
class RawCell:
    """A cell's stored lines; the figures are of one ``journey``."""

    cell: Cell
    samples: Sequence[Line]
    evidence: Sequence[Line]
    journey: str = "upload"

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
        return [sample for sample in self.sent_by_all if _journey(sample) == self.journey]

    @cached_property
    def sent_by_all(self) -> list[Line]:
        """The same of every journey."""
        if isinstance(self.cell.load, BurstLoad):
            return list(self.samples)
        start, end = self.window
        return [sample for sample in self.samples if start <= sample["sent_at"] < end]

    @cached_property
    def of_journey(self) -> list[Line]:
        """All samples of the journey, whenever they were sent."""
        return [sample for sample in self.samples if _journey(sample) == self.journey]

    @cached_property
    def good(self) -> list[Line]:
        """Of these, the successes."""
        return [sample for sample in self.sent if sample["error"] is None]

    @cached_property
    def until(self) -> float:
        """The end of what is looked at: the window's; of a burst, when its last upload ended."""
        if not isinstance(self.cell.load, BurstLoad):
            return self.window[1]
        by_users = [s for s in self.sent_by_all if _journey(s) != "health"]
        return max((s["sent_at"] + s["latency_s"] for s in by_users), default=0.0)

    @cached_property
    def _by_kind(self) -> Mapping[str, list[Line]]:
        kinds: dict[str, list[Line]] = defaultdict(list)
        for line in sorted(self.evidence, key=lambda line: float(line["t"])):
            if line["kind"] != "upload" or _journey(line) == self.journey:
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


def _journey(line: Line) -> str:
    """What a sample or a record is of; an earlier lab had uploads alone."""
    return str(line.get("journey", "upload"))


def _lines(path: Path) -> list[Line]:
    whole, _, _rest = path.read_text(encoding="utf-8").rpartition("\n")
    return [json.loads(line) for line in whole.split("\n") if line]


Times = Callable[[RawCell], list[float]]
"""How the times that many requests have each are told from the lines, in seconds."""


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
    for s in raw.of_journey:
        if s["error"] is None:
            begun, ended = s["sent_at"], s["sent_at"] + s["latency_s"]
            inside = max(0.0, min(ended, end) - max(begun, start))
            done += inside / s["latency_s"] if s["latency_s"] else float(start <= begun < end)
    return done / (end - start)


def _spread(name: str, times: Times) -> dict[str, Formula]:
    """The mean of times that uploads had, and their median, 95th and 99th percentile."""

    def nth(p: float) -> Formula:
        return Formula(lambda raw: _quantile(times(raw), p))

    mean = Formula(lambda raw: _mean(times(raw)))
    return {name: mean, **{f"{name}_p{n}": nth(n / 100) for n in (50, 95, 99)}}


def _stage(name: str) -> Times:
    """The times of a stage of the successes."""
    return lambda raw: [s["stages"][name] for s in raw.good if name in s["stages"]]


def _waited(*names: str) -> Times:
    """The waits of all uploads of which one knows them, failures as well.

    Those that were answered tell; of one that was cut off its worker's last record has them.
    """

    def times(raw: RawCell) -> list[float]:
        recorded = _recorded_stages(raw)
        known = [s["stages"] or recorded.get(s.get("request") or "", {}) for s in raw.sent]
        staged = [stages for stages in known if any(name in stages for name in names)]
        return [sum(stages.get(name, 0.0) for name in names) for stages in staged]

    return times


def _of(journey: str, times: Times) -> Times:
    """The same times of the one journey that has them, whatever else the figures are of."""
    return lambda raw: times(replace(raw, journey=journey))


def _accept_waits(raw: RawCell) -> list[float]:
    """The times from the proxy's hand to the worker's, of the uploads that came so far."""
    names = {s.get("request") for s in raw.sent}
    came = [r for r in raw.of("upload") if r["request"] in names and r["handed"] is not None]
    return [max(0.0, r["arrived"] - r["handed"]) for r in came]


def _connections_reused(raw: RawCell) -> float | None:
    """Uploads that were not the first to come over their connection to their worker."""
    names = {s.get("request") for s in raw.sent}
    lines = sorted(raw.of("upload"), key=lambda r: r["arrived"])
    seen: set[tuple[int, int]] = set()
    later = []
    for r in (r for r in lines if r.get("peer") is not None):
        key = r["worker"], r["peer"]
        later += [float(key in seen)] if r["request"] in names else []
        seen.add(key)
    return _mean(later)


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


FORM = 177
"""Bytes of a body that are the form around its file."""


def _oversize(raw: RawCell) -> float | None:
    """Uploads whose body is above the least of the limits that their target has."""
    nginx = nginx_limits(raw.cell.knobs).body if raw.cell.target == "vm" else 32 << 20
    limits = [limit for limit in (nginx, raw.cell.knobs.backend_body) if limit]
    if not limits:
        return None
    return _mean(s["bytes"] + FORM > min(limits) for s in _uploads(raw.sent))


def _uploads(samples: Iterable[Line]) -> list[Line]:
    return [s for s in samples if s.get("journey", "upload") == "upload"]


def _probes(event: str) -> Callable[[RawCell], float | None]:
    """Lines of an event of the probes; None where nobody is to ask."""

    def count(raw: RawCell) -> float | None:
        asked = raw.cell.knobs.health_probe is not None
        return float(sum(line["event"] == event for line in raw.of("probe"))) if asked else None

    return count


def _wasted(raw: RawCell) -> float | None:
    """Storage calls over in the window, and of these those whose client was gone before."""
    gone = {s["request"]: s["sent_at"] + s["latency_s"] for s in raw.samples if s.get("request")}
    cut_off = {s.get("request") for s in raw.samples if s["error"] in CUT_OFF}
    late = [
        record["request"] in cut_off and begun + took > gone[record["request"]]
        for record in raw.of("upload")
        for stage, begun, took in record["spans"]
        if stage == "gcs"
        and raw.window[0] <= begun + took <= raw.until
        and not (record["status"] is None and begun + took >= record["t"] - 0.002)
    ]
    return _mean(late)


def _unheard(raw: RawCell) -> float | None:
    heard = [audit["unheard"] for audit in raw.of("audit") if audit.get("unheard") is not None]
    return float(len(heard[0])) if heard else None


def _capacity(raw: RawCell, busiest: float = 1.0) -> float | None:
    """Uploads a second at most: by the loops, the threads, and connections where they are held.

    The stage times are those of the whole trial: where all of the window's uploads hang, what
    was sent before shows how long a slot is held. What each worker has of its own counts for less
    where the busiest has so many times its even share.
    """
    times = {
        name: _mean(s["stages"][name] for s in raw.of_journey if name in s["stages"]) or 0.0
        for name in SERVICE
    }
    if not times["gcs"]:
        return None
    knobs, processes = raw.cell.knobs, max_processes(raw.cell)
    database = sum(times[name] for name in db_trips(knobs))
    whole = database + times["gcs"]
    bounds = [raw.cell.storage_slots / times["gcs"] / busiest]
    if raw.cell.target == "cloudrun" or knobs.gcs_call == "blocking":
        bounds.append(raw.cell.storage_slots / whole / busiest)
    elif knobs.db_call == "blocking":
        bounds.append(processes / database / busiest)
    if knobs.db_call == "threadpool":  # where a checkout waits in one of anyio's threads
        checkouts = _mean(sum(s["stages"].get(name, 0.0) for name in CHECKOUTS) for s in raw.good)
        threads = processes * knobs.anyio_threads
        bounds.append(threads / (database + (checkouts or 0.0)) / busiest)
    if raw.cell.target == "vm":  # two of nginx's connections each, for no less than the work
        bounds.append((knobs.nginx_connections - 2) // 2 / whole)
    connected, connections = database, processes * pool_connections(knobs) / busiest
    if knobs.db_session == "hold":
        connected = whole
    made = 1 if knobs.db_session == "hold" else 2  # transactions
    if knobs.pooler == "off":
        connections = min(knobs.db_cap, connections)
    elif knobs.pooler == "session" and (wait := _pooler_wait(raw)) is not None:
        bounds.append(knobs.pooler_size / (connected - made * wait))
    elif knobs.pooler == "transaction" and (rate := _most_transactions(raw)):
        bounds.append(rate / made)
    bounds.append(connections / connected)
    return min(bounds)


def _pooler_wait(raw: RawCell) -> float | None:
    """How long a transaction waited in PgBouncer, in the mean of the window."""
    lines = raw.inside("pooler")
    if not lines or lines[-1]["transactions"] == lines[0]["transactions"]:
        return None
    made, grown = (float(lines[-1][name] - lines[0][name]) for name in ("transactions", "wait_s"))
    return grown / made


def _most_transactions(raw: RawCell) -> float | None:
    """Transactions a second if each of PgBouncer's connections were as busy as can be: those that
    there were, by the share of the connections that were lent; None where none ever was seen so."""
    lines = raw.inside("pooler")
    lent = _mean(line["servers_active"] for line in lines)
    if not lent:
        return None
    made, took = (float(lines[-1][name] - lines[0][name]) for name in ("transactions", "t"))
    return made / took * raw.cell.knobs.pooler_size / lent if took and made else None


def _pooler_clients(raw: RawCell) -> float | None:
    counts: list[float] = [
        line["clients_active"] + line["clients_waiting"] for line in raw.inside("pooler")
    ]
    return max(counts, default=None)


def _utilisation(raw: RawCell) -> float | None:
    capacity, throughput = _capacity(raw), _throughput(raw)
    return throughput / capacity if capacity and throughput is not None else None


def _shared_out(raw: RawCell, samples: Iterable[Line]) -> Counter[int]:
    """How many of these uploads each of several workers of the VM had, by its last record of them,
    or by what the answer says."""
    if raw.cell.target == "cloudrun" or raw.cell.knobs.workers == 1:
        return Counter()
    recorded = {record["request"]: record["worker"] for record in raw.of("upload")}
    by = (recorded.get(s.get("request"), s.get("worker")) for s in samples)
    return Counter(worker for worker in by if worker is not None)


def _capacity_split(raw: RawCell) -> float | None:
    """The bound where the busiest worker has its share of the successes."""
    had, workers = _shared_out(raw, raw.good), raw.cell.knobs.workers
    if not had or len(had) > workers:
        return None
    return _capacity(raw, workers * max(had.values()) / sum(had.values()))


def _utilisation_split(raw: RawCell) -> float | None:
    capacity, throughput = _capacity_split(raw), _throughput(raw)
    return throughput / capacity if capacity and throughput is not None else None


def _worker_share_max(raw: RawCell) -> float | None:
    had = _shared_out(raw, raw.sent)
    return max(had.values()) / sum(had.values()) if had else None


def _split_idle(raw: RawCell) -> float | None:
    """Of the moments at which a worker was read, as the others last were: how often one had room
    for an upload while another had some in a queue. Storage calls set how much room there is."""
    cell, knobs = raw.cell, raw.cell.knobs
    if cell.target == "cloudrun" or knobs.workers == 1:
        return None
    room = cell.storage_slots / knobs.workers
    if knobs.db_session == "hold":
        room = min(room, pool_connections(knobs))
    latest: dict[int, Line] = {}
    found = []
    for line in sorted(raw.inside("worker"), key=lambda line: float(line["t"])):
        latest[line["pid"]] = line
        now = [r for r in latest.values() if r["t"] >= line["t"] - GONE_WALL_S * knobs.speed / 2]
        if len(now) >= knobs.workers:
            behind = [_has_queue(cell, reading) for reading in now]
            free = [r["inflight"] < room for r in now]
            idle = any(f and not b for f, b in zip(free, behind, strict=True))
            found.append(float(idle and any(behind)))
    return _mean(found)


def _has_queue(cell: Cell, reading: Line) -> bool:
    """Whether uploads waited at a worker for a thread, a connection, or its event loop."""
    knobs, threads = cell.knobs, cell.storage_slots // cell.knobs.workers
    late = reading["loop_lag"] / knobs.speed > 0.05
    return bool(
        (reading["threads_queued"] and reading["threads_busy"] >= threads)
        or (reading["waiting"] and reading["checked_out"] >= pool_connections(knobs))
        or reading.get("anyio_queued")
        or (late and reading["inflight"] > 1)
    )


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


def _loop_stood(raw: RawCell) -> float | None:
    """The most of any worker: seconds in the lines with 1 % of its time, by its time."""
    if any(line.get("stood") is None for line in raw.inside("worker")):
        return None
    shares = []
    for lines in raw.workers.values():
        wall = (lines[-1]["t"] - lines[0]["t"]) / raw.cell.knobs.speed
        first = lines[0]["stood"] if _was_there(raw, lines) else {}
        last = lines[-1]["stood"].items()
        grown = [s - first.get(place, 0.0) for place, s in last if place != "elsewhere"]
        shares.append(sum(s for s in grown if s >= max(0.1, 0.01 * wall)) / wall if wall else 0.0)
    return max(shares, default=None)


def _pool_abandoned(raw: RawCell) -> float | None:
    """The workers' own means, together."""
    lives = raw.workers.values()
    if any(line.get("abandoned") is None for lines in lives for line in lines):
        return None
    return sum(fmean(line["abandoned"] for line in lines) for lines in lives) if lives else None


def _cpu(of: Callable[[Iterable[float]], float]) -> Formula:
    """CPU-seconds a wall-clock second of all workers' time, of what each used."""

    def cores(raw: RawCell) -> float | None:
        read = raw.inside("worker")
        wall = (read[-1]["t"] - read[0]["t"]) / raw.cell.knobs.speed if read else 0.0
        return of(_used(raw, "cpu_s").values()) / wall if wall else None

    return Formula(cores, ESTIMATE)


def _used(raw: RawCell, key: str) -> dict[int, float]:
    """By how much each worker's running total grew in the window; none where one has not read it.

    One that began in the window grew from nothing, before its first reading.
    """
    if any(line.get(key) is None for lines in raw.workers.values() for line in lines):
        return {}
    return {
        pid: lines[-1][key] - (lines[0][key] if _was_there(raw, lines) else 0)
        for pid, lines in raw.workers.items()
    }


def _was_there(raw: RawCell, lines: Sequence[Line]) -> bool:
    """Whether a worker was there when the window began."""
    return bool(lines[0]["t"] < raw.window[0] + GONE_WALL_S * raw.cell.knobs.speed)


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
        used, read = _used(raw, key), raw.inside("worker")
        seconds = read[-1]["t"] - read[0]["t"] if per_second and read else 1.0
        return sum(used.values()) / seconds if used and seconds > 0 else None

    return Formula(growth, ESTIMATE)


def _status(code: int) -> Formula:
    """How many were answered so; of nobody there is no such figure."""

    def count(raw: RawCell) -> float | None:
        return float(sum(s["status"] == code for s in raw.sent)) if raw.sent else None

    return Formula(count)


def _attempt_rate(raw: RawCell) -> float | None:
    length = raw.until - raw.window[0]
    return len(raw.sent) / length if raw.sent and length > 0 else None


def _locked(raw: RawCell) -> list[int]:
    """How many backends waited for a lock, by reading; an earlier lab did not look."""
    told = (line.get("lock_waiting") for line in raw.inside("database"))
    return [waiting for waiting in told if waiting is not None]


def _statements(of: Callable[[Line, RawCell], float]) -> Formula:
    def value(raw: RawCell) -> float | None:
        return next((of(line, raw) for line in raw.of("statements") if line["calls"]), None)

    return Formula(value)


def _end_of_load(raw: RawCell) -> float:
    return max(raw.until, *(float(s["sent_at"] + s["latency_s"]) for s in raw.samples), 0.0)


def _on_network(total: str, part: str) -> Formula:
    """Bytes of a container a real-world second."""
    wall = _part(total, part)

    def rate(raw: RawCell) -> float | None:
        value = wall.value(raw)
        return None if value is None else value / raw.cell.knobs.speed

    return Formula(rate, ESTIMATE)


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
    "attempt_rate": Formula(_attempt_rate),
    "succeeded": Formula(lambda raw: float(len(raw.good)) if raw.sent else None),
    "dropped": Formula(_dropped),
    "error_rate": Formula(_error_rate),
    "throughput": Formula(_throughput),
    "capacity": Formula(_capacity, SLOPE),
    "utilisation": Formula(_utilisation, SLOPE),
    "capacity_split": Formula(_capacity_split, SLOPE),
    "utilisation_split": Formula(_utilisation_split, SLOPE),
    "worker_share_max": Formula(_worker_share_max),
    "connections_reused": Formula(_connections_reused),
    "split_idle": Formula(_split_idle, ESTIMATE),
    "p50": _latency(0.50),
    "p95": _latency(0.95),
    "p99": _latency(0.99),
    "p95_all": Formula(_latency_of_all),
    **{f"errors.{cause}": _errors(cause) for cause in Cause},
    "oversize": Formula(_oversize),
    "unseen_failures": Formula(_unseen_failures),
    **{f"status.{code}": _status(code) for code in range(100, 600)},
    **_spread("auth", _stage("auth")),
    **_spread("release", _stage("release")),
    **_spread("write", _stage("write")),
    **_spread("accept_wait", _accept_waits),
    **_spread("pool_wait", _waited("pool_wait", "pool_wait2")),
    **_spread("gcs_queue", _waited("gcs_queue")),
    **_spread("gcs_latency", _stage("gcs")),
    **_spread("speech_queue", _of("assess", _waited("speech_queue"))),
    **_spread("speech_latency", _of("assess", _stage("speech"))),
    **_spread("convert_queue", _of("convert", _waited("convert_queue"))),
    **_spread("convert_time", _of("convert", _stage("convert"))),
    **_spread("read", _of("progress", _stage("read"))),
    "pg_connections": _peak("database", "connections"),
    "pg_lock_waiting": Formula(lambda raw: max(_locked(raw), default=None)),
    "pg_lock_share": Formula(lambda raw: _mean(float(n > 0) for n in _locked(raw))),
    "db_query": _statements(lambda line, _raw: line["total_s"] / line["calls"]),
    "db_query_max": _statements(lambda line, _raw: float(line["max_s"])),
    "db_query_rate": _statements(lambda line, raw: line["calls"] / _end_of_load(raw)),
    "pooler_clients": Formula(_pooler_clients),
    "pooler_waiting": _peak("pooler", "clients_waiting"),
    "pooler_wait": Formula(_pooler_wait),
    "pooler_wait_max": _peak("pooler", "longest_wait_s"),
    "db_refusals": _audited(lambda audit: audit["refused"]),
    "pool_checked_out": _peak_of_all("checked_out"),
    "pool_waiting": _peak_of_all("waiting"),
    "pool_abandoned": Formula(_pool_abandoned, ESTIMATE),
    "threads_busy": _peak_of_all("threads_busy"),
    "threads_queued": _peak_of_all("threads_queued"),
    "uploads_inflight": _peak_of_all("inflight"),
    "loop_busy": _busiest("loop_busy_s"),
    "loop_stood": Formula(_loop_stood, ESTIMATE),
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
    "pool_slope": _slope("worker", "abandoned"),
    "connections_slope": _slope("database", "connections"),
    "threads_slope": _slope("worker", "threads"),
    "fds_slope": _slope("worker", "fds"),
    **_spread("wait", _waits),
    "gcs_attempts": _growth("gcs_attempts"),
    "gcs_failures": _growth("gcs_failed"),
    "gcs_retries": _growth("gcs_retried"),
    "net_to_gcs": _growth("gcs_bytes", per_second=True),
    "gcs_acknowledged": _growth("gcs_acknowledged_bytes", per_second=True),
    **{
        f"net_{way}_{name}": _on_network(total, part)
        for name, part in NETWORK.items()
        for way, total in (("in", "received"), ("out", "sent"))
    },
    "oom_kills": Formula(_oom_kills),
    "probe_failures": Formula(_probes("failed")),
    "probe_restarts": Formula(_probes("ended")),
    "cold_starts": _count_at_gateway(lambda raw: len(_instances("starting")(raw))),
    "cold_start_s": _starts("start_s", fmean),
    "cold_start_made": _starts("made_s", fmean),
    "cold_start_max": _starts("start_s", max),
    "cold_uploads": _count_at_gateway(lambda raw: sum("cold" in s["stages"] for s in raw.sent)),
    "instances": _count_at_gateway(_instances_at_once),
    "memory_instance": Formula(_peak_memory_of_instances),
    "queue_depth": _count_at_gateway(lambda raw: max(line["queue"] for line in raw.of("front"))),
    **_spread("queue_wait", _queue),
    "queue_wait_refused": Formula(lambda raw: _mean(_refused_waits(raw))),
    "orphans": _audited(lambda audit: max(0, len(audit["orphans"]) - audit["inflight"])),
    "unheard": Formula(_unheard),
    "wasted": Formula(_wasted),
    "lost": _audited(lambda audit: len(audit["lost"])),
    "lateness": Formula(
        lambda raw: _quantile((s["sent_at"] - s["planned_at"] for s in raw.sent_by_all), 0.95)
    ),
}
