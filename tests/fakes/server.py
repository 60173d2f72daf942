"""The one server of the fake replica: uploads, objects and rows, all really there."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from lab.model.evidence import Cause
from lab.model.problem import MEDIA_TYPE
from lab.model.replica import UPLOAD_PATH
from lab.stack.base import Replica

BUCKET = "student-recordings"
READING_S = 0.02
NOTHING = {
    "pool_size": 0,
    "checked_out": 0,
    "overflow": 0,
    "waiting": 0,
    "threads_busy": 0,
    "threads_queued": 0,
    "inflight": 0,
    "loop_lag": 0.0,
    "rss": 0,
    "cpu_s": 0.0,
    "gcs_attempts": 0,
    "gcs_bytes": 0,
}
"""What a worker without a pool, threads or a loop has to say of them."""


class Server:
    """The fake replica's one server, with its objects and its rows."""

    def __init__(self, folder: Path, fails: Callable[[int], Cause | None]) -> None:
        self.evidence = folder / "evidence"
        self.evidence.mkdir(parents=True, exist_ok=True)
        self.log = folder / "server.log"
        self.log.touch()
        self.objects: set[str] = set()
        self._fails = fails
        self._uploads = 0
        self._lock = threading.RLock()
        self._rows = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        self._rows.executescript(
            "CREATE TABLE recordings (id text PRIMARY KEY, object_name text NOT NULL,"
            " created_at text NOT NULL DEFAULT CURRENT_TIMESTAMP);"
            "CREATE TABLE scores (id text PRIMARY KEY, created_at text);"
            "CREATE TABLE pg_stat_activity (backend_type text, usename text, state text);"
        )
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True),
            threading.Thread(target=self._read, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def replica(self) -> Replica:
        """Where everything is: all at one address."""
        url = f"http://127.0.0.1:{self._http.server_port}"
        return Replica(
            url=url,
            backend=url,
            monitor_dsn="",
            app_dsn="",
            storage=url,
            toxiproxy=url,
            proxies={},
            bucket=BUCKET,
            evidence=self.evidence,
            logs={"server": self.log},
            parts={"server": lambda: [os.getpid()]},
            query=self.query,
            inflight=lambda: 0,
        )

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """SQL of Postgres, as far as SQLite has the like."""
        text = re.sub(r"= ANY\(%s\)", "IN (SELECT value FROM json_each(?))", sql)
        bound = [json.dumps(value) if isinstance(value, list) else value for value in values]
        with self._lock:
            return self._rows.execute(text.replace("%s", "?"), bound).fetchall()

    def upload(self, authorised: bool, size: int) -> tuple[int, dict[str, Any]]:
        """Store a recording, or fail with the cause that is due."""
        with self._lock:
            cause = self._fails(self._uploads) if authorised else Cause.UNAUTHORIZED
            self._uploads += 1
            self._note(f"upload {self._uploads}: {cause or 'stored'}")
            if cause:
                return (401 if cause == Cause.UNAUTHORIZED else 503), {"cause": cause}
            name = str(uuid.uuid4())
            self.objects.add(f"recordings/0/{name}.wav")
            row = "INSERT INTO recordings (id, object_name) VALUES (%s, %s)"
            self.query(row, name, f"recordings/0/{name}.wav")
            return 200, {"recording": name, "bytes": size}

    def empty(self) -> None:
        """Forget every recording, and write evidence anew."""
        with self._lock:
            self.objects.clear()
            self.query("DELETE FROM recordings")
            self._uploads = 0
            self._note("ready")

    def close(self) -> None:
        """Stop listening and reading."""
        self._stop.set()
        self._http.shutdown()
        self._http.server_close()
        for thread in self._threads:
            thread.join()
        self._rows.close()

    def _note(self, line: str) -> None:
        with self.log.open("a") as file:
            file.write(line + "\n")

    def _read(self) -> None:
        """The readings that a worker of the backend writes; its counts stay 0."""
        with (self.evidence / f"worker-{os.getpid()}.jsonl").open("a", buffering=1) as file:
            while not self._stop.wait(READING_S):
                line = {"at": time.monotonic(), "pid": os.getpid(), **NOTHING}
                file.write(json.dumps(line) + "\n")


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if urlsplit(self.path).path != UPLOAD_PATH:
                self._answer(404, {})
                return
            authorised = "Authorization" in self.headers
            self._answer(*server.upload(authorised, len(body)))

        def do_GET(self) -> None:
            items = [{"name": name} for name in sorted(server.objects)]
            self._answer(200, {"items": items})

        def do_DELETE(self) -> None:
            name = unquote(urlsplit(self.path).path.rpartition("/")[2])
            there = name in server.objects
            server.objects.discard(name)
            self._answer(200 if there else 404, {})

        def _answer(self, status: int, body: Mapping[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", MEDIA_TYPE if status >= 400 else "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Server-Timing", "pool_wait;dur=0.000")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing on stderr: the server keeps its own log."""

    return Handler
