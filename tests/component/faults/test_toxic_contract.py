"""Every toxic in both directions, the same of both servers.

A delay has an exact lower bound; from above it is only told apart from what it must not be.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.component.faults.conftest import Pair, Tunnel, along, receive, sending

STREAMS = ["upstream", "downstream"]
OTHER = {"upstream": "downstream", "downstream": "upstream"}
both_streams = pytest.mark.parametrize("stream", STREAMS)

CLOCK = 0.001
"""Seconds by which two clocks of one machine may disagree over a wait."""


def carry(pair: Pair, stream: str, data: bytes = b"x") -> float:
    """Seconds that data takes in that direction."""
    sender, receiver = along(pair, stream)
    start = time.monotonic()
    sender.sendall(data)
    assert receive(receiver, len(data)) == data
    return time.monotonic() - start


def undelayed(pair: Pair, stream: str) -> float:
    """As `carry`, the quickest of several: a busy machine is no toxic."""
    return min(carry(pair, stream) for _ in range(5))


def wait_for_end(sock: socket.socket) -> float:
    """Seconds until the stream ends with no data before it."""
    start = time.monotonic()
    assert sock.recv(1) == b""
    return time.monotonic() - start


@both_streams
def test_latency_delays_its_own_direction_alone(tunnel: Tunnel, stream: str) -> None:
    tunnel.toxic("latency", stream, latency=200)
    pair = tunnel.open()
    assert carry(pair, stream) >= 0.2 - CLOCK
    assert undelayed(pair, OTHER[stream]) < 0.2


def test_latency_is_counted_from_arrival_and_holds_no_throughput_back(tunnel: Tunnel) -> None:
    tunnel.toxic("latency", latency=200)
    client, upstream = tunnel.open()
    data = bytes(4 * 1024 * 1024)
    one_by_one = len(data) / 32768 * 0.2
    start = time.monotonic()
    with sending(upstream, data):
        assert receive(client, len(data)) == data
    assert time.monotonic() - start < one_by_one / 4


def test_jitter_is_uniform_between_its_bounds(tunnel: Tunnel) -> None:
    tunnel.toxic("latency", latency=70, jitter=30)
    pairs = [tunnel.open() for _ in range(20)]

    def draw(pair: Pair) -> list[float]:
        return [carry(pair, "downstream") for _ in range(20)]

    with ThreadPoolExecutor(len(pairs)) as pool:
        draws = sorted(one for drawn in pool.map(draw, pairs) for one in drawn)
    assert draws[0] >= 0.040 - CLOCK
    rank = [index / len(draws) for index in range(len(draws))]
    uniform = [min(1.0, (one - 0.040) / 0.060) for one in draws]
    assert max(abs(a - b) for a, b in zip(rank, uniform, strict=True)) < 0.2


@both_streams
def test_jitter_keeps_order(tunnel: Tunnel, stream: str) -> None:
    tunnel.toxic("latency", stream, latency=10, jitter=10)
    sender, receiver = along(tunnel.open(), stream)
    words = [f"{number:04d}".encode() for number in range(100)]
    for word in words:
        sender.sendall(word)
        time.sleep(0.001)  # a chunk of its own
    assert receive(receiver, 400) == b"".join(words)


@both_streams
def test_bandwidth_keeps_its_rate(tunnel: Tunnel, stream: str) -> None:
    tunnel.toxic("bandwidth", stream, rate=500)
    pair = tunnel.open()
    sender, receiver = along(pair, stream)
    data = bytes(range(250)) * 2000
    start = time.monotonic()
    with sending(sender, data):
        assert receive(receiver, len(data)) == data
    assert 1.0 - CLOCK <= time.monotonic() - start < 2.0


@both_streams
def test_bandwidth_of_nothing_is_a_standstill(tunnel: Tunnel, stream: str) -> None:
    tunnel.toxic("bandwidth", stream, rate=0)
    sender, receiver = along(tunnel.open(), stream)
    sender.sendall(b"x")
    receiver.settimeout(0.3)
    with pytest.raises(TimeoutError):
        receiver.recv(1)


@both_streams
def test_timeout_lets_nothing_through_and_then_closes(tunnel: Tunnel, stream: str) -> None:
    tunnel.toxic("timeout", stream, timeout=200)
    pair = tunnel.open()
    sender, receiver = along(pair, stream)
    sender.sendall(b"lost")
    assert wait_for_end(receiver) >= 0.2 - 10 * CLOCK
    assert receive(sender) == b""


@both_streams
def test_timeout_of_0_never_closes_until_it_is_removed(tunnel: Tunnel, stream: str) -> None:
    path = tunnel.toxic("timeout", stream, timeout=0)
    sender, receiver = along(tunnel.open(), stream)
    sender.sendall(b"lost")
    receiver.settimeout(0.3)
    with pytest.raises(TimeoutError):
        receiver.recv(1)
    tunnel.ask("DELETE", path)
    assert receive(receiver) == b""


@both_streams
@pytest.mark.parametrize("after", [0, 200])
def test_reset_peer_resets_both_ends(tunnel: Tunnel, stream: str, after: int) -> None:
    tunnel.toxic("reset_peer", stream, timeout=after)
    sender, receiver = along(tunnel.open(), stream)
    start = time.monotonic()
    sender.sendall(b"x")
    with pytest.raises(ConnectionResetError):
        receiver.recv(1)
    assert time.monotonic() - start >= after / 1000 - CLOCK
    with pytest.raises(ConnectionResetError):
        sender.recv(1)


@both_streams
def test_reset_peer_waits_for_data(tunnel: Tunnel, stream: str) -> None:
    tunnel.toxic("reset_peer", stream, timeout=0)
    pair = tunnel.open()
    carry(pair, OTHER[stream])
    carry(pair, OTHER[stream])


@both_streams
def test_slow_close_delays_the_end_and_not_the_data(tunnel: Tunnel, stream: str) -> None:
    tunnel.toxic("slow_close", stream, delay=300)
    pair = tunnel.open()
    assert undelayed(pair, stream) < 0.3
    sender, receiver = along(pair, stream)
    sender.close()
    assert wait_for_end(receiver) >= 0.3 - 10 * CLOCK


@both_streams
def test_slicer_sends_slices_apart(tunnel: Tunnel, stream: str) -> None:
    tunnel.toxic("slicer", stream, average_size=100, size_variation=20, delay=10_000)
    pair = tunnel.open()
    data = bytes(range(250)) * 4
    slices = len(data) / (100 + 20)
    assert carry(pair, stream, data) >= (int(slices) - 1) * 0.010


@both_streams
@pytest.mark.parametrize("limit", [0, 1, 40_000])
def test_limit_data_passes_so_many_bytes_and_closes(
    tunnel: Tunnel, stream: str, limit: int
) -> None:
    tunnel.toxic("limit_data", stream, bytes=limit)
    sender, receiver = along(tunnel.open(), stream)
    data = bytes(range(250)) * 160
    sender.sendall(data)
    assert receive(receiver) == data[:limit]


@both_streams
def test_toxicity_0_strikes_no_connection(tunnel: Tunnel, stream: str) -> None:
    tunnel.toxic("timeout", stream, toxicity=0, timeout=1)
    tunnel.toxic("latency", stream, toxicity=0, latency=60_000)
    for _ in range(10):
        carry(tunnel.open(), stream)


def test_toxicity_is_decided_once_for_each_connection(tunnel: Tunnel) -> None:
    # So long that a busy machine does not delay by it what the toxic spares.
    tunnel.toxic("latency", toxicity=0.5, latency=1000)
    pairs = [tunnel.open() for _ in range(40)]

    def struck(pair: Pair) -> set[bool]:
        return {carry(pair, "downstream") >= 1.0 - CLOCK for _ in range(3)}

    with ThreadPoolExecutor(len(pairs)) as pool:
        seen = list(pool.map(struck, pairs))
    assert all(len(one) == 1 for one in seen)
    assert set().union(*seen) == {True, False}


@both_streams
def test_toxics_of_a_chain_add_up(tunnel: Tunnel, stream: str) -> None:
    for name, latency in (("a", 100), ("b", 150)):
        body = {"name": name, "type": "latency", "stream": stream}
        attributes = {"attributes": {"latency": latency}}
        tunnel.ask("POST", f"/proxies/{tunnel.name}/toxics", {**body, **attributes})
    assert carry(tunnel.open(), stream) >= 0.25 - CLOCK


@both_streams
def test_toxic_is_added_updated_and_removed_on_a_live_connection(
    tunnel: Tunnel, stream: str
) -> None:
    pair = tunnel.open()
    assert undelayed(pair, stream) < 0.2
    path = tunnel.toxic("latency", stream, latency=200)
    assert carry(pair, stream) >= 0.2 - CLOCK
    tunnel.ask("PATCH", path, {"attributes": {"latency": 400}})
    assert carry(pair, stream) >= 0.4 - CLOCK
    tunnel.ask("PATCH", path, {"toxicity": 0})
    assert undelayed(pair, stream) < 0.2
    tunnel.ask("DELETE", path)
    assert undelayed(pair, stream) < 0.2


@both_streams
@pytest.mark.parametrize(
    "change", [("DELETE", None), ("PATCH", {"attributes": {"latency": 0}})], ids=lambda c: c[0]
)
def test_data_held_by_a_toxic_passes_when_it_ends(
    tunnel: Tunnel, stream: str, change: tuple[str, dict[str, object] | None]
) -> None:
    path = tunnel.toxic("latency", stream, latency=60_000)
    sender, receiver = along(tunnel.open(), stream)
    sender.sendall(b"held")
    receiver.settimeout(0.2)
    with pytest.raises(TimeoutError):
        receiver.recv(1)
    tunnel.ask(change[0], path, change[1])
    receiver.settimeout(10)
    assert receive(receiver, 4) == b"held"


@both_streams
def test_no_byte_is_lost_while_toxics_come_and_go(
    tunnel: Tunnel, stream: str, payload: Callable[[int], bytes]
) -> None:
    sender, receiver = along(tunnel.open(), stream)
    data = payload(3_000_000)
    tunnel.toxic("bandwidth", stream, rate=3_000)
    with ThreadPoolExecutor(1) as pool, sending(sender, data):
        got = pool.submit(receive, receiver, len(data))
        while not got.done():
            late = tunnel.toxic("latency", stream, latency=20, jitter=10)
            cut = tunnel.toxic("slicer", stream, average_size=5000, size_variation=900)
            tunnel.ask("PATCH", late, {"attributes": {"latency": 5}})
            tunnel.ask("DELETE", late)
            tunnel.ask("DELETE", cut)
        assert got.result() == data
