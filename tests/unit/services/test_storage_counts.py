"""Attempts, failures, retries and bytes of storage calls, held against what a server saw."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from google.api_core.exceptions import GoogleAPICallError

from lab.model.knobs import Knobs
from lab.services.backend.core.evidence import Gauges
from lab.services.backend.core.thread_pool import ThreadPools
from lab.services.backend.core.uploads import Timing
from lab.services.backend.services.audio_upload import AudioUploader
from lab.services.backend.settings import BackendSettings

SIZE = 5000


class Storage:
    """A server of uploads that answers the first ones of each object as it is told to.

    Attributes:
        seen: object, status and bytes of each upload; a status of 0 is a broken connection.
        looked: how often the library asked for the bucket's metadata, beside the uploads.
    """

    def __init__(self, statuses: dict[str, list[int]]) -> None:
        self.seen: list[tuple[str, int, int]] = []
        self.looked = 0
        self._statuses = {name: iter(codes) for name, codes in statuses.items()}
        self._lock = threading.Lock()

    def look(self) -> None:
        """Somebody asked for the bucket's metadata."""
        with self._lock:
            self.looked += 1

    def answer(self, body: bytes) -> int:
        """The status of an upload; the object's name stands in the JSON of its first part."""
        name = json.loads(body.split(b"\r\n\r\n")[1].split(b"\r\n--")[0])["name"]
        with self._lock:
            status = next(self._statuses[name], 200)
            self.seen.append((name, status, len(body)))
        return status


@contextmanager
def served(storage: Storage) -> Iterator[str]:
    """Its address, while it listens."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status = storage.answer(self.rfile.read(int(self.headers["Content-Length"])))
            if status:
                body = b"{}"
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def do_GET(self) -> None:
            storage.look()
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def uploaded(url: str, names: list[str], gauges: Gauges) -> None:
    """Upload these objects, four at once in threads that are used again."""
    settings = BackendSettings(Knobs(speed=50), "", url, "", "recordings", Path())
    pools = ThreadPools(settings.knobs)
    uploader = AudioUploader(settings, pools, gauges)

    def one(name: str) -> None:
        try:
            asyncio.run(uploader.upload_audio(name, b"\0" * SIZE, "audio/wav", Timing()))
        except GoogleAPICallError:
            assert name.startswith("refused")

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(one, names))
    pools.close()


@pytest.mark.parametrize("turns", [1, 3])
def test_what_is_counted_is_what_the_server_saw(turns: int) -> None:
    statuses = {
        "at-once": [],
        "second": [503],
        "fourth": [500, 429, 502],
        "broken": [0, 0],
        "refused-for-good": [403],
    }
    names = [f"{name}-{turn}" for turn in range(turns) for name in statuses]
    storage = Storage({name: statuses[name.rpartition("-")[0]] for name in names})
    gauges = Gauges()
    with served(storage) as url:
        uploaded(url, names, gauges)
        of_uploads = storage.seen
        good = sum(status == 200 for _, status, _ in of_uploads)
        while gauges.gcs_attempts > gauges.gcs_failed + good:
            time.sleep(0.01)  # the library asks for the bucket's metadata in a thread of its own
    assert gauges.gcs_attempts == len(of_uploads) + storage.looked
    failed = sum(status != 200 for _, status, _ in of_uploads)
    assert gauges.gcs_failed == failed + storage.looked
    assert gauges.gcs_retried == len(of_uploads) - len(names) == 6 * turns
    assert gauges.gcs_bytes == sum(size for *_, size in of_uploads)
    stored = [size for _, status, size in of_uploads if status == 200]
    assert len(stored) == 4 * turns
    assert gauges.gcs_acknowledged_bytes == sum(stored) > 4 * turns * SIZE
