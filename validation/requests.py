"""Hostile requests against nginx, uvicorn and the gateway: what each answers, and what users feel.

    python -m validation.requests                  the table, then beside healthy users
    python -m validation.requests --server nginx   of one server
    python -m validation.requests --turns 0        the table alone

The table is `validation.hostile`: each row is sent to a running replica (the embedded stack), the
answer is held against what is allowed there, and the server must answer a sound request after it.
At the end no part may have died, no log may show a traceback, and the bucket and the table must
hold the same recordings.

Then healthy users upload, in turns alone and beside the whole table over and over: their p95 may be
1.2 times as long (the ratio of a turn to the one before it, the median of all), and no part may
have taken 64 MiB more. A row whose server waits for seconds is left out of the turns.

Exit code: 0 all is as it should be, 1 something is not, 2 the replica could not be started.
"""

from __future__ import annotations

import itertools
import re
import socket
import struct
import sys
import threading
import time
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from select import select
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import requests

from lab.config import read_faults
from lab.faults.network import Toxiproxy
from lab.load.upload import headers, multipart, outcome
from lab.model.experiment import Cell
from lab.model.knobs import Knobs
from lab.model.load import ClosedLoad
from lab.model.replica import GATEWAY, UPLOAD_PATH, Target
from lab.observe.audit import object_ids
from lab.paths import ROOT
from lab.stack.base import Replica
from lab.stack.embedded import EmbeddedStack
from validation.command import exit_code
from validation.hostile import SERVERS, End, Hostile, get, row, rows

KNOBS: Mapping[Target, Mapping[str, Any]] = {
    "vm": {"speed": 50, "gcs_latency": "5 - 8 s"},
    "cloudrun": {
        "cloudrun_cpus": 1,
        "cloudrun_memory": "512 MiB",
        "cloudrun_concurrency": 40,
        "cloudrun_min_instances": 1,
        "cloudrun_timeout": "3 s",
        "gcs_latency": "100 - 160 ms",
    },
}
"""What differs by target: nginx's minutes are a second, and so is what a request may take; storage
answers within the same time of the wall clock."""

ASKED: Mapping[Target, Sequence[str]] = {"vm": SERVERS[:2], "cloudrun": SERVERS[2:]}
"""The servers that each target has."""

ALL: Mapping[str, Any] = {
    "global_rate_limit": "off",
    "gcs_call": "executor",
    "gcs_threads": 40,
    "backend_body": "5 MB",
    "refuse": "after_body",
}
PASSED = ("nginx", "backend", GATEWAY)
"""The parts that a request passes before anything is kept."""

ANSWERS_S, WAITS_S, QUIET_S = 10.0, 0.5, 0.5
"""Wall-clock seconds: for an answer that must come; until a server that says nothing is called
open; and of silence after which no further answer is awaited."""

NOTHING: Mapping[str, int] = MappingProxyType({})
PIECE = 64 * 1024
_ANSWER = re.compile(rb"HTTP/1\.[01] (\d{3})")
_KIND = re.compile(rb"\r\ncontent-type: *([^\r]*)", re.IGNORECASE)

SLOWER, LARGER = 1.2, 64 * 1024**2
"""How much longer p95 may take, and how many bytes more a part may hold, beside hostile clients."""

USERS, TURN_S, PACE_S = 8, 6.0, 0.02


