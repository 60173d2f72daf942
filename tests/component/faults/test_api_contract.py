"""The HTTP API, the same of both servers."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from tests.component.faults.conftest import Server, Tunnel, dropped, free_port, receive

LATENCY = {"type": "latency", "attributes": {"latency": 5}}


def visible(proxy: dict[str, Any]) -> dict[str, Any]:
    """What both servers show of a proxy (the real one adds its logger)."""
    return {key: value for key, value in proxy.items() if key != "Logger"}


def test_version_says_whose_server_it_is(server: Server) -> None:
    version = server.api("GET", "/version").json()["version"]
    assert version.endswith("+lab") == (server.kind == "embedded")


def test_config_file_makes_proxies(server: Server) -> None:
    proxy = visible(server.api("GET", "/proxies/configured").json())
    listen = proxy.pop("listen")
    assert listen.startswith("127.0.0.1:")
    assert listen != "127.0.0.1:0"
    wanted = {"name": "configured", "upstream": "127.0.0.1:9", "enabled": True, "toxics": []}
    assert proxy == wanted


def test_proxy_is_created_shown_listed_and_deleted(server: Server) -> None:
    body = {"name": "made", "listen": "127.0.0.1:0", "upstream": "127.0.0.1:9", "enabled": False}
    created = server.api("POST", "/proxies", body)
    assert created.status_code == 201
    assert visible(created.json()) == {**body, "toxics": []}
    assert server.api("GET", "/proxies/made").json() == created.json()
    assert server.api("GET", "/proxies").json()["made"] == created.json()
    assert server.api("DELETE", "/proxies/made").status_code == 204
    assert server.api("GET", "/proxies/made").status_code == 404


@pytest.mark.parametrize("verb", ["PATCH", "POST"])
def test_proxy_moves_to_another_upstream_and_drops_its_connections(
    tunnel: Tunnel, verb: str
) -> None:
    client, _ = tunnel.open()
    with socket.create_server(("127.0.0.1", 0)) as other:
        moved = f"127.0.0.1:{other.getsockname()[1]}"
        state = tunnel.ask(verb, f"/proxies/{tunnel.name}", {"upstream": moved})
        assert (state["upstream"], state["enabled"]) == (moved, True)
        assert dropped(client)
        tunnel.listen = state["listen"]
        tunnel.dial().sendall(b"here")
        accepted, _ = other.accept()
        with accepted:
            assert receive(accepted, 4) == b"here"


def test_proxy_moves_to_another_port(tunnel: Tunnel) -> None:
    listen = f"127.0.0.1:{free_port()}"
    old, tunnel.listen = tunnel.listen, listen
    tunnel.ask("PATCH", f"/proxies/{tunnel.name}", {"listen": listen})
    tunnel.open()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(old.split(":")[1])))


def test_toxic_is_created_shown_listed_updated_and_deleted(tunnel: Tunnel) -> None:
    toxics = f"/proxies/{tunnel.name}/toxics"
    made = tunnel.ask("POST", toxics, dict(LATENCY))
    assert made == {
        "name": "latency_downstream",
        "type": "latency",
        "stream": "downstream",
        "toxicity": 1,
        "attributes": {"latency": 5, "jitter": 0},
    }
    one = f"{toxics}/latency_downstream"
    assert tunnel.ask("GET", one) == made
    for verb, change in (("PATCH", {"attributes": {"jitter": 2}}), ("POST", {"toxicity": 0.25})):
        updated = tunnel.ask(verb, one, change)
    assert updated == {**made, "toxicity": 0.25, "attributes": {"latency": 5, "jitter": 2}}
    assert tunnel.ask("GET", toxics) == [updated]
    assert tunnel.ask("GET", f"/proxies/{tunnel.name}")["toxics"] == [updated]
    assert tunnel.server.api("DELETE", one).status_code == 204
    assert tunnel.ask("GET", toxics) == []


def test_toxics_are_listed_upstream_first_and_then_in_order(tunnel: Tunnel) -> None:
    tunnel.toxic("slow_close")
    tunnel.toxic("latency")
    tunnel.toxic("limit_data", "upstream", bytes=9)
    names = [toxic["name"] for toxic in tunnel.ask("GET", f"/proxies/{tunnel.name}/toxics")]
    assert names == ["limit_data_upstream", "slow_close_downstream", "latency_downstream"]


@pytest.mark.parametrize(
    ("kind", "attributes"),
    [
        ("latency", {"latency", "jitter"}),
        ("bandwidth", {"rate"}),
        ("timeout", {"timeout"}),
        ("reset_peer", {"timeout"}),
        ("slow_close", {"delay"}),
        ("slicer", {"average_size", "size_variation", "delay"}),
        ("limit_data", {"bytes"}),
    ],
)
def test_toxic_shows_every_attribute_of_its_type(
    tunnel: Tunnel, kind: str, attributes: set[str]
) -> None:
    given = dict.fromkeys(attributes, 3)
    path = tunnel.toxic(kind, "upstream", **given, unknown=1)
    assert tunnel.ask("GET", path)["attributes"] == given


def test_reset_enables_every_proxy_and_removes_every_toxic(tunnel: Tunnel) -> None:
    tunnel.toxic("latency", latency=5)
    tunnel.toxic("timeout", "upstream")
    tunnel.enable(False)
    assert tunnel.server.api("POST", "/reset").status_code == 204
    state = tunnel.ask("GET", f"/proxies/{tunnel.name}")
    assert (state["enabled"], state["toxics"]) == (True, [])
    tunnel.open()


def test_populate_creates_keeps_and_replaces(tunnel: Tunnel) -> None:
    tunnel.toxic("latency", latency=5)
    same = {"name": tunnel.name, "listen": tunnel.listen, "upstream": tunnel.upstream}
    new = {"name": "populated", "listen": "127.0.0.1:0", "upstream": "127.0.0.1:9"}
    answer = tunnel.server.api("POST", "/populate", [same, {**new, "enabled": False}])
    assert answer.status_code == 201
    kept, made = answer.json()["proxies"]
    assert [toxic["type"] for toxic in kept["toxics"]] == ["latency"]
    assert (made["name"], made["enabled"]) == ("populated", False)
    (replaced,) = tunnel.ask("POST", "/populate", [{**same, "upstream": "127.0.0.1:9"}])["proxies"]
    assert (replaced["upstream"], replaced["toxics"]) == ("127.0.0.1:9", [])
    tunnel.ask("DELETE", "/proxies/populated")


def test_populate_checks_all_before_it_makes_any(server: Server) -> None:
    good = {"name": "never", "listen": "127.0.0.1:0", "upstream": "127.0.0.1:9"}
    answer = server.api("POST", "/populate", [good, {"name": "bad"}])
    assert answer.status_code == 400
    error = "missing required field: upstream at proxy 2"
    assert answer.json() == {"error": error, "status": 400, "proxies": None}
    assert server.api("GET", "/proxies/never").status_code == 404


def test_populate_of_nothing_makes_nothing(server: Server) -> None:
    answer = server.api("POST", "/populate", [])
    assert (answer.status_code, answer.json()) == (201, {"proxies": None})


UP = {"upstream": "127.0.0.1:9"}
TOXICS = "/proxies/configured/toxics"
BAD_BODY = "bad request body: "


@pytest.mark.parametrize(
    ("verb", "path", "body", "status", "error"),
    [
        ("GET", "/proxies/none", None, 404, "proxy not found"),
        ("DELETE", "/proxies/none", None, 404, "proxy not found"),
        ("PATCH", "/proxies/none", {}, 404, "proxy not found"),
        ("GET", "/proxies/none/toxics", None, 404, "proxy not found"),
        ("POST", "/proxies/none/toxics", LATENCY, 404, "proxy not found"),
        ("GET", f"{TOXICS}/none", None, 404, "toxic not found"),
        ("PATCH", f"{TOXICS}/none", {}, 404, "toxic not found"),
        ("DELETE", f"{TOXICS}/none", None, 404, "toxic not found"),
        ("POST", "/proxies", "", 400, "bad request body: EOF"),
        ("POST", "/proxies", "zork", 400, BAD_BODY),
        ("POST", "/proxies", "[]", 400, BAD_BODY),
        ("POST", "/proxies", {"name": 5}, 400, BAD_BODY),
        ("POST", "/proxies", {"name": "x", **UP, "enabled": "yes"}, 400, BAD_BODY),
        ("POST", "/proxies", UP, 400, "missing required field: name"),
        ("POST", "/proxies", {"name": "x"}, 400, "missing required field: upstream"),
        ("POST", "/proxies", {"name": "configured", **UP}, 409, "proxy already exists"),
        ("POST", "/proxies", {"name": "x", "listen": "zork", **UP}, 500, "listen tcp"),
        ("POST", "/proxies", {"name": "x", "listen": "127.0.0.1:99999", **UP}, 500, "listen tcp"),
        ("PATCH", "/proxies/configured", "zork", 400, BAD_BODY),
        ("PATCH", "/proxies/configured", {"upstream": 5}, 400, BAD_BODY),
        ("POST", "/populate", {}, 400, BAD_BODY),
        ("POST", "/populate", [5], 400, BAD_BODY),
        ("POST", TOXICS, "", 400, "bad request body: EOF"),
        ("POST", TOXICS, {"type": "zork"}, 400, "invalid toxic type"),
        ("POST", TOXICS, {}, 400, "invalid toxic type"),
        ("POST", TOXICS, {**LATENCY, "stream": "side"}, 400, "stream was invalid, can be either"),
        ("POST", TOXICS, {**LATENCY, "toxicity": "half"}, 400, BAD_BODY),
        ("POST", TOXICS, {**LATENCY, "attributes": {"latency": 5.5}}, 400, BAD_BODY),
        ("POST", TOXICS, {**LATENCY, "attributes": {"latency": "5"}}, 400, BAD_BODY),
        ("POST", TOXICS, {**LATENCY, "attributes": []}, 400, BAD_BODY),
    ],
)
def test_bad_request_is_refused_with_its_reason(
    server: Server, verb: str, path: str, body: Any, status: int, error: str
) -> None:
    before = server.api("GET", "/proxies").json()
    answer = server.api(verb, path, body)
    assert answer.status_code == status
    said = answer.json()
    assert said["error"].startswith(error)
    assert said["status"] == status
    assert server.api("GET", "/proxies").json() == before


def test_second_toxic_of_a_name_is_refused(tunnel: Tunnel) -> None:
    tunnel.toxic("latency", latency=5)
    body = {"name": "latency_downstream", "type": "slicer", "stream": "upstream"}
    answer = tunnel.server.api("POST", f"/proxies/{tunnel.name}/toxics", body)
    assert (answer.status_code, answer.json()["error"]) == (409, "toxic already exists")


def test_taken_address_is_refused_and_makes_no_proxy(tunnel: Tunnel) -> None:
    body = {"name": "late", "listen": tunnel.listen, **UP}
    answer = tunnel.server.api("POST", "/proxies", body)
    assert answer.status_code == 500
    assert answer.json()["error"].endswith("bind: address already in use")
    assert tunnel.server.api("GET", "/proxies/late").status_code == 404


def test_browsers_are_refused(server: Server) -> None:
    answer = server.api("GET", "/proxies", headers={"User-Agent": "Mozilla/5.0 (X11)"})
    assert (answer.status_code, answer.text) == (403, "User agent not allowed\n")


@pytest.mark.parametrize(
    ("verb", "path", "status"),
    [
        ("GET", "/zork", 404),
        ("GET", "/proxies/", 404),
        ("PUT", "/proxies", 405),
        ("GET", "/reset", 405),
        ("HEAD", "/version", 405),
    ],
)
def test_no_such_endpoint(server: Server, verb: str, path: str, status: int) -> None:
    assert server.api(verb, path).status_code == status
