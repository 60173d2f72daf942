"""What the network does to an upload: timeouts, closed and refused connections."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.model.evidence import Cause
from lab.model.replica import UPLOAD_PATH
from tests.component.load.conftest import Service, load_of, offer

BODY = b'{"recording": "r"}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
    len(BODY),
    BODY,
)
Behaviour = Callable[[socket.socket, int], None]


class RawServer:
    """A server whose ``behaviour`` is given each connection and its number, in a thread."""

    def __init__(self) -> None:
        self.behaviour: Behaviour = lambda _connection, _number: None
        self.connections = 0
        self.requests = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection, self.connections))
            self.connections += 1
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        with connection:
            connection.settimeout(5)
            try:
                self.behaviour(connection, number)
            except OSError:
                return  # the client is gone: its sample tells the test

    def read(self, connection: socket.socket) -> bool:
        """Read one request; False at the connection's end."""
        data = b""
        while b"\r\n\r\n" not in data:
            if not (block := connection.recv(65536)):
                return False
            data += block
        head, _, body = data.partition(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        left = length - len(body)
        while left > 0:
            if not (block := connection.recv(min(left, 1 << 20))):
                return False
            left -= len(block)
        assert head.startswith(f"POST {UPLOAD_PATH} HTTP/1.1".encode())
        self.requests += 1
        return True

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)


@pytest.fixture
def raw() -> Iterator[RawServer]:
    server = RawServer()
    yield server
    server.close()


def test_a_user_keeps_its_connection_alive(tmp_path: Path, raw: RawServer) -> None:
    def answer_all(connection: socket.socket, _number: int) -> None:
        while raw.read(connection):
            connection.sendall(ANSWER)

    raw.behaviour = answer_all
    load = load_of(users=2, ramp=0, warmup=0, window=1, think=0.1)
    done = offer(tmp_path, raw.url, load)
    assert len(done.samples) > 4
    assert {s.error for s in done.samples} == {None}
    assert raw.connections == 2


@pytest.mark.parametrize(("idle", "think"), [(0.05, 0.3), (0.0, 0.3), (1.3, 1.3)])
def test_a_connection_that_the_server_closed_between_uploads_is_no_failure(
    tmp_path: Path, raw: RawServer, idle: float, think: float
) -> None:
    """As nginx's keepalive_timeout does: no header tells it, and it may race the next upload."""

    def close_when_idle(connection: socket.socket, _number: int) -> None:
        if raw.read(connection):
            connection.sendall(ANSWER)
            time.sleep(idle)

    raw.behaviour = close_when_idle
    load = load_of(users=2, ramp=0, warmup=0, window=3 * think, think=think)
    done = offer(tmp_path, raw.url, load)
    assert len(done.samples) >= 4
    assert {s.error for s in done.samples} == {None}
    assert raw.connections == raw.requests == len(done.samples)


@pytest.mark.parametrize("reset", [False, True])
def test_an_upload_that_the_server_cuts_is_a_failure_and_is_not_sent_twice(
    tmp_path: Path, raw: RawServer, reset: bool
) -> None:
    def cut_the_second(connection: socket.socket, _number: int) -> None:
        while raw.read(connection):
            if raw.requests % 2 == 0:
                if reset:
                    linger = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                return
            connection.sendall(ANSWER)

    raw.behaviour = cut_the_second
    load = load_of(users=1, ramp=0, warmup=0, window=1, think=0.1, backoff=0.1)
    done = offer(tmp_path, raw.url, load)
    errors = [s.error for s in done.samples]
    assert len(errors) >= 4
    assert errors == [None if n % 2 == 0 else Cause.CONNECTION for n in range(len(errors))]
    assert raw.requests == len(errors)
    assert {s.status for s in done.samples if s.error} == {0}


def test_a_refused_connection_is_a_failure_of_its_own(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    done = offer(tmp_path, url, load_of(burst=3))
    assert [(s.error, s.status) for s in done.samples] == [(Cause.CONNECTION, 0)] * 3


@pytest.mark.parametrize("half", [ANSWER[:10], ANSWER[:-5], b"nonsense\r\n\r\n"])
def test_half_an_answer_is_none(tmp_path: Path, raw: RawServer, half: bytes) -> None:
    def answer_half(connection: socket.socket, _number: int) -> None:
        if raw.read(connection):
            connection.sendall(half)

    raw.behaviour = answer_half
    (sample,) = offer(tmp_path, raw.url, load_of(burst=1)).samples
    assert (sample.error, sample.status, sample.recording) == (Cause.CONNECTION, 0, None)


@pytest.mark.parametrize("speed", [1.0, 10.0])
def test_an_answer_that_does_not_come_is_a_timeout_of_the_client(
    tmp_path: Path, service: Service, speed: float
) -> None:
    service.delay = 1.0
    load = load_of(users=2, ramp=0, warmup=0, window=1 * speed, timeout=0.3 * speed, backoff=0)
    done = offer(tmp_path, service.url, load, speed)
    assert len(done.samples) >= 4
    assert {(s.error, s.status) for s in done.samples} == {(Cause.CLIENT_TIMEOUT, 0)}
    assert all(0.3 * speed <= s.latency_s < 1.0 * speed for s in done.samples)


def test_the_timeout_is_of_the_whole_answer_not_of_each_byte(
    tmp_path: Path, raw: RawServer
) -> None:
    def trickle(connection: socket.socket, _number: int) -> None:
        if raw.read(connection):
            for byte in ANSWER:
                connection.sendall(bytes([byte]))
                time.sleep(0.05)

    raw.behaviour = trickle
    (sample,) = offer(tmp_path, raw.url, load_of(burst=1, timeout=0.4)).samples
    assert sample.error == Cause.CLIENT_TIMEOUT
    assert 0.4 <= sample.latency_s < len(ANSWER) * 0.05


def test_a_user_whose_upload_timed_out_while_sending_uploads_again(
    tmp_path: Path, raw: RawServer
) -> None:
    """The first connection's server reads nothing, so that sending itself never ends."""
    asleep = threading.Event()

    def read_later(connection: socket.socket, number: int) -> None:
        if number == 0:
            asleep.wait(5)
        while number and raw.read(connection):
            connection.sendall(ANSWER)

    raw.behaviour = read_later
    load = load_of(users=1, ramp=0, warmup=0, window=3, timeout=1, audio="30 MB", think=0.5)
    done = offer(tmp_path, raw.url, load)
    asleep.set()
    errors = [s.error for s in done.samples]
    assert errors[:2] == [Cause.CLIENT_TIMEOUT, None]


def test_an_answer_before_the_body_was_read_is_an_answer(tmp_path: Path, raw: RawServer) -> None:
    """As nginx answers 413: by the header alone, reading on so that the client can finish."""

    def refuse(connection: socket.socket, _number: int) -> None:
        connection.recv(1000)
        connection.sendall(
            b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        )
        while connection.recv(65536):
            pass

    raw.behaviour = refuse
    (sample,) = offer(tmp_path, raw.url, load_of(burst=1, audio="2 MB")).samples
    assert (sample.status, sample.error) == (413, Cause.BODY_TOO_LARGE)
