"""CPU-seconds that the generator spends on an upload, against Locust's HttpUser as it comes.

Both upload the same WAV files by the same number of users, without a pause, to the same
trivial server on 127.0.0.1, one after the other in one run. The first second is left out,
and with it what starting up costs. Usage: python -m benchmarks.generator [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing as mp
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

import psutil
from pydantic import TypeAdapter

from lab.load.audio import recordings
from lab.load.driver import LoadStart, LocustLoad, generator_environment
from lab.model.evidence import Sample
from lab.model.experiment import Cell
from lab.model.knobs import Knobs
from lab.model.load import Load
from lab.model.replica import UPLOAD_PATH
from lab.model.run import LoadTick
from lab.model.units import SizeRange

USERS = 10
SECONDS = 5.0
SIZES = ("200 KB", "50 KB")
DELAY = 0.02

HTTP_USER = f"""
import os
from itertools import cycle
from pathlib import Path
from locust import HttpUser, constant, task

AUDIO = [file.read_bytes() for file in sorted(Path(os.environ["AUDIO"]).iterdir())]

class Student(HttpUser):
    wait_time = constant(0)

    def on_start(self):
        self.files = cycle(AUDIO)

    @task
    def upload(self):
        self.client.post(
            "{UPLOAD_PATH}",
            files={{"file": ("recording.wav", next(self.files), "audio/wav")}},
            headers={{"Authorization": "Bearer student-token-00000"}},
        )
"""

BODY = b'{"recording": "1"}'
ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
    b"server-timing: auth;dur=50.1, gcs;dur=3500.2, write;dur=100.3\r\n"
    b"content-length: %d\r\n\r\n" % len(BODY)
) + BODY
Count = Synchronized  # of int


async def _answer(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: Count[int]
) -> None:
    while head := await _head(reader):
        length = head.lower().split(b"content-length:")[1].split(b"\r\n")[0]
        await reader.readexactly(int(length))
        await asyncio.sleep(DELAY)
        count.value += 1
        writer.write(ANSWER)
    writer.close()


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


def _serve(port: Synchronized[int], count: Count[int]) -> None:
    async def main() -> None:
        server = await asyncio.start_server(
            lambda reader, writer: _answer(reader, writer, count), "127.0.0.1", 0, limit=2**20
        )
        port.value = server.sockets[0].getsockname()[1]
        await server.serve_forever()

    asyncio.run(main())


@contextmanager
def server() -> Iterator[tuple[str, Count[int]]]:
    """A server that answers every upload after a moment, and how many it has answered."""
    port, count = mp.Value("i", 0), mp.Value("i", 0)
    process = mp.Process(target=_serve, args=(port, count), daemon=True)
    process.start()
    deadline = time.monotonic() + 10
    while not port.value:
        if time.monotonic() > deadline:
            raise SystemExit("the benchmark's server did not start within 10 s")
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port.value}", count
    finally:
        process.terminate()
        process.join()


class Meter:
    """CPU-seconds and uploads between two moments."""

    def __init__(self, pid: int, count: Count[int]) -> None:
        self._process, self._count = psutil.Process(pid), count
        self._marks: list[tuple[float, int]] = []

    def mark(self) -> None:
        """Take both readings."""
        times = self._process.cpu_times()
        self._marks.append((times.user + times.system, self._count.value))

    def per_upload(self) -> float:
        """CPU-seconds an upload, from the first mark to the last."""
        (cpu, uploads), (cpu_end, uploads_end) = self._marks[0], self._marks[-1]
        return (cpu_end - cpu) / (uploads_end - uploads)


def ours(folder: Path, url: str, count: Count[int], size: str) -> tuple[float, float]:
    """CPU-seconds an upload, and the 95th percentile of how late it was sent."""
    load: Load = TypeAdapter(Load).validate_python(
        {"users": USERS, "ramp": "0 s", "warmup": "1 s", "window": f"{SECONDS} s", "audio": size}
    )
    cell = Cell(id="b", axes={}, knobs=Knobs(), load=load, faults=(), criteria=(), seed=1)
    meters: list[Meter] = []

    def on_start(start: LoadStart) -> None:
        meters.append(Meter(start.pid, count))

    def tick(now: LoadTick) -> None:
        if 1.0 <= now.t < 1.0 + SECONDS:
            meters[0].mark()

    samples = folder / "samples.jsonl"
    LocustLoad().run(cell, url, samples, folder / "generator.log", tick, on_start)
    lines = [line for line in samples.read_text().splitlines() if not line.startswith('{"beat"')]
    late = [Sample.model_validate_json(line) for line in lines]
    lateness = statistics.quantiles([s.sent_at - s.planned_at for s in late], n=20)[-1]
    return meters[0].per_upload(), lateness


def plain(folder: Path, url: str, count: Count[int], size: str) -> float:
    """CPU-seconds an upload of HttpUser."""
    audio = folder / "audio"
    audio.mkdir()
    for number, file in enumerate(recordings(SizeRange.parse(size), 1)):
        (audio / f"{number:02d}.wav").write_bytes(file)
    locustfile = folder / "http_user.py"
    locustfile.write_text(HTTP_USER)
    users = str(USERS)
    command = [sys.executable, "-P", "-m", "locust", "-f", str(locustfile)]
    options = ["--headless", "--only-summary", "-u", users, "-r", users, "--host", url]
    environment = {**generator_environment(), "AUDIO": str(audio)}
    before, deadline = count.value, time.monotonic() + 30
    with (folder / "http_user.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *options], stdout=log, stderr=log, env=environment, cwd=folder
        )
    try:
        while count.value < before + USERS:
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit((folder / "http_user.log").read_text())
            time.sleep(0.01)
        time.sleep(1.0)
        meter = Meter(process.pid, count)
        meter.mark()
        time.sleep(SECONDS)
        meter.mark()
        return meter.per_upload()
    finally:
        process.terminate()
        process.wait()


@dataclass(frozen=True)
class Row:
    """One size: CPU-seconds an upload of both, their ratio, and how late ours sends."""

    audio: str
    generator_cpu_s: float
    http_user_cpu_s: float
    ratio: float
    lateness_p95_s: float

    def __str__(self) -> str:
        return (
            f"{self.audio:>7}: {self.generator_cpu_s * 1e3:.2f} ms of CPU an upload, "
            f"HttpUser {self.http_user_cpu_s * 1e3:.2f} ms, ratio {self.ratio:.2f}"
        )


def compare(url: str, count: Count[int], size: str) -> Row:
    """Both generators, one after the other, with files of ``size``."""
    with tempfile.TemporaryDirectory() as name:
        own, lateness = ours(Path(name), url, count, size)
        theirs = plain(Path(name), url, count, size)
    return Row(size, own, theirs, own / theirs, lateness)


def main() -> None:
    """Measure both at each size and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    as_json = parser.parse_args().json
    with server() as (url, count):
        rows = [compare(url, count, size) for size in SIZES]
    if as_json:
        found = {"benchmark": "generator", "cpus": os.cpu_count(), "rows": list(map(asdict, rows))}
        print(json.dumps(found))
    else:
        print(*rows, sep="\n")


if __name__ == "__main__":
    main()
