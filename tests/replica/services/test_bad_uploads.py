"""Uploads that are wrong: a 4xx with its cause, never a 500, and nothing left behind."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests

from lab.load.upload import headers, multipart, outcome
from lab.model.evidence import Cause
from lab.model.replica import REQUEST_HEADER, STUDENTS, UPLOAD_PATH, token
from tests.live import PATIENCE_S, Live, left_behind, raw, wait_until

pytestmark = pytest.mark.replica

WAV = ("a", b"\0" * 500, "audio/wav")
BEARER = {"Authorization": f"Bearer {token(0)}"}
LARGE = multipart(b"\0" * 2_000_000, "a.wav")
WHOLE = multipart(b"\0" * 50_000, "a.wav")

CASES: dict[str, tuple[dict[str, Any], int, Cause]] = {
    "no token": ({"headers": {}, "files": {"file": WAV}}, 401, Cause.UNAUTHORIZED),
    "a token nobody has": (
        {"headers": {"Authorization": f"Bearer {token(STUDENTS)}"}, "files": {"file": WAV}},
        401,
        Cause.UNAUTHORIZED,
    ),
    "a token of another scheme": (
        {"headers": {"Authorization": f"Basic {token(0)}"}, "files": {"file": WAV}},
        401,
        Cause.UNAUTHORIZED,
    ),
    "an empty token": (
        {"headers": {"Authorization": "Bearer "}, "files": {"file": WAV}},
        401,
        Cause.UNAUTHORIZED,
    ),
    "no body": ({"headers": BEARER}, 422, Cause.BAD_UPLOAD),
    "a form without the file": (
        {"headers": BEARER, "files": {"other": WAV}},
        422,
        Cause.BAD_UPLOAD,
    ),
    "a field instead of a file": (
        {"headers": BEARER, "files": {"file": (None, "text")}},
        422,
        Cause.BAD_UPLOAD,
    ),
    "an empty file": (
        {"headers": BEARER, "files": {"file": ("a.wav", b"", "audio/wav")}},
        400,
        Cause.BAD_UPLOAD,
    ),
    "a wrong content type": (
        {"headers": BEARER, "files": {"file": ("a.txt", b"text", "text/plain")}},
        415,
        Cause.BAD_UPLOAD,
    ),
    "no content type": (
        {"headers": BEARER, "files": {"file": ("a", b"text")}},
        415,
        Cause.BAD_UPLOAD,
    ),
    "JSON instead of a form": ({"headers": BEARER, "json": {"file": "x"}}, 422, Cause.BAD_UPLOAD),
    "a form without a boundary": (
        {"headers": {**BEARER, "Content-Type": "multipart/form-data"}, "data": b"x"},
        400,
        Cause.BAD_UPLOAD,
    ),
    "a form that is none": (
        {"headers": {**BEARER, "Content-Type": "multipart/form-data; boundary=b"}, "data": b"x"},
        400,
        Cause.BAD_UPLOAD,
    ),
    "a form that ends half-way": (
        {"headers": headers(0), "data": WHOLE[:25_000]},
        422,
        Cause.BAD_UPLOAD,
    ),
}


@pytest.mark.parametrize("through", ["nginx", "backend"])
@pytest.mark.parametrize("case", CASES)
def test_a_wrong_upload_is_told_what_is_wrong(live: Live, case: str, through: str) -> None:
    request, status, cause = CASES[case]
    replica = live({})
    url = replica.url if through == "nginx" else replica.backend
    answer = requests.post(url + UPLOAD_PATH, timeout=PATIENCE_S, **request)
    body = answer.json()
    assert (answer.status_code, body["cause"]) == (status, cause)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert body["status"] == status
    assert body["type"] == f"urn:problem:{cause}"
    assert body["detail"]
    assert left_behind(replica) == (0, 0)


@pytest.mark.parametrize(
    ("kind", "detail"),
    [
        (None, "the file has no content type; send it as audio/wav"),
        ("Text/Plain", "'Text/Plain' is not audio/*; send a WAV file"),
        ("Audio/WAV", None),
        ("audio/wav; rate=16000", None),
    ],
)
def test_a_content_type_is_audio_in_any_case_and_a_missing_one_is_told(
    live: Live, kind: str | None, detail: str | None
) -> None:
    url = live({"gcs_latency": "1 ms"}).url
    file = ("a.wav", WAV[1], kind) if kind else WAV[:2]
    answer = requests.post(
        url + UPLOAD_PATH, timeout=PATIENCE_S, headers=BEARER, files={"file": file}
    )
    assert answer.status_code == (415 if detail else 200)
    assert answer.json().get("detail") == detail


@pytest.mark.parametrize(
    "kind",
    [
        b"audio/wav\0",
        b"audio/wav\n",
        b"audio/wav; a=\x01",
        b"audio/wav; a=\xff",
        b"audio/" + b"w" * 999,
    ],
)
def test_a_media_type_that_storage_cannot_be_told_is_the_uploads_own_fault(
    live: Live, kind: bytes
) -> None:
    replica = live({"gcs_latency": "1 ms"})
    body = multipart(WAV[1], "a.wav").replace(b"audio/wav", kind)
    answer = requests.post(
        replica.url + UPLOAD_PATH, data=body, headers=headers(0), timeout=PATIENCE_S
    )
    assert answer.status_code in (400, 415)
    assert answer.json()["cause"] == Cause.BAD_UPLOAD
    assert left_behind(replica) == (0, 0)


@pytest.mark.parametrize("name", ["a\0b.wav", "../../etc/passwd", "\x1b]0;x\x07.wav", "x" * 4000])
def test_a_file_may_be_called_anything(live: Live, name: str) -> None:
    """No name is used for anything: an object is called by its recording's own id."""
    replica = live({"gcs_latency": "1 ms"})
    answer = requests.post(
        replica.url + UPLOAD_PATH,
        data=multipart(WAV[1], name),
        headers=headers(0),
        timeout=PATIENCE_S,
    )
    assert answer.status_code == 200
    assert left_behind(replica) == (1, 1)


