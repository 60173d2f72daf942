"""Rate limits and backpressure: their knobs on a running replica, and the limiter alone."""

from __future__ import annotations

import asyncio
import http.client
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from select import select
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from starlette.requests import Request

from lab.load.upload import headers, multipart
from lab.model.knobs import Knobs
from lab.model.replica import UPLOAD_PATH
from lab.services.backend.core.middleware import RateLimiter, by_address, by_user
from tests.live import Live, causes, upload, uploads, wait_until

UNREAD_S = 0.2
"""Wall-clock seconds in which a refusal that waits for nothing is here; a body is awaited 5 s."""


def make_request(peer: str = "127.0.0.1", **sent: str) -> Request:
    fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in sent.items()]
    return Request({"type": "http", "headers": fields, "client": (peer, 1)})


@pytest.mark.replica
@pytest.mark.knob("global_rate_limit")
def test_requests_past_the_global_limit_are_refused(live: Live) -> None:
    replica = live({"global_rate_limit": "5/h"})
    answers = [requests.get(f"{replica.backend}/health", timeout=5) for _ in range(7)]
    refused = [answer for answer in answers if answer.status_code != 200]
    assert len(refused) in (2, 3)  # nginx may have asked once, to see that all is ready
    assert answers[-len(refused) :] == refused
    assert {answer.status_code for answer in refused} == {429}
    assert {answer.json()["cause"] for answer in refused} == {"rate_limited"}
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in refused)
    replica = live({"global_rate_limit": "off"})
    answers = [requests.get(f"{replica.backend}/health", timeout=5) for _ in range(8)]
    assert {answer.status_code for answer in answers} == {200}


@pytest.mark.replica
@pytest.mark.knob("rate_limit_key", "nginx")
@pytest.mark.parametrize(
    ("nginx", "key", "another_is_served"),
    [
        ("recommended", "forwarded", True),
        ("recommended", "peer", False),
        ("as-found", "forwarded", False),
    ],
)
def test_whom_the_global_limit_tells_apart(
    live: Live, nginx: str, key: str, another_is_served: bool
) -> None:
    replica = live({"nginx": nginx, "rate_limit_key": key, "global_rate_limit": "3/h"})
    mine = [upload(replica.url, student=1) for _ in range(4)]
    assert causes(mine)["rate_limited"] >= 1
    other = upload(replica.url, student=2)
    assert causes([other]) == {"ok" if another_is_served else "rate_limited": 1}


@pytest.mark.replica
@pytest.mark.knob("upload_rate_limit")
def test_uploads_past_a_users_limit_are_refused(live: Live) -> None:
    replica = live({"upload_rate_limit": "2/h"})
    answers = [upload(replica.url, student=1) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[-1].json()["cause"] == "rate_limited"
    assert int(answers[-1].headers["Retry-After"]) >= 1
    assert upload(replica.url, student=2).status_code == 200
    replica = live({"upload_rate_limit": "off"})
    assert causes([upload(replica.url, student=1) for _ in range(5)]) == {"ok": 5}


@pytest.mark.replica
@pytest.mark.knob("max_inflight_uploads", "refuse")
@pytest.mark.parametrize("refuse", ["before_body", "after_body"])
def test_an_upload_past_the_limit_is_refused_unread_or_once_it_is_read(
    live: Live, refuse: str
) -> None:
    replica = live({"max_inflight_uploads": 1, "gcs_call": "executor", "refuse": refuse})
    body = multipart(b"\0" * 500_000, "a.wav")
    with live.slow("gcs", "20 s"), ThreadPoolExecutor(1) as pool:
        first = pool.submit(upload, replica.backend)
        wait_until(lambda: live.health()["uploads_inflight"] == 1)
        connection = http.client.HTTPConnection(urlsplit(replica.backend).netloc, timeout=10)
        with closing(connection):
            connection.putrequest("POST", UPLOAD_PATH)
            for name, value in {**headers(1), "Content-Length": str(len(body))}.items():
                connection.putheader(name, value)
            connection.endheaders()  # and not one byte of the body
            answered, _, _ = select([connection.sock], [], [], UNREAD_S)
            assert bool(answered) == (refuse == "before_body")
            if not answered:
                connection.send(body)
            answer = connection.getresponse()
            problem = json.loads(answer.read())
        assert not first.done()
    assert (answer.status, problem["cause"]) == (503, "overloaded")
    assert answer.headers["Retry-After"] == "5"
    assert first.result().status_code == 200
    assert upload(replica.backend).status_code == 200  # what has ended no longer counts


@pytest.mark.replica
@pytest.mark.knob("refuse")
@pytest.mark.parametrize("limit", [{"max_inflight_uploads": 1}, {"global_rate_limit": "2/h"}])
def test_who_is_refused_after_the_body_hears_of_it_through_nginx(
    live: Live, limit: dict[str, Any]
) -> None:
    """Before the body, nginx is still writing when the connection is reset, and answers 502."""
    settings = {"gcs_call": "executor", "nginx_body": "off", **limit}
    replica = live({**settings, "refuse": "after_body"})
    with live.slow("gcs", "15 s"):
        found = causes(uploads(replica.url, 20, size=900_000))
    [refused] = found.keys() - {"ok"}
    assert refused in ("overloaded", "rate_limited")
    assert sum(found.values()) == 20


def test_a_limit_counts_within_a_window_that_slides() -> None:
    now = [100.0]
    limiter = RateLimiter(by_user, clock=lambda: now[0])

    def allowed() -> tuple[bool, dict[str, int]]:
        return asyncio.run(limiter.check_rate_limit(make_request(), 2, 10.0))

    assert allowed() == (True, {"limit": 2, "remaining": 1, "retry_after": 0})
    now[0] = 104.0
    assert allowed() == (True, {"limit": 2, "remaining": 0, "retry_after": 0})
    now[0] = 107.5
    assert allowed() == (False, {"limit": 2, "remaining": 0, "retry_after": 3})
    now[0] = 110.0  # the first has left the window, and the refused one never was in it
    assert allowed()[0] is True
    assert allowed()[0] is False


@pytest.mark.parametrize(
    ("key", "forwarded", "address"),
    [
        ("peer", "", "10.0.0.9"),
        ("peer", "198.18.0.1", "10.0.0.9"),
        ("forwarded", "", "10.0.0.9"),
        ("forwarded", "198.18.0.1", "198.18.0.1"),
        ("forwarded", "1.2.3.4, 198.18.0.1", "198.18.0.1"),  # the first is the client's own say
    ],
)
def test_the_address_that_a_request_counts_for(key: str, forwarded: str, address: str) -> None:
    of = by_address(Knobs().with_settings({"rate_limit_key": key}))
    assert of(make_request("10.0.0.9", x_forwarded_for=forwarded)) == address
