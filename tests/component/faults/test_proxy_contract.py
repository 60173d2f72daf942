"""What a proxy does with connections, whatever its toxics: the same of both servers."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.component.faults.conftest import (
    Pair,
    Tunnel,
    along,
    dropped,
    free_port,
    receive,
    sending,
)

both_streams = pytest.mark.parametrize("stream", ["upstream", "downstream"])

CHAINS: dict[str, list[tuple[str, dict[str, int]]]] = {
    "none": [],
    "latency": [("latency", {"latency": 20, "jitter": 20})],
    "bandwidth": [("bandwidth", {"rate": 10_000})],
    "slicer": [("slicer", {"average_size": 3000, "size_variation": 1000, "delay": 100})],
    "slow_close": [("slow_close", {"delay": 50})],
    "limit_data": [("limit_data", {"bytes": 1 << 30})],
    "all": [
        ("slicer", {"average_size": 9000, "size_variation": 500, "delay": 10}),
        ("latency", {"latency": 20, "jitter": 20}),
        ("bandwidth", {"rate": 10_000}),
        ("slow_close", {"delay": 50}),
        ("limit_data", {"bytes": 1 << 30}),
    ],
}


BEYOND_SOCKETS = 64_000_000
"""Bytes that the sockets on the way cannot hold."""


def fill(sock: socket.socket) -> int:
    """Bytes that could be sent before the socket took no more for half a second."""
    sock.settimeout(0.5)
    sent = 0
    while sent < BEYOND_SOCKETS:
        try:
            sent += sock.send(bytes(65536))
        except TimeoutError:
            break
    return sent


@both_streams
@pytest.mark.parametrize("chain", CHAINS)
def test_megabytes_arrive_whole_and_the_end_behind_them(
    tunnel: Tunnel, stream: str, chain: str, payload: Callable[[int], bytes]
) -> None:
    for kind, attributes in CHAINS[chain]:
        tunnel.toxic(kind, stream, **attributes)
    sender, receiver = along(tunnel.open(), stream)
    data = payload(3_000_000)
    with ThreadPoolExecutor(1) as pool:
        got = pool.submit(receive, receiver)
        sender.sendall(data)
        sender.close()
        assert got.result() == data


def test_both_directions_carry_at_once(tunnel: Tunnel, payload: Callable[[int], bytes]) -> None:
    client, upstream = tunnel.open()
    there, back = payload(4_000_000), payload(3_000_000)
    with ThreadPoolExecutor(1) as pool, sending(client, there), sending(upstream, back):
        got = pool.submit(receive, upstream, len(there))
        assert receive(client, len(back)) == back
        assert got.result() == there


def test_many_connections_at_once(tunnel: Tunnel) -> None:
    tunnel.toxic("latency", latency=50, jitter=50)
    tunnel.toxic("latency", "upstream", latency=1)
    pairs = [tunnel.open() for _ in range(200)]

    def echo(numbered: tuple[int, Pair]) -> bool:
        number, (client, upstream) = numbered
        word = f"{number:06d}".encode() * 500
        client.sendall(word)
        upstream.sendall(receive(upstream, len(word)))
        return receive(client, len(word)) == word

    with ThreadPoolExecutor(50) as pool:
        assert all(pool.map(echo, enumerate(pairs)))


@both_streams
def test_slow_receiver_slows_the_sender(tunnel: Tunnel, stream: str) -> None:
    sender, receiver = along(tunnel.open(), stream)
    sent = fill(sender)
    assert sent < BEYOND_SOCKETS
    assert len(receive(receiver, sent)) == sent


def test_client_that_has_sent_all_ends_the_connection_behind_its_data(
    tunnel: Tunnel, payload: Callable[[int], bytes]
) -> None:
    client, upstream = tunnel.open()
    data = payload(2_000_000)
    with ThreadPoolExecutor(1) as pool:
        got = pool.submit(receive, upstream)
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        assert got.result() == data
    assert receive(client) == b""


@both_streams
def test_end_is_passed_on_although_the_answer_is_still_held(tunnel: Tunnel, stream: str) -> None:
    tunnel.toxic("latency", stream, latency=200)
    sender, receiver = along(tunnel.open(), stream)
    sender.sendall(b"answer")
    sender.close()
    assert receive(receiver) == b"answer"


@both_streams
def test_reset_of_one_end_ends_the_other(tunnel: Tunnel, stream: str) -> None:
    sender, receiver = along(tunnel.open(), stream)
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sender.close()
    assert dropped(receiver)


def test_disabled_proxy_drops_connections_and_refuses_new_ones(tunnel: Tunnel) -> None:
    tunnel.toxic("latency", latency=60_000)
    client, upstream = tunnel.open()
    upstream.sendall(b"held")
    tunnel.enable(False)
    assert dropped(client)
    assert dropped(upstream)
    with pytest.raises(ConnectionRefusedError):
        tunnel.dial()
    tunnel.enable(False)
    tunnel.enable(True)
    client, upstream = tunnel.open()
    client.sendall(b"again")
    assert receive(upstream, 5) == b"again"


def test_client_is_closed_when_upstream_refuses(tunnel: Tunnel) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    tunnel.ask("PATCH", f"/proxies/{tunnel.name}", {"upstream": nobody})
    assert receive(tunnel.dial()) == b""


def test_deleted_proxy_drops_its_connections(tunnel: Tunnel) -> None:
    body = {"name": "brief", "listen": "127.0.0.1:0", "upstream": tunnel.upstream}
    tunnel.listen = tunnel.ask("POST", "/proxies", body)["listen"]
    client, upstream = tunnel.open()
    tunnel.ask("DELETE", "/proxies/brief")
    assert dropped(client)
    assert dropped(upstream)
