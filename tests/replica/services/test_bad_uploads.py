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
