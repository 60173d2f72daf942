"""Where the embedded server differs from the original, on purpose."""

from __future__ import annotations

import pytest

from tests.component.faults.conftest import Tunnel, along, receive
from tests.component.faults.test_toxic_contract import STREAMS, carry, undelayed

embedded_alone = pytest.mark.parametrize("server", ["embedded"], indirect=True)
both_streams = pytest.mark.parametrize("stream", STREAMS)


@embedded_alone
@both_streams
def test_reset_peer_resets_a_connection_that_was_open_before(tunnel: Tunnel, stream: str) -> None:
    pair = tunnel.open()
    carry(pair, stream)
    tunnel.toxic("reset_peer", stream)
    sender, receiver = along(pair, stream)
    sender.sendall(b"x")
    with pytest.raises(ConnectionResetError):
        receiver.recv(1)


@embedded_alone
def test_reset_peer_that_did_not_strike_resets_nothing(tunnel: Tunnel) -> None:
    tunnel.toxic("reset_peer", toxicity=0)
    client, upstream = tunnel.open()
    carry((client, upstream), "downstream")
    upstream.close()
    assert receive(client) == b""


@embedded_alone
@both_streams
def test_timeout_that_did_not_strike_closes_nothing_when_removed(
    tunnel: Tunnel, stream: str
) -> None:
    path = tunnel.toxic("timeout", stream, toxicity=0)
    pair = tunnel.open()
    tunnel.ask("DELETE", path)
    carry(pair, stream)


@embedded_alone
@both_streams
def test_update_of_one_toxic_does_not_let_data_past_another(tunnel: Tunnel, stream: str) -> None:
    tunnel.toxic("latency", stream, latency=400)
    limit = tunnel.toxic("limit_data", stream, bytes=1000)
    sender, receiver = along(tunnel.open(), stream)
    sender.sendall(b"held")
    tunnel.ask("PATCH", limit, {"attributes": {"bytes": 2000}})
    tunnel.toxic("slow_close", stream, delay=1)
    receiver.settimeout(0.1)
    with pytest.raises(TimeoutError):
        receiver.recv(1)
    receiver.settimeout(10)
    assert receive(receiver, 4) == b"held"


@embedded_alone
@pytest.mark.parametrize(
    ("kind", "attributes"),
    [
        ("slicer", {"average_size": 0}),
        ("slicer", {"average_size": -5, "size_variation": -5, "delay": -5}),
        ("slicer", {"average_size": 10, "size_variation": 100}),
        ("latency", {"latency": -5, "jitter": -5}),
    ],
)
def test_senseless_attributes_lose_no_data(
    tunnel: Tunnel, kind: str, attributes: dict[str, int]
) -> None:
    tunnel.toxic(kind, "downstream", **attributes)
    assert undelayed(tunnel.open(), "downstream") < 10
    assert carry(tunnel.open(), "downstream", bytes(range(250)) * 20) < 10


@embedded_alone
def test_negative_bandwidth_is_a_standstill_that_can_be_lifted(tunnel: Tunnel) -> None:
    path = tunnel.toxic("bandwidth", rate=-1)
    client, upstream = tunnel.open()
    upstream.sendall(b"held")
    client.settimeout(0.2)
    with pytest.raises(TimeoutError):
        client.recv(1)
    client.settimeout(10)
    tunnel.ask("PATCH", path, {"attributes": {"rate": 100}})
    assert receive(client, 4) == b"held"
