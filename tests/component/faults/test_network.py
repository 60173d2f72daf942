"""Network faults: what is injected is what the model says, and nothing is believed unread."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lab.errors import InjectionError
from lab.faults.network import Toxiproxy
from lab.model.fault import Fault
from lab.model.knobs import Knobs
from tests.component.faults.conftest import free_port, running

KNOBS = Knobs()
LATENCY = Fault.model_validate(
    {
        "fault": "slow-answers",
        "about": "answers are late",
        "proxy": "gcs",
        "toxics": [
            {"type": "latency", "delay": {"knob": "gcs_latency"}, "toxicity": "30 %"},
            {"type": "bandwidth", "stream": "upstream", "rate": "100 KB"},
        ],
    }
)
DOWN = Fault(fault="db-gone", about="no database", proxy="db", down=True)


def test_a_fault_is_injected_as_the_model_says_and_removed(api_url: str) -> None:
    toxiproxy = Toxiproxy(api_url)
    knobs = KNOBS.model_copy(update={"speed": 5.0})
    with toxiproxy.injected([LATENCY, DOWN], knobs) as states:
        assert states == toxiproxy.read_back()
        by_name = {toxic["name"]: toxic for toxic in states["gcs"].toxics}
        assert by_name["slow-answers-1"]["attributes"] == {"latency": 700, "jitter": 300}
        assert by_name["slow-answers-1"]["toxicity"] == pytest.approx(0.3)
        assert by_name["slow-answers-2"]["stream"] == "upstream"
        assert (states["gcs"].enabled, states["db"].enabled) == (True, False)
    for state in toxiproxy.read_back().values():
        assert (state.enabled, state.toxics) == (True, ())


def test_the_evidence_is_what_is_read_back(api_url: str) -> None:
    toxiproxy = Toxiproxy(api_url)
    with toxiproxy.injected([LATENCY], KNOBS):
        readings = {reading.proxy: reading for reading in toxiproxy.evidence(t=1.5)}
    assert set(readings) == {"gcs", "db"}
    assert readings["gcs"].t == 1.5
    assert [toxic["type"] for toxic in readings["gcs"].toxics] == ["bandwidth", "latency"]
    assert readings["db"].toxics == []


def test_what_was_left_injected_is_removed_first(api_url: str) -> None:
    toxiproxy = Toxiproxy(api_url)
    toxiproxy.inject(LATENCY, KNOBS)
    toxiproxy.inject(DOWN, KNOBS)
    with toxiproxy.injected([], KNOBS) as states:
        assert all(state.enabled and not state.toxics for state in states.values())


def test_a_fault_is_removed_when_the_cell_fails(api_url: str) -> None:
    toxiproxy = Toxiproxy(api_url)
    with pytest.raises(KeyError, match="the cell"), toxiproxy.injected([LATENCY], KNOBS):
        raise KeyError("the cell")
    assert toxiproxy.read_back()["gcs"].toxics == ()


def test_injecting_twice_is_refused(api_url: str) -> None:
    toxiproxy = Toxiproxy(api_url)
    with (
        pytest.raises(InjectionError, match=r"refused /proxies/gcs/toxics: .*already exists"),
        toxiproxy.injected([LATENCY, LATENCY], KNOBS),
    ):
        pass
    assert toxiproxy.read_back()["gcs"].toxics == ()


KILL = Fault.model_validate(
    {"fault": "kill", "about": "x", "part": "backend", "strike": "kill", "at": "1 s", "for": "5 s"}
)


def test_a_process_fault_is_passed_over_among_a_cells_faults(api_url: str) -> None:
    with Toxiproxy(api_url).injected([KILL, LATENCY], KNOBS) as states:
        assert len(states["gcs"].toxics) == 2
        assert (states["db"].enabled, states["db"].toxics) == (True, ())


def test_a_process_fault_by_itself_is_refused(api_url: str) -> None:
    with pytest.raises(InjectionError, match="kill is a process fault, and Toxiproxy has network"):
        Toxiproxy(api_url).inject(KILL, KNOBS)


def test_two_servers_in_one_process_are_told_apart(api_url: str, tmp_path: Path) -> None:
    (tmp_path / "proxies.json").write_text("[]")
    with running("embedded", tmp_path / "proxies.json", tmp_path / "log") as other_url:
        one, other = Toxiproxy(api_url), Toxiproxy(other_url)
        assert (set(one.read_back()), set(other.read_back())) == ({"gcs", "db"}, set())
        with pytest.raises(InjectionError, match=r"has no proxy 'gcs' \(it has: none\)"):
            other.inject(LATENCY, KNOBS)


def test_environment_proxies_are_passed_by(api_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    assert Toxiproxy(api_url).version()


Lie = Callable[[str, str, Any], tuple[int, Any]]


@contextmanager
def liar(lie: Lie) -> Iterator[str]:
    """A server that answers as it likes: (verb, path, toxics set) to status and body."""
    toxics: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length) or "null")
            if self.path.endswith("/toxics"):
                toxics.append(body)
            status, content = lie(self.command, self.path, toxics)
            self.send_response(status)
            self.end_headers()
            if content is not None:
                text = content if isinstance(content, str) else json.dumps(content)
                self.wfile.write(text.encode())

        do_GET = do_POST = _answer  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def gcs(toxics: list[dict[str, Any]], enabled: bool = True) -> dict[str, Any]:
    state = {"name": "gcs", "listen": "l", "upstream": "u", "enabled": enabled, "toxics": toxics}
    return {"gcs": state}


def altered(**change: Any) -> Lie:
    """Accepts everything and shows the toxics changed."""

    def lie(verb: str, path: str, toxics: list[dict[str, Any]]) -> tuple[int, Any]:
        if verb == "GET":
            return 200, gcs([{**toxic, **change} for toxic in toxics])
        return (204, None) if path == "/reset" else (200, {})

    return lie


def broken(path: str, status: int, content: Any) -> Lie:
    """Honest but for one path."""

    def lie(verb: str, asked: str, toxics: list[dict[str, Any]]) -> tuple[int, Any]:
        return (status, content) if asked == path else altered()(verb, asked, toxics)

    return lie


TOXICS = "/proxies/gcs/toxics"


@pytest.mark.parametrize(
    ("lie", "says"),
    [
        (altered(name="other"), "toxic 'slow-answers-1' was set on 'gcs' and is not there"),
        (altered(type="slicer"), "type was set to latency and reads back as slicer"),
        (altered(stream="upstream"), "stream was set to downstream and reads back as upstream"),
        (altered(toxicity=1), "toxicity was set to 0.3 and reads back as 1"),
        (altered(toxicity=None), "toxicity was set to 0.3 and reads back as None"),
        (altered(attributes={"latency": 3500}), "attributes was set to"),
        (altered(attributes={"latency": 3500, "jitter": 1500, "x": 1}), "attributes was set to"),
        (broken(TOXICS, 500, "on fire"), "refused /proxies/gcs/toxics: 500 on fire"),
        (broken(TOXICS, 404, "zork"), "refused /proxies/gcs/toxics: zork"),
        (broken(TOXICS, 200, "not JSON"), "answered what Toxiproxy would not: 'not JSON'"),
        (broken("/proxies", 200, []), "answered what Toxiproxy would not"),
        (broken("/proxies", 200, {"gcs": 5}), "answered what Toxiproxy would not"),
        (broken("/proxies", 200, {"gcs": {}}), "answered what Toxiproxy would not"),
        (broken("/proxies", 200, gcs([5])), "answered what Toxiproxy would not"),  # type: ignore[list-item]
        (broken("/proxies", 503, ""), "refused /proxies: 503"),
    ],
)
def test_a_lie_about_injecting_is_an_injection_error(lie: Lie, says: str) -> None:
    with liar(lie) as url, pytest.raises(InjectionError) as caught:
        Toxiproxy(url).inject(LATENCY, KNOBS)
    assert says in caught.value.what
    assert caught.value.remedy


def test_proxy_that_stays_up_is_an_injection_error() -> None:
    down = Fault(fault="gcs-gone", about="no storage", proxy="gcs", down=True)
    with liar(altered()) as url, pytest.raises(InjectionError, match="is enabled, not down"):
        Toxiproxy(url).inject(down, KNOBS)


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (gcs([{"name": "sticky"}]), "proxy 'gcs' still has toxics after reset: sticky"),
        (gcs([], enabled=False), "proxy 'gcs' is still down after reset"),
    ],
)
def test_a_lie_about_removing_is_an_injection_error(state: dict[str, Any], says: str) -> None:
    with liar(broken("/proxies", 200, state)) as url, pytest.raises(InjectionError, match=says):
        Toxiproxy(url).remove_all()


def test_a_removal_that_fails_does_not_hide_the_first_error() -> None:
    resets = iter([204, 500])

    def lie(verb: str, path: str, toxics: list[dict[str, Any]]) -> tuple[int, Any]:
        return (next(resets), None) if path == "/reset" else altered()(verb, path, toxics)

    with (
        liar(lie) as url,
        pytest.raises(KeyError, match="the cell") as caught,
        Toxiproxy(url).injected([LATENCY], KNOBS),
    ):
        raise KeyError("the cell")
    (note,) = caught.value.__notes__
    assert "refused /reset: 500" in note


def test_a_removal_that_fails_is_an_error_where_there_was_none() -> None:
    resets = iter([204, 500])

    def lie(verb: str, path: str, toxics: list[dict[str, Any]]) -> tuple[int, Any]:
        return (next(resets), None) if path == "/reset" else altered()(verb, path, toxics)

    with (
        liar(lie) as url,
        pytest.raises(InjectionError, match="refused /reset: 500"),
        Toxiproxy(url).injected([LATENCY], KNOBS),
    ):
        pass


def test_unreachable_server_is_an_injection_error() -> None:
    toxiproxy = Toxiproxy(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(InjectionError, match=r"does not answer \(ConnectionError\)"):
        toxiproxy.wait_ready(within=0.05)


def test_server_that_hangs_is_an_injection_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        toxiproxy = Toxiproxy(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.2)
        with pytest.raises(InjectionError, match=r"does not answer \(ReadTimeout\)"):
            toxiproxy.version()


def test_another_program_is_no_toxiproxy() -> None:
    with (
        liar(broken("/version", 200, ["hello"])) as url,
        pytest.raises(InjectionError, match="another program may hold this port"),
    ):
        Toxiproxy(url).version()


@pytest.mark.parametrize(
    "address", ["", "127.0.0.1:8474", "https://127.0.0.1:8474", "http://127.0.0.1", "http://:8474"]
)
def test_bad_address_is_an_injection_error(address: str) -> None:
    with pytest.raises(InjectionError, match="is not the address of a Toxiproxy API"):
        Toxiproxy(address)
