"""Calibration without a replica: what it makes of what it measures."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest
import requests

from lab.calibrate import Calibration
from lab.calibrate.injection import check_delay, speech_draws, stage_ms, storage_draws
from lab.model.knobs import Knobs


@pytest.fixture
def storage() -> Iterator[tuple[str, list[str]]]:
    """A server that takes objects; its address, and the paths that were asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def test_every_draw_is_an_object_of_its_own(storage: tuple[str, list[str]]) -> None:
    address, asked = storage
    draws = storage_draws(address, "recordings", count=30, concurrency=7)
    assert len(draws) == 30
    assert all(draw > 0 for draw in draws)
    firsts = [path for path in asked if "name=calibration-first-" in path]
    assert 1 <= len(firsts) <= 7
    assert len(set(asked)) == len(asked) == 30 + len(firsts)
    assert asked[0].startswith("/upload/storage/v1/b/recordings/o?uploadType=media&name=")


def test_every_draw_of_the_speech_service_is_a_recording(storage: tuple[str, list[str]]) -> None:
    address, asked = storage
    draws = speech_draws(address, count=30, concurrency=7)
    assert len(draws) == 30
    assert set(asked) == {"/speech/assess"}


def storage_checked(latencies: list[float]) -> dict[str, bool]:
    """What is said of these latencies."""
    calibration = Calibration("embedded", "embedded")
    check_delay(calibration, "storage", Knobs().gcs_latency, latencies)
    return {m.name.partition(",")[2].split()[0]: m.ok for m in calibration.measured}


def even(low: float, high: float, count: int = 1000) -> list[float]:
    return [low + (high - low) * (number + 0.5) / count for number in range(count)]


GOOD = {"mean": True, "least": True, "most": True, "uniform": True}


@pytest.mark.parametrize(
    ("draws", "off"),
    [
        (even(2, 5), set()),
        (even(2.001, 5.09), set()),
        ([*even(2, 5)[:-1], 5.2], {"most"}),
        ([*even(2, 5)[:-1], 1.99], {"least"}),
        (even(2.5, 4.5), {"uniform"}),
        (even(2.3, 5), {"mean", "uniform"}),
        ([3.5] * 1000, {"uniform"}),
    ],
    ids=["uniform", "a-little-late", "too-late", "too-early", "narrow", "shifted", "constant"],
)
def test_draws_are_held_against_uniform_2_to_5_s(draws: list[float], off: set[str]) -> None:
    checked = storage_checked(draws)
    assert set(checked) == set(GOOD)
    assert {name for name, ok in checked.items() if not ok} == off


def test_stages_are_read_from_server_timing() -> None:
    answer = requests.Response()
    answer.headers["Server-Timing"] = "pool_wait;dur=0.012, auth;dur=50.4, gcs;dur=3504.1"
    assert stage_ms(answer) == {"pool_wait": 0.012, "auth": 50.4, "gcs": 3504.1}