class Connection:
    """A client's side, which reads while it sends: an answer may come before all is sent."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.socket = socket.create_connection((parts.hostname, parts.port), ANSWERS_S)
        self.received = bytearray()
        self.over = False

    def send(self, data: bytes) -> None:
        """Send as much as the server takes before it closes the connection."""
        for start in range(0, len(data), PIECE):
            self._read(0)
            if self.over:
                return
            try:
                self.socket.sendall(data[start : start + PIECE])
            except OSError:
                self.read_on(QUIET_S)
                self.over = True

    def end(self, how: End) -> None:
        """End this side."""
        with suppress(OSError):
            if how is End.HALF:
                self.socket.shutdown(socket.SHUT_WR)
            elif how is End.RESET:
                linger = struct.pack("ii", 1, 0)
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    def read_on(self, seconds: float) -> None:
        """Read until the server closes the connection, or is silent after what it has said."""
        deadline = time.monotonic() + seconds
        while not self.over and (left := deadline - time.monotonic()) > 0:
            if not self._read(min(left, QUIET_S)) and self._final():
                return

    def _final(self) -> bool:
        """Whether a last answer is here, and not only the leave to go on (100)."""
        return any(status != b"100" for status in _ANSWER.findall(self.received))

    def _read(self, seconds: float) -> bool:
        """Read what comes within so many seconds; whether anything came."""
        if not select([self.socket], [], [], seconds)[0]:
            return False
        try:
            data = self.socket.recv(PIECE)
        except OSError:
            data = b""
        self.over = self.over or not data
        self.received += data
        return bool(data)


def exchange(url: str, hostile: Hostile, allowed: frozenset[str]) -> str:
    """Send a row to a server, and say what it answered as `validation.hostile` writes it."""
    connection = Connection(url)
    with closing(connection.socket):
        for step in hostile.steps:
            if isinstance(step, bytes):
                connection.send(step)
            elif isinstance(step, End):
                connection.end(step)
                if step is not End.HALF:
                    return "-"
            else:
                time.sleep(step)
        connection.read_on(WAITS_S if "open" in allowed else ANSWERS_S)
    return said(bytes(connection.received)) or ("closed" if connection.over else "open")


def said(data: bytes) -> str:
    """The answers of a connection, ``400 bad_upload+200 ok``; empty where there is none."""
    starts = [match.start() for match in _ANSWER.finditer(data)]
    whole = [data[a:b] for a, b in itertools.pairwise([*starts, len(data)])]
    return "+".join(map(_answer, whole)) or ("no status line" if data else "")


def _answer(data: bytes) -> str:
    head, _, body = data.partition(b"\r\n\r\n")
    match = _ANSWER.match(head)
    status = int(match[1]) if match else 0
    if status < 200:
        return str(status)
    kind = _KIND.search(head)
    cause, _ = outcome(status, kind[1].decode("latin-1") if kind else "", body)
    return f"{status} {'ok' if status == 200 else cause}"


def still_serves(url: str) -> bool:
    """Whether a server answers a sound request."""
    sound = row("sound", get(), "200 ok")
    return exchange(url, sound, frozenset({"200 ok"})) == "200 ok"


def wrong(url: str, server: str, table: Sequence[Hostile]) -> Iterator[str]:
    """What a server does that it may not, a line for each row."""
    for hostile in table:
        allowed = hostile.allowed(server)
        answer = exchange(url, hostile, allowed)
        if answer not in allowed and "-" not in allowed:
            yield f"{server}: {hostile.name}: {answer}, not {' or '.join(sorted(allowed))}"
        if re.search(r"\b500\b", answer):
            yield f"{server}: {hostile.name}: {answer}"
        if not still_serves(url):
            yield f"{server}: {hostile.name}: it serves nobody any more"


def cell(target: Target) -> Cell:
    """The replica that is asked."""
    knobs = Knobs().with_settings({**ALL, **KNOBS[target]})
    load = ClosedLoad.model_validate({"users": USERS})
    return Cell.model_validate(
        {"id": "hostile", "axes": {}, "target": target, "knobs": knobs, "load": load, "seed": 1}
        | {"faults": (), "criteria": ()}
    )


@dataclass(frozen=True)
class Asked:
    """A replica that is up.

    Args:
        stack: what runs it.
        replica: its addresses.
        target: which it is.
    """

    stack: EmbeddedStack
    replica: Replica
    target: Target

    def servers(self) -> dict[str, str]:
        """Its servers that are asked, and their addresses."""
        if self.target == "vm":
            return {"nginx": self.replica.url, "uvicorn": self.replica.backend}
        return {"gateway": self.replica.url}

    def left_wrong(self, begun: Mapping[str, int] = NOTHING) -> Iterator[str]:
        """What is wrong with the replica after all rows.

        Args:
            begun: how long each log was before them, in bytes.
        """
        for part, why in self.stack.down_parts().items():
            yield f"{part}: {why}"
        for name, log in self.replica.logs.items():
            if b"Traceback" in log.read_bytes()[begun.get(name, 0) :]:
                yield f"{name}: a traceback in its log, {log}"
        stored = {str(row[0]) for row in self.replica.query("SELECT id FROM recordings")}
        if stored != object_ids(self.replica.storage, self.replica.bucket):
            yield "the bucket and the table hold different recordings"

    def memory(self) -> dict[str, int]:
        """Bytes that each part holds which a request passes; storage keeps what it is sent."""
        usage = self.replica.usage()
        return {part: usage[part].memory for part in PASSED if part in usage}


@contextmanager
def up(target: Target, results: Path) -> Iterator[Asked]:
    """The replica, while it is asked."""
    stack = EmbeddedStack(results)
    with closing(stack):
        yield Asked(stack, stack.apply(cell(target)), target)


# Healthy users.


def p95_of_users(url: str, seconds: float) -> float:
    """The p95 of the uploads of healthy users in so many wall-clock seconds, in such seconds."""
    until = time.monotonic() + seconds
    body = multipart(b"\0" * 50_000, "a.wav")

    def user(number: int) -> list[float]:
        took = []
        with requests.Session() as session:
            while time.monotonic() < until:
                begun = time.monotonic()
                sent = session.post(url + UPLOAD_PATH, data=body, headers=headers(number))
                sent.raise_for_status()
                took.append(time.monotonic() - begun)
        return took

    with ThreadPoolExecutor(USERS) as pool:
        all_took = list(itertools.chain.from_iterable(pool.map(user, range(USERS))))
    return quantiles(all_took, n=20, method="inclusive")[-1]


@contextmanager
def beset(url: str, server: str, table: Sequence[Hostile]) -> Iterator[None]:
    """Send the table over and over, a row each 20 ms at most."""
    stop = threading.Event()

    def send() -> None:
        for hostile in itertools.cycle([each for each in table if not each.slow]):
            with suppress(OSError):
                exchange(url, hostile, frozenset({"open"}) | hostile.allowed(server))
            if stop.wait(PACE_S):
                return

    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(send)
        yield
        stop.set()
    sending.result()


@dataclass(frozen=True)
class Felt:
    """What users and parts felt of hostile clients.

    Args:
        server: which of them.
        ratio: p95 beside them by p95 alone, the median of all turns.
        grown: by part, the bytes that it holds more.
    """

    server: str
    ratio: float
    grown: Mapping[str, int]

    @property
    def bad(self) -> bool:
        """Whether it was too much."""
        return self.ratio > SLOWER or any(grown > LARGER for grown in self.grown.values())

    def __str__(self) -> str:
        most = max(self.grown, key=lambda part: self.grown[part])
        grown = self.grown[most] / 1024**2
        return f"{self.server}: p95 {self.ratio:.2f} times as long, {most} {grown:+.1f} MiB at most"


def felt(asked: Asked, server: str, url: str, table: Sequence[Hostile], turns: int) -> Felt:
    """Healthy users alone and beside hostile clients, in turns."""
    latency, ratios = read_faults(ROOT / "faults")["gcs-latency"], []
    with Toxiproxy(asked.replica.toxiproxy).injected([latency], cell(asked.target).knobs):
        p95_of_users(url, TURN_S)
        before = asked.memory()
        for _ in range(turns):
            alone = p95_of_users(url, TURN_S)
            with beset(url, server, table):
                beside = p95_of_users(url, TURN_S)
            ratios.append(beside / alone)
            print(f"{server}: p95 {alone:.3f} s alone, {beside:.3f} s beside", flush=True)
    after = asked.memory()
    grown = {part: after[part] - held for part, held in before.items() if part in after}
    return Felt(server, median(ratios), grown)


def run(flags: Namespace) -> int:
    """Ask all servers; the exit code."""
    table, bad = rows(), 0
    with ExitStack() as opened:
        results = Path(opened.enter_context(TemporaryDirectory()))
        for target, names in ASKED.items():
            wanted = [name for name in names if flags.server in (None, name)]
            if wanted:
                with up(target, results / target) as asked:
                    bad += sum(_asked(asked, name, table, flags.turns) for name in wanted)
    return int(bad > 0)


def _asked(asked: Asked, server: str, table: Sequence[Hostile], turns: int) -> int:
    """How much is wrong of a server; each is printed."""
    url = asked.servers()[server]
    found = [*wrong(url, server, table), *asked.left_wrong()]
    print("\n".join([*found, f"{server}: {len(table)} requests, {len(found)} wrong"]), flush=True)
    if not turns:
        return len(found)
    users = felt(asked, server, url, table, turns)
    print(users)
    return len(found) + users.bad


def main() -> int:
    """The command; its exit code."""
    made = ArgumentParser(
        "python -m validation.requests",
        description=__doc__,
        formatter_class=RawDescriptionHelpFormatter,
    )
    made.add_argument("--server", choices=SERVERS, help="one of them (default: all)")
    made.add_argument(
        "--turns",
        type=int,
        choices=range(100),
        default=5,
        metavar="N",
        help="of healthy users; 0: the requests alone (default: 5)",
    )
    flags = made.parse_args()
    return exit_code(lambda: run(flags))


if __name__ == "__main__":
    sys.exit(main())
