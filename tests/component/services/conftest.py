"""The service itself, on a database of a file, and before a speech service of a test's own."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
import uvicorn
from fastapi import FastAPI
from sqlalchemy.orm import Session

from lab.load.audio import voice, wav
from lab.model.journeys import REQUESTS, Journey
from lab.model.knobs import Knobs
from lab.model.replica import BUCKET, token
from lab.services.backend.database import Base, Recording, Score, Student, StudentProgress
from lab.services.backend.main import create_app
from lab.services.backend.settings import BackendSettings
from lab.services.speech.app import application
from lab.stack.ports import HOST, free
from tests.live import PATIENCE_S, wait_until

STUDENTS = 3
RECORDING = wav(20_000, voice(seed=7))
BEARER = {"Authorization": f"Bearer {token(0)}"}


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """An ASGI application, served from a thread; its address."""
    [port] = free(1)
    config = uvicorn.Config(app, host=HOST, port=port, log_level="critical")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield f"http://{HOST}:{port}"
    finally:
        server.should_exit = True
        thread.join()


class Service:
    """The running service, and what is in its database."""

    def __init__(self, url: str, app: FastAPI, evidence: Path) -> None:
        self.url, self.app, self._evidence = url, app, evidence
        self._engine = app.state.database.engine
        Base.metadata.create_all(self._engine)
        students = [Student(id=n, token=token(n), name=f"Student {n}") for n in range(STUDENTS)]
        progress = [StudentProgress(student_id=n, recordings=0) for n in range(STUDENTS)]
        self.add(*students)
        self.add(*progress)

    def add(self, *rows: Base) -> None:
        """Rows more."""
        with Session(self._engine) as session:
            session.add_all(rows)
            session.commit()

    def scores(self) -> dict[str, tuple[int, float]]:
        """By assessment, whose it was and what it came to."""
        with Session(self._engine) as session:
            return {row.id: (row.student_id, row.score) for row in session.query(Score)}

    def recordings(self) -> int:
        with Session(self._engine) as session:
            return session.query(Recording).count()

    def ask(self, journey: Journey, **request: Any) -> requests.Response:
        """A student's request; with a recording and a token, where nothing else is said."""
        how = REQUESTS[journey]
        given: dict[str, Any] = {"headers": BEARER}
        if how.audio:
            given["files"] = {"file": ("a.wav", RECORDING, "audio/wav")}
        url = self.url + how.path
        return requests.request(how.method, url, timeout=PATIENCE_S, **{**given, **request})

    def records(self) -> list[dict[str, Any]]:
        """What the worker has written of each request."""
        [file] = self._evidence.glob("uploads-*.jsonl")
        return [json.loads(line) for line in file.read_text().splitlines()]


Serve = Callable[..., Service]


@pytest.fixture
def recogniser() -> Iterator[str]:
    """The address of a speech service, the lab's own."""
    with serving(application) as url:
        yield url


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts the service at these knobs, before the speech service of an address."""
    with ExitStack() as running:

        def start(speech_url: str, **knobs: Any) -> Service:
            settings = BackendSettings(
                knobs=Knobs().with_settings(knobs),
                database_url=f"sqlite:///{tmp_path / 'students.db'}",
                storage_url=f"http://{HOST}:1",
                speech_url=speech_url,
                bucket=BUCKET,
                evidence=tmp_path / "evidence",
            )
            app = create_app(settings)
            url = running.enter_context(serving(app))
            return Service(url, app, tmp_path / "evidence")

        yield start


@contextmanager
def misbehaving(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """A speech service that does to each request what the test says; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            answer(self)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer((HOST, 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://{HOST}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def saying(status: int, body: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
    """Answers so."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer
