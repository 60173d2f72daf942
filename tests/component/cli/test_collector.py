"""A run that is posted to a collector of OpenTelemetry, and the ways in which one may refuse."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from lab.cli import collector
from lab.report.exports.formats import otlp
from lab.store import RunFolder
from tests.cli_fixture import Command, the_line
from validation.fresh_run import make_fresh


@dataclass
class Answer:
    """What the collector answers."""

    status: int = 200
    body: bytes = b'{"partialSuccess":{}}'
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Collector:
    """An HTTP server that keeps what it is sent, and answers in turn; then with the last."""

    port: int = 0
    answers: list[Answer] = field(default_factory=lambda: [Answer()])
    taken: list[tuple[str, str, Any]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answer(self) -> Answer:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def spans(self) -> list[dict[str, Any]]:
        """All spans of every request."""
        return [
            span
            for _, _, body in self.taken
            for resource in body["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]


@pytest.fixture
def server() -> Iterator[Collector]:
    known = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            known.taken.append((self.path, self.headers["Content-Type"], json.loads(body)))
            answer = known.answer()
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, *_arguments: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        known.port = http.server_address[1]
        thread = Thread(target=http.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield known
        http.shutdown()
        thread.join()


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return make_fresh(tmp_path / "results")


@pytest.mark.parametrize("end", ["", "/", "/v1/traces", "/v1/traces/"])
def test_every_span_comes_in_batches_to_the_path_of_the_protocol(
    lab: Command,
    run: RunFolder,
    server: Collector,
    monkeypatch: pytest.MonkeyPatch,
    end: str,
) -> None:
    monkeypatch.setattr(otlp, "BATCH", 50)
    ended = lab("export", run.path, "--to", "otlp", "--endpoint", server.url + end)
    assert (ended.code, ended.out) == (0, "")
    written = lab("export", run.path, "--to", "otlp", "-o", "-").out.splitlines()
    assert [body for _, _, body in server.taken] == [json.loads(line) for line in written]
    assert {(path, kind) for path, kind, _ in server.taken} == {("/v1/traces", "application/json")}
    assert len(server.taken) > 2
    spans = len(server.spans())
    assert ended.err == (
        f"sent {spans} spans in {len(server.taken)} requests to {server.url}/v1/traces\n"
    )


def test_a_busy_collector_is_asked_again_when_it_says(
    lab: Command, run: RunFolder, server: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("lab.cli.collector.time.sleep", pauses.append)
    server.answers = [
        Answer(429, headers={"Retry-After": "7"}),
        Answer(503),
        Answer(502, headers={"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}),
        Answer(504, headers={"Retry-After": "86400"}),
        Answer(),
    ]
    ended = lab("export", run.path, "--to", "otlp", "--endpoint", server.url)
    assert (ended.code, pauses) == (0, [7.0, 1.0, 1.0, collector.MAX_PAUSE_S])
    first, *again = server.taken
    assert again[:4] == [first] * 4


REFUSALS: dict[str, tuple[Answer, str]] = {
    "not JSON": (
        Answer(415, b"unsupported\nmedia type"),
        "/v1/traces answered 415: unsupported media type - see whether it takes OTLP as JSON",
    ),
    "another path": (Answer(404, b""), "/v1/traces answered 404 - see whether it takes OTLP"),
    "elsewhere": (
        Answer(307, b"", {"Location": "http://127.0.0.1:1/"}),
        "/v1/traces answered 307 - see whether it takes OTLP",
    ),
    "busy for ever": (Answer(503, b"full"), "/v1/traces answered 503: full - see whether"),
    "a part": (
        Answer(body=b'{"partialSuccess":{"rejectedSpans":"3","errorMessage":"too old"}}'),
        "/v1/traces did not take 3 spans: too old - see what its log says",
    ),
    "escapes": (Answer(400, b"\x1b]0;x\x07<b>"), "/v1/traces answered 400: \\x1b]0;x\\x07<b> -"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_a_collector_does_not_take_is_one_line(
    lab: Command,
    run: RunFolder,
    server: Collector,
    monkeypatch: pytest.MonkeyPatch,
    case: str,
) -> None:
    monkeypatch.setattr("lab.cli.collector.time.sleep", lambda _seconds: None)
    answer, says = REFUSALS[case]
    server.answers = [answer]
    ended = lab("export", run.path, "--to", "otlp", "--endpoint", server.url)
    assert (ended.code, ended.out) == (3, "")
    assert says in the_line(ended.err)
    assert len(server.taken) == (1 + collector.TRIES if case == "busy for ever" else 1)


def test_an_answer_of_another_form_is_taken_as_it_is(
    lab: Command, run: RunFolder, server: Collector
) -> None:
    for body in (b"", b"null", b"[1]", b'{"partialSuccess":{"rejectedSpans":"many"}}'):
        server.answers = [Answer(body=body)]
        assert lab("export", run.path, "--to", "otlp", "--endpoint", server.url).code == 0


def test_how_much_was_sent_before_it_stopped_is_told(
    lab: Command, run: RunFolder, server: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otlp, "BATCH", 50)
    server.answers = [Answer(), Answer(400)]
    ended = lab("export", run.path, "--to", "otlp", "--endpoint", server.url)
    [first, _] = server.taken
    sent = len(first[2]["resourceSpans"][0]["scopeSpans"][0]["spans"])
    assert f'answered 400: {"{"}"partialSuccess":{"{}"}{"}"}, after {sent} spans were sent' in (
        the_line(ended.err)
    )


def test_where_nobody_listens_is_told(lab: Command, run: RunFolder, server: Collector) -> None:
    closed = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    port = closed.server_address[1]
    closed.server_close()
    ended = lab("export", run.path, "--to", "otlp", "--endpoint", f"http://127.0.0.1:{port}")
    assert (ended.code, server.taken) == (3, [])
    assert the_line(ended.err) == (
        f"http://127.0.0.1:{port}/v1/traces: nobody listens there, or the connection was cut -"
        " start a collector that takes OTLP over HTTP, or name another with --endpoint"
    )


@pytest.mark.parametrize(
    "endpoint",
    ["", "collector", "localhost:4318", "ftp://x", "http://", "http://x:port", "http://["],
)
def test_what_is_no_address_is_refused(lab: Command, run: RunFolder, endpoint: str) -> None:
    ended = lab("export", run.path, "--to", "otlp", "--endpoint", endpoint)
    assert ended.code == 2
    assert the_line(ended.err) == (
        f"--endpoint: '{endpoint}' is no address of HTTP - write it as http://127.0.0.1:4318"
    )
