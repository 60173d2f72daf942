"""Which requests Locust's page answers."""

from __future__ import annotations

import pytest

from lab.load.page import CHANGES, PageGuard

TARGET = "http://127.0.0.1:8080"
GUARD = PageGuard(8089, TARGET)
OWN = "http://127.0.0.1:8089"
SERVED = "this page is served as 127.0.0.1:8089 and localhost:8089 only"
ELSEWHERE = "a page of another origin may not ask this one"
NOT_FROM_HERE = "what changes something must come from this page"
ONLY_REPLICA = f"users upload to {TARGET} only: it is the replica that is up"


@pytest.mark.parametrize(
    ("method", "path", "headers", "hosts", "reason"),
    [
        # what the page itself and a program on this machine ask
        ("GET", "/", {}, [], None),
        ("GET", "/stats/requests", {"Referer": f"{OWN}/"}, [], None),
        ("POST", "/swarm", {}, [TARGET], None),
        ("POST", "/swarm", {"Origin": OWN, "Sec-Fetch-Site": "same-origin"}, [TARGET], None),
        ("POST", "/swarm", {"Host": "localhost:8089", "Origin": "http://localhost:8089"}, [], None),
        ("POST", "/stop", {"Referer": f"{OWN}/?tab=charts", "Sec-Fetch-Site": "none"}, [], None),
        # a link on another page leads here; what it shows can be read by its reader alone
        ("GET", "/", {"Referer": "https://example.org/", "Sec-Fetch-Site": "cross-site"}, [], None),
        # a name that was pointed at this machine
        ("GET", "/", {"Host": "example.org:8089"}, [], SERVED),
        ("GET", "/logs", {"Host": "127.0.0.1:8090"}, [], SERVED),
        ("POST", "/swarm", {"Host": "127.0.0.1"}, [TARGET], SERVED),
        ("POST", "/swarm", {"Host": "localhost.example.org:8089", "Origin": OWN}, [], SERVED),
        ("GET", "/", {"Host": ""}, [], SERVED),
        # another page
        ("GET", "/logs", {"Origin": "https://example.org"}, [], ELSEWHERE),
        ("POST", "/swarm", {"Origin": "null"}, [TARGET], ELSEWHERE),
        ("POST", "/stop", {"Origin": "http://127.0.0.1:8090"}, [], ELSEWHERE),
        ("POST", "/stop", {"Origin": "https://127.0.0.1:8089"}, [], ELSEWHERE),
        ("OPTIONS", "/swarm", {"Origin": "https://example.org"}, [], ELSEWHERE),
        ("POST", "/stop", {"sec-fetch-site": "cross-site"}, [], NOT_FROM_HERE),
        ("POST", "/stop", {"Sec-Fetch-Site": "same-site"}, [], NOT_FROM_HERE),
        ("POST", "/swarm", {"Referer": "https://example.org/"}, [TARGET], NOT_FROM_HERE),
        ("POST", "/swarm", {"Referer": f"{OWN}.example.org/"}, [TARGET], NOT_FROM_HERE),
        # another address to upload to
        ("POST", "/swarm", {}, ["http://example.org"], ONLY_REPLICA),
        ("POST", "/swarm", {}, [TARGET, "http://example.org"], ONLY_REPLICA),
        ("POST", "/swarm", {}, [f"{TARGET}.example.org"], ONLY_REPLICA),
        ("POST", "/user", {}, [], "this page takes no POST of /user"),
        ("DELETE", "/swarm", {"Origin": OWN}, [], None),  # Locust itself answers 405
    ],
)
def test_a_request_is_answered_or_refused_with_its_reason(
    method: str, path: str, headers: dict[str, str], hosts: list[str], reason: str | None
) -> None:
    given = {"Host": "127.0.0.1:8089", **headers}
    assert GUARD.refusal(method, path, given, hosts) == reason


def test_a_request_that_names_no_host_is_refused() -> None:
    assert GUARD.refusal("GET", "/", {}) == SERVED


@pytest.mark.parametrize("path", CHANGES)
def test_every_change_is_kept_from_other_pages(path: str) -> None:
    headers = {"Host": "127.0.0.1:8089", "Referer": "https://example.org/"}
    assert GUARD.refusal("POST", path, headers) == NOT_FROM_HERE


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.1:80", "localhost:80"])
def test_the_port_that_clients_leave_out_may_be_left_out(host: str) -> None:
    guard = PageGuard(80, TARGET)
    assert guard.refusal("POST", "/stop", {"Host": host, "Origin": f"http://{host}"}) is None
    assert GUARD.refusal("GET", "/", {"Host": host}) == SERVED
