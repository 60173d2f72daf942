from __future__ import annotations

import asyncio

import pytest
from starlette.datastructures import UploadFile
from starlette.requests import Request

from lab.load import upload
from lab.model.evidence import Cause
from lab.model.replica import ADDRESS_HEADER

PROBLEM = "application/problem+json"
JSON = "application/json"
HTML = "text/html"


@pytest.mark.parametrize(
    ("status", "kind", "body", "cause"),
    [
        (200, JSON, b'{"recording": "a1"}', None),
        (200, JSON, b'{"recording": ""}', Cause.INTERNAL_ERROR),
        (200, JSON, b'{"recording": 7}', Cause.INTERNAL_ERROR),
        (200, JSON, b'{"id": "a1"}', Cause.INTERNAL_ERROR),
        (200, JSON, b"[]", Cause.INTERNAL_ERROR),
        (200, HTML, b"<html>", Cause.INTERNAL_ERROR),
        (204, "", b"", Cause.INTERNAL_ERROR),
        (302, HTML, b"", Cause.INTERNAL_ERROR),
        (500, PROBLEM, b'{"cause": "pool_timeout"}', Cause.POOL_TIMEOUT),
        (503, PROBLEM + "; charset=utf-8", b'{"cause": "db_refused"}', Cause.DB_REFUSED),
        (503, "Application/Problem+JSON", b'{"cause": "overloaded"}', Cause.OVERLOADED),
        (502, PROBLEM, b'{"cause": "gcs_error"}', Cause.GCS_ERROR),
        (429, PROBLEM, b'{"cause": "rate_limited"}', Cause.RATE_LIMITED),
        (500, PROBLEM, b'{"cause": "something new"}', Cause.INTERNAL_ERROR),
        (504, PROBLEM, b'{"title": "no cause"}', Cause.GATEWAY_TIMEOUT),
        (500, PROBLEM, b"\xff not JSON", Cause.INTERNAL_ERROR),
        (500, JSON, b'{"cause": "pool_timeout"}', Cause.INTERNAL_ERROR),
        (400, HTML, b"", Cause.BAD_UPLOAD),
        (401, HTML, b"", Cause.UNAUTHORIZED),
        (404, HTML, b"", Cause.NOT_FOUND),
        (405, HTML, b"", Cause.METHOD_NOT_ALLOWED),
        (415, HTML, b"", Cause.BAD_UPLOAD),
        (501, HTML, b"", Cause.BAD_UPLOAD),
        (505, HTML, b"", Cause.BAD_UPLOAD),
        (500, HTML + "; charset=utf-8", b"<html>", Cause.PROXY_ERROR),
        (500, "text/plain", b"Internal Server Error", Cause.INTERNAL_ERROR),
        (413, HTML, b"<html>", Cause.BODY_TOO_LARGE),
        (429, HTML, b"", Cause.RATE_LIMITED),
        (502, HTML, b"<html>", Cause.BAD_GATEWAY),
        (503, HTML, b"<html>", Cause.INTERNAL_ERROR),
        (504, HTML, b"<html>", Cause.GATEWAY_TIMEOUT),
    ],
)
def test_what_an_answer_means(status: int, kind: str, body: bytes, cause: Cause | None) -> None:
    recording = "a1" if cause is None else None
    assert upload.outcome(status, kind, body) == (cause, recording)


@pytest.mark.parametrize(
    ("header", "worker"),
    [
        ("31686", 31686),
        ("0", 0),
        ("", None),
        ("-1", None),
        ("1e9", None),
        ("²", None),
        ("1" * 10, None),
    ],
)
def test_an_answer_names_its_worker_if_one_gave_it(header: str, worker: int | None) -> None:
    assert upload.worker_of(header) == worker


@pytest.mark.parametrize(
    ("header", "speed", "stages"),
    [
        ("auth;dur=50.1, gcs;dur=3500.2", 1, {"auth": 0.0501, "gcs": 3.5002}),
        ("auth;dur=10,gcs;dur=700", 5, {"auth": 0.05, "gcs": 3.5}),
        ('gcs;desc="to, the bucket";dur=2000', 1, {"gcs": 2.0}),
        ("cache;desc=hit, gcs ; dur=1.5", 1, {"gcs": 0.0015}),
        ("miss", 1, {}),
        ("", 1, {}),
    ],
)
def test_stages_are_read_in_real_world_seconds(
    header: str, speed: float, stages: dict[str, float]
) -> None:
    assert upload.stages(header, speed) == pytest.approx(stages)


def parsed(body: bytes, headers: dict[str, str]) -> tuple[str | None, str | None, bytes]:
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def read() -> tuple[str | None, str | None, bytes]:
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        async with Request({"type": "http", "headers": raw}, receive).form() as form:
            assert list(form) == ["file"]
            file = form["file"]
            assert isinstance(file, UploadFile)
            return file.filename, file.content_type, await file.read()

    return asyncio.run(read())


def test_a_server_reads_the_file_back_from_the_multipart_body() -> None:
    audio = bytes(range(256)) * 40 + b"\r\n--"
    body = upload.multipart(audio, "recording-01.wav")
    read = parsed(body, upload.headers(3))
    assert read == ("recording-01.wav", "audio/wav", audio)


def test_each_student_has_a_token_and_an_address() -> None:
    sent = upload.headers(251)
    assert sent["Authorization"] == "Bearer student-token-00251"
    assert sent[ADDRESS_HEADER] == "198.18.1.2"
