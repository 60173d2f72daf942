"""Is what is injected what arrives: storage, speech service, database, connections, body limits."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import psycopg2
import psycopg2.extensions
import requests

from lab.calibrate import Calibration, Inject, calibration_cell
from lab.calibrate.limits import calibrate_confinement
from lab.model.fault import Fault
from lab.model.knobs import Knobs
from lab.model.replica import APP_ROLE, UPLOAD_PATH, token
from lab.model.speech import SPEECH_PATH
from lab.model.units import Span
from lab.stack import ports
from lab.stack.base import Replica, Stack
from lab.stack.monitor import PLAIN

CONCURRENCY = 200
DB_UPLOADS = 40
WARM_UPLOADS = 3
MIB = 1024**2
ALPHA = 0.001
"""A truly uniform distribution is rejected once in a thousand calibrations."""


def calibrate_replica(
    stack: Stack,
    inject: Inject,
    faults: Mapping[str, Fault],
    draws: int,
    show: Callable[[str], None],
) -> Calibration:
    """Measure everything with this stack's Toxiproxy; takes about a minute.

    Args:
        stack: not applied yet.
        inject: injects a cell's faults.
        faults: the files under ``faults/``, by name.
        draws: how many storage latencies; with 1500 their mean is known to 0.7 %.
        show: called at each step.
    """
    calibration = Calibration(stack.name, stack.toxiproxy_variant)
    replica = stack.apply(calibration_cell({}))
    show(f"storage: {draws} uploads through the proxy")
    with inject(replica, calibration_cell({}, faults["gcs-latency"])):
        latencies = storage_draws(replica.proxies["gcs"], replica.bucket, draws, CONCURRENCY)
    check_delay(calibration, "storage", Knobs().gcs_latency, latencies)
    show(f"speech service: {draws} recordings through the proxy")
    with inject(replica, calibration_cell({}, faults["speech-latency"])):
        latencies = speech_draws(replica.proxies["speech"], draws, CONCURRENCY)
    check_delay(calibration, "speech service", Knobs().speech_latency, latencies)
    show("database: stages of the backend's uploads")
    with inject(replica, calibration_cell({}, faults["db-distance"])):
        _check_database(calibration, replica)
    show("connections and body limits")
    with inject(replica, calibration_cell({})):
        _check_connections(calibration, replica)
    _check_body_limits(calibration, stack, inject)
    calibrate_confinement(calibration, stack, show)
    return calibration


def storage_draws(address: str, bucket: str, count: int, concurrency: int) -> list[float]:
    """As `delay_draws`, of small objects for this bucket, each with a name of its own."""

    def upload(name: str) -> Post:
        path = f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name=calibration-{name}"
        return Post(path, b"x", "text/plain")

    return delay_draws(address, upload, count, concurrency)


def speech_draws(address: str, count: int, concurrency: int) -> list[float]:
    """As `delay_draws`, of a short recording."""
    recording = Post(SPEECH_PATH, b"RIFF\4\0\0\0WAVE", "audio/wav")
    return delay_draws(address, lambda _: recording, count, concurrency)


class Post(NamedTuple):
    """A request: its path, its body, and what that is."""

    path: str
    body: bytes
    content_type: str


def delay_draws(
    address: str, request: Callable[[str], Post], count: int, concurrency: int
) -> list[float]:
    """Seconds from the end of a request to the first byte of its answer, for ``count`` of them.

    The first request of each connection is not counted: all of these are sent at the same time,
    while the proxy opens its own connections, so that they wait for this machine's CPU.

    Args:
        address: ``host:port`` of the proxy.
        request: makes one, from a name that no other has.
        count: how many.
        concurrency: how many at once, each over a kept connection of its own.
    """
    local = threading.local()

    def send(name: str) -> float:
        path, body, content_type = request(name)
        start = time.perf_counter()
        local.connection.request("POST", path, body, {"Content-Type": content_type})
        answer = local.connection.getresponse()
        took = time.perf_counter() - start
        answer.read()
        return took

    def draw(number: int) -> float:
        if not hasattr(local, "connection"):
            local.connection = http.client.HTTPConnection(address, timeout=30)
            local.connection.connect()
            send(f"first-{number}")
        return send(str(number))

    with ThreadPoolExecutor(concurrency) as pool:
        return list(pool.map(draw, range(count)))


def check_delay(calibration: Calibration, what: str, span: Span, latencies: list[float]) -> None:
    """Compare latencies, in seconds, with the uniform distribution of a span."""
    from scipy.stats import kstest, uniform

    mean, low, high = sum(latencies) / len(latencies), min(latencies), max(latencies)
    near = abs(mean - span.mean) <= 0.02 * span.mean
    calibration.add(f"{what}, mean (s)", mean, f"{span.mean:g} ± 2 %", near)
    calibration.add(f"{what}, least (s)", low, f">= {span.low:g}", low >= span.low)
    limit = span.high + 0.1
    calibration.add(f"{what}, most (s)", high, f"<= {limit:g}", high <= limit)
    p = float(kstest(latencies, uniform(span.low, span.high - span.low).cdf).pvalue)
    name = f"{what}, uniform (Kolmogorov-Smirnov p)"
    calibration.add(name, p, f">= {ALPHA:g}", p >= ALPHA)


def _upload(url: str, size: int) -> requests.Response:
    answer: requests.Response = ports.http().post(
        url + UPLOAD_PATH,
        files={"file": ("calibration.wav", b"\0" * size, "audio/wav")},
        headers={"Authorization": f"Bearer {token(0)}"},
        timeout=60,
    )
    return answer


def stage_ms(answer: requests.Response) -> dict[str, float]:
    """Milliseconds by stage from the standard ``Server-Timing`` header."""
    entries = answer.headers["Server-Timing"].split(", ")
    pairs = (entry.split(";dur=") for entry in entries)
    return {name: float(duration) for name, duration in pairs}


def _check_database(calibration: Calibration, replica: Replica) -> None:
    for _ in range(WARM_UPLOADS):
        _upload(replica.url, 1000)
    uploads = [stage_ms(_upload(replica.url, 1000)) for _ in range(DB_UPLOADS)]
    for name, expected, tolerance in (("auth", 50.0, 10.0), ("write", 100.0, 15.0)):
        mean = sum(stages[name] for stages in uploads) / len(uploads)
        bound = f"{expected:g} ± {tolerance:g}"
        ok = abs(mean - expected) <= tolerance
        calibration.add(f"{name}, mean (ms)", mean, bound, ok)


def _check_connections(calibration: Calibration, replica: Replica) -> None:
    """Open connections in the application's role until Postgres refuses the next."""
    cap = Knobs().db_cap
    opened: list[psycopg2.extensions.connection] = []
    try:
        while len(opened) <= cap:
            try:
                opened.append(psycopg2.connect(replica.app_dsn, connect_timeout=10, **PLAIN))
            except psycopg2.OperationalError:
                break
        rows = replica.query(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = %s AND state IS NOT NULL",
            APP_ROLE,
        )
    finally:
        for connection in opened:
            connection.close()
    granted = int(rows[0][0])
    calibration.add("connections granted to the application", granted, f"{cap}", granted == cap)


def _check_body_limits(calibration: Calibration, stack: Stack, inject: Inject) -> None:
    for nginx, expected in (("as-found", 413), ("recommended", 200)):
        cell = calibration_cell({"nginx": nginx})
        replica = stack.apply(cell)
        with inject(replica, cell):
            over, under = (_upload(replica.url, n).status_code for n in (MIB + 1, MIB // 2))
        name = f"nginx {nginx} (status)"
        calibration.add(f"1 MiB + 1, {name}", over, f"{expected}", over == expected)
        calibration.add(f"0.5 MiB, {name}", under, "200", under == 200)
