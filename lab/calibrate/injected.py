"""Is what is injected what arrives: storage, database, connections and body limits."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import psycopg2
import psycopg2.extensions
import requests

from lab.calibrate.cell import make_cell
from lab.calibrate.found import Calibration
from lab.model.fault import Fault
from lab.model.knobs import Knobs
from lab.model.replica import token
from lab.runner import Injector
from lab.stack.base import Replica, Stack

CONCURRENCY = 200
DB_UPLOADS = 40
WARM_UPLOADS = 3
UPLOAD = "/api/students/upload-recording"
MIB = 1024**2
ALPHA = 0.001
"""A true uniform distribution is called something else once in a thousand calibrations."""


def measure(
    found: Calibration,
    stack: Stack,
    injector: Injector,
    faults: Mapping[str, Fault],
    draws: int,
    say: Callable[[str], None],
) -> None:
    """Hold storage, database, connections and body limits against what they should be."""
    replica = stack.apply(make_cell({}))
    say(f"storage: {draws} uploads through the proxy")
    with injector.armed(replica, make_cell({}, faults["gcs-latency"])):
        _storage(found, replica, draws)
    say("database: stages of the backend's uploads")
    with injector.armed(replica, make_cell({}, faults["db-distance"])):
        _database(found, replica)
    say("connections and body limits")
    with injector.armed(replica, make_cell({})):
        _connections(found, replica)
    _body_limits(found, stack, injector)


def storage_draws(address: str, bucket: str, count: int, concurrency: int) -> list[float]:
    """Seconds from a whole request sent to the answer's first byte, for that many uploads.

    The first of each connection is not counted: all of them are sent in one moment, while the
    proxy opens its own connections, and what they wait for then is this machine's CPU.

    Args:
        address: ``host:port`` of the proxy before storage.
        bucket: where the small objects go.
        count: how many.
        concurrency: how many at once, each over one kept connection.
    """
    here = threading.local()

    def draw(name: str) -> float:
        path = f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name=calibration-{name}"
        start = time.perf_counter()
        here.connection.request("POST", path, b"x", {"Content-Type": "text/plain"})
        answer = here.connection.getresponse()
        took = time.perf_counter() - start
        answer.read()
        return took

    def one(number: int) -> float:
        if not hasattr(here, "connection"):
            here.connection = http.client.HTTPConnection(address, timeout=30)
            here.connection.connect()
            draw(f"first-{number}")
        return draw(str(number))

    with ThreadPoolExecutor(concurrency) as pool:
        return list(pool.map(one, range(count)))


def _storage(found: Calibration, replica: Replica, draws: int) -> None:
    from scipy.stats import kstest, uniform

    span = Knobs().gcs_latency
    seen = storage_draws(replica.proxies["gcs"], replica.bucket, draws, CONCURRENCY)
    mean = sum(seen) / len(seen)
    found.add(
        "storage, mean (s)",
        mean,
        f"{span.mean:g} ± 2 %",
        abs(mean - span.mean) <= 0.02 * span.mean,
    )
    found.add("storage, least (s)", min(seen), f">= {span.low:g}", min(seen) >= span.low)
    found.add(
        "storage, most (s)", max(seen), f"<= {span.high + 0.1:g}", max(seen) <= span.high + 0.1
    )
    p = float(kstest(seen, uniform(span.low, span.high - span.low).cdf).pvalue)
    found.add("storage, uniform (Kolmogorov-Smirnov p)", p, f">= {ALPHA:g}", p >= ALPHA)


def _upload(url: str, size: int) -> requests.Response:
    return requests.post(
        url + UPLOAD,
        files={"file": ("calibration.wav", b"\0" * size, "audio/wav")},
        headers={"Authorization": f"Bearer {token(0)}"},
        timeout=60,
    )


def stage_ms(answer: requests.Response) -> dict[str, float]:
    """Milliseconds by stage from the standard ``Server-Timing`` header."""
    entries = answer.headers["Server-Timing"].split(", ")
    pairs = (entry.split(";dur=") for entry in entries)
    return {name: float(duration) for name, duration in pairs}


def _database(found: Calibration, replica: Replica) -> None:
    for _ in range(WARM_UPLOADS):
        _upload(replica.url, 1000)
    stages = [stage_ms(_upload(replica.url, 1000)) for _ in range(DB_UPLOADS)]
    for name, wanted, give in (("auth", 50.0, 10.0), ("write", 100.0, 15.0)):
        mean = sum(each[name] for each in stages) / len(stages)
        bound = f"{wanted:g} ± {give:g}"
        found.add(f"{name}, mean (ms)", mean, bound, abs(mean - wanted) <= give)


def _connections(found: Calibration, replica: Replica) -> None:
    """Open connections as the application does until one is refused."""
    cap = Knobs().db_cap
    opened: list[psycopg2.extensions.connection] = []
    try:
        while len(opened) <= cap:
            try:
                opened.append(psycopg2.connect(replica.app_dsn, connect_timeout=10))
            except psycopg2.OperationalError:
                break
        rows = replica.query(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND state IS NOT NULL"
        )
    finally:
        for connection in opened:
            connection.close()
    granted = int(rows[0][0])
    found.add("connections granted to the application", granted, f"{cap}", granted == cap)


def _body_limits(found: Calibration, stack: Stack, injector: Injector) -> None:
    for nginx, wanted in (("as-found", 413), ("recommended", 200)):
        cell = make_cell({"nginx": nginx})
        replica = stack.apply(cell)
        with injector.armed(replica, cell):
            status = _upload(replica.url, MIB + 1).status_code
            found.add(f"1 MiB + 1, nginx {nginx} (status)", status, f"{wanted}", status == wanted)
            status = _upload(replica.url, MIB // 2).status_code
            found.add(f"0.5 MiB, nginx {nginx} (status)", status, "200", status == 200)