@pytest.mark.parametrize(
    ("method", "path", "status", "cause"),
    [
        ("GET", "/api/nothing", 404, Cause.NOT_FOUND),
        ("GET", "/nothing", 404, Cause.NOT_FOUND),
        ("GET", UPLOAD_PATH, 405, Cause.METHOD_NOT_ALLOWED),
        ("POST", "/health", 405, Cause.METHOD_NOT_ALLOWED),
    ],
)
def test_a_path_or_method_that_is_not_there_has_a_cause_of_its_own(
    live: Live, method: str, path: str, status: int, cause: Cause
) -> None:
    replica = live({})
    answer = requests.request(method, replica.backend + path, timeout=PATIENCE_S)
    assert (answer.status_code, answer.json()["cause"]) == (status, cause)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert (status == 405) == ("Allow" in answer.headers)
    answer = requests.request(method, replica.url + path, timeout=PATIENCE_S)
    kind = answer.headers["Content-Type"]
    assert outcome(answer.status_code, kind, answer.content) == (cause, None)


@pytest.mark.knob("backend_body")
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_above_the_backends_own_limit_is_refused_while_it_comes(
    live: Live, chunked: bool
) -> None:
    """nginx lets it pass; a client that says no size is counted as it sends."""
    replica = live({"backend_body": "1 MB", "nginx_body": "off", "refuse": "after_body"})
    parts = [LARGE[start : start + 50_000] for start in range(0, len(LARGE), 50_000)]
    for url in (replica.url, replica.backend):
        body = iter(parts) if chunked else LARGE
        answer = requests.post(url + UPLOAD_PATH, data=body, headers=headers(0), timeout=PATIENCE_S)
        assert (answer.status_code, answer.json()["cause"]) == (413, Cause.UPLOAD_TOO_LARGE)
        assert answer.json()["detail"] == "the body is larger than 1 MB"
    assert left_behind(replica) == (0, 0)
    replica = live({"nginx_body": "off", "gcs_latency": "1 ms"})
    answer = requests.post(
        replica.url + UPLOAD_PATH, data=LARGE, headers=headers(0), timeout=PATIENCE_S
    )
    assert answer.status_code == 200


def answered(live: Live, request: str) -> list[tuple[int, str | None]]:
    """Status and cause of the uploads with this id that the workers have answered."""
    files = live.stack.backend.evidence.glob("uploads-*.jsonl")
    lines = [json.loads(line) for file in files for line in file.read_text().split("\n")[:-1]]
    ended = (line for line in lines if line["request"] == request and line["status"])
    return [(line["status"], line["cause"]) for line in ended]


@pytest.mark.parametrize("through", ["nginx", "backend"])
def test_a_body_that_stops_half_way_leaves_nothing(live: Live, through: str) -> None:
    replica = live({})
    logs = {name: replica.logs[name].stat().st_size for name in ("backend", "nginx-access")}
    with raw(replica.url if through == "nginx" else replica.backend) as connection:
        fields = {"Host": "lab", **headers(0), "Content-Length": str(len(WHOLE))}
        fields[REQUEST_HEADER] = "left"
        lines = [f"POST {UPLOAD_PATH} HTTP/1.1", *(f"{k}: {v}" for k, v in fields.items()), "", ""]
        connection.sendall("\r\n".join(lines).encode() + WHOLE[:25_000])
        if through == "backend":
            wait_until(lambda: live.health()["uploads_inflight"] == 1)
    wait_until(lambda: live.health()["uploads_inflight"] == 0)
    if through == "backend":  # whoever left sent nothing that was bad
        wait_until(lambda: answered(live, "left"))
        assert answered(live, "left") == [(499, None)]
    if through == "nginx":
        with replica.logs["nginx-access"].open() as log:
            log.seek(logs["nginx-access"])
            wait_until(lambda: (line := log.readline()) and 400 <= json.loads(line)["status"] < 500)
    with replica.logs["backend"].open() as log:
        log.seek(logs["backend"])
        assert "Traceback" not in log.read()
    assert left_behind(replica) == (0, 0)


def test_a_body_above_the_limit_is_refused_by_nginx(live: Live) -> None:
    replica = live({"nginx": "as-found"})
    body = multipart(b"\0" * (1024**2 + 1), "a.wav")
    answer = requests.post(
        replica.url + UPLOAD_PATH, data=body, headers=headers(0), timeout=PATIENCE_S
    )
    assert answer.status_code == 413
    kind = answer.headers["Content-Type"]
    assert outcome(413, kind, answer.content) == (Cause.BODY_TOO_LARGE, None)
    assert left_behind(replica) == (0, 0)
