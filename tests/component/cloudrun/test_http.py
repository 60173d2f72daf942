"""The gateway on real sockets, before instances that are small servers of this process."""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections import Counter
from itertools import pairwise

import pytest

from lab.services.backend.core.middleware import handed_at
from lab.services.cloudrun.instance import HOST
from lab.services.cloudrun.rules import MAX_BODY, MAX_HEAD
from tests.component.cloudrun.live import LiveGateway, live, parse

MANY = {"cloudrun_concurrency": 80, "cloudrun_cpus": 1}


def cause(body: bytes) -> str:
    return str(json.loads(body)["cause"])


def test_a_request_and_its_answer_pass_unchanged() -> None:
    async def story() -> None:
        body = random.Random(1).randbytes(3_000_000)
        async with live() as gateway:
            status, headers, answer = await gateway.ask("POST /echo", body)
            assert (status, headers["content-length"]) == (200, "3000000")
            assert answer == body
            assert (await gateway.ask("GET /none"))[0] == 204
            assert (await gateway.ask("HEAD /echo"))[2] == b""

    asyncio.run(story())


def test_an_answer_says_how_long_it_waited_and_whether_for_a_start() -> None:
    async def story() -> None:
        async with live() as gateway:
            _, first, _ = await gateway.ask("GET /echo")
            _, second, _ = await gateway.ask("GET /timed")
            assert re.fullmatch(r"queue;dur=[\d.]+, cold;dur=[\d.]+", first["server-timing"])
            assert re.fullmatch(r"queue;dur=[\d.]+, a;dur=1", second["server-timing"])

    asyncio.run(story())


def test_a_refusal_says_how_long_it_waited() -> None:
    async def story() -> None:
        async with live(cloudrun_pending="0.2 s") as gateway:
            served = asyncio.create_task(gateway.ask("GET /hang"))
            await asyncio.sleep(0.05)
            status, headers, body = await gateway.ask("GET /echo")
            assert (status, cause(body)) == (429, "no_instance")
            assert float(headers["server-timing"].removeprefix("queue;dur=")) >= 200
            gateway.driver.made[0].die()
            assert (await served)[0] == 503

    asyncio.run(story())


def test_an_answer_without_a_length_is_streamed() -> None:
    async def story() -> None:
        async with live() as gateway:
            status, headers, answer = await gateway.ask("GET /stream")
            assert (status, headers["transfer-encoding"]) == (200, "chunked")
            assert answer.endswith(b"0\r\n\r\n")
            assert b"".join(answer.split(b"\r\n")[1::2]) == b"abc"

    asyncio.run(story())


def test_a_chunked_request_passes_and_a_connection_serves_many() -> None:
    async def story() -> None:
        async with live() as gateway:
            reader, writer = await asyncio.open_connection(HOST, gateway.port)
            for _ in range(3):
                writer.write(
                    b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                )
                for block in (b"abc", b"defgh"):
                    writer.write(b"%x\r\n%b\r\n" % (len(block), block))
                    await asyncio.sleep(0.01)
                writer.write(b"0\r\n\r\n")
                status, fields, body = parse(await reader.readuntil(b"abcdefgh"))
                assert (status, fields["content-length"], body) == (200, "8", b"abcdefgh")
            writer.close()

    asyncio.run(story())


def test_the_instance_is_told_who_asks_and_when_and_nothing_of_the_connection() -> None:
    """When is the gateway's to say: what a client says of it is dropped."""

    async def story() -> None:
        async with live() as gateway:
            before = time.monotonic()
            reader, writer = await asyncio.open_connection(HOST, gateway.port)
            writer.write(
                b"GET /head HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 1.2.3.4\r\nTE: trailers\r\n"
                b"X-Lab-Client-Address: 198.18.0.7\r\nConnection: close\r\nA: b\r\n"
                b"X-Request-Start: t=1\r\nX-Request-ID: r1\r\n\r\n"
            )
            _, _, head = parse(await reader.read())
            writer.close()
            lines = head.decode().strip().split("\r\n")
            [start] = [line for line in lines if line.lower().startswith("x-request-start")]
            handed = handed_at(start.partition(": ")[2])
            assert handed is not None
            assert before - 0.001 <= handed <= time.monotonic()
            assert sorted(line.lower() for line in lines[1:] if line != start) == [
                "a: b",
                "host: x",
                "x-forwarded-for: 1.2.3.4, 198.18.0.7",
                "x-forwarded-proto: http",
                "x-request-id: r1",
            ]

    asyncio.run(story())


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (
            b"GET /echo HTTP/1.1\r\nHost: x\r\nA: b \t\r\n",
            200,
        ),  # blanks around a value are none of it
        (b"GET /echo HTTP/1.1\r\n", 400),  # h11, which speaks to instances, would not send these
        (b"GET /echo HTTP/1.1\r\nHost: x\r\nHost: y\r\n", 400),
        (b"GET /echo HTTP/1.0\r\n", 400),
        (b"GET /echo HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 60_000 + b"\r\n", 200),
        (b"GET /echo HTTP/1.1\r\nHost: x\r\nA: " + b"b" * MAX_HEAD + b"\r\n", 431),
        (b"GET /echo HTTP/1.1\r\nHost: x\r\n" + b"A: bcdefgh\r\n" * 9000, 431),
    ],
)
def test_a_head_that_no_instance_may_get_is_answered_by_the_gateway(
    head: bytes, status: int
) -> None:
    async def story() -> None:
        async with live() as gateway:
            reader, writer = await asyncio.open_connection(HOST, gateway.port)
            writer.write(head + b"Connection: close\r\n\r\n")
            answer = parse(await reader.read())
            writer.close()
            assert answer[0] == status
            assert len(gateway.driver.made) == (status == 200)
            if status != 200:
                assert cause(answer[2]) == "bad_upload"
            assert (await gateway.ask("GET /echo"))[0] == 200

    asyncio.run(story())


def test_a_head_without_an_end_is_cut_off_and_the_next_of_a_connection_is_counted_anew() -> None:
    async def story() -> None:
        async with live() as gateway:
            reader, writer = await asyncio.open_connection(HOST, gateway.port)
            for _ in range(3):  # bodies count for nothing
                size = 2 * MAX_HEAD
                writer.write(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size)
                writer.write(b"b" * size)
                assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"
                await reader.readuntil(b"b" * size)
            writer.write(b"GET /echo HTTP/1.1\r\nA: ")
            sent = 0
            while not reader.at_eof() and sent < 10 * MAX_HEAD:
                writer.write(b"b" * 4096)
                sent += 4096
                await asyncio.sleep(0)
                if b"431" in reader._buffer:  # type: ignore[attr-defined] # what has come by now
                    break
            assert MAX_HEAD < sent < 10 * MAX_HEAD
            assert (await reader.readline()) == b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
            writer.close()

    asyncio.run(story())


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_above_32_mib_is_answered_413(declared: bool) -> None:
    async def story() -> None:
        async with live() as gateway:
            reader, writer = await asyncio.open_connection(HOST, gateway.port)
            size = f"Content-Length: {MAX_BODY + 1}" if declared else "Transfer-Encoding: chunked"
            writer.write(f"POST /echo HTTP/1.1\r\nHost: x\r\n{size}\r\n\r\n".encode())
            if not declared:
                block = bytes(1024**2)
                for _ in range(33):
                    writer.write(b"%x\r\n%b\r\n" % (len(block), block))
                    await writer.drain()
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 413 ")
            assert cause(await reader.readuntil(b"}")) == "too_large"
            assert (gateway.driver.made == []) is declared
            writer.close()
            assert (await gateway.ask("POST /echo", b"a"))[2] == b"a"

    asyncio.run(story())


def test_a_body_of_32_mib_passes() -> None:
    async def story() -> None:
        async with live() as gateway:
            status, headers, _ = await gateway.ask("POST /echo", bytes(MAX_BODY))
            assert (status, headers["content-length"]) == (200, str(MAX_BODY))

    asyncio.run(story())


def test_an_answer_that_comes_before_the_body_is_read_is_passed_on() -> None:
    async def story() -> None:
        async with live() as gateway:
            status, headers, body = await gateway.ask("POST /early", bytes(5_000_000))
            assert (status, headers["retry-after"], body) == (503, "5", b"busy")

    asyncio.run(story())


@pytest.mark.parametrize(("path", "what"), [("/shut", "bad_gateway"), ("/hang", "instance_died")])
def test_a_connection_that_ends_without_an_answer_is_answered_503(path: str, what: str) -> None:
    async def story() -> None:
        async with live() as gateway:
            asking = asyncio.create_task(gateway.ask(f"GET {path}"))
            while not (gateway.driver.made and gateway.driver.made[0].seen):
                await asyncio.sleep(0.01)
            if path == "/hang":
                gateway.driver.made[0].die(oom=True)
            status, headers, body = await asking
            assert (status, headers["content-type"]) == (503, "application/problem+json")
            assert cause(body) == what
            assert [line["cause"] for line in gateway.log.of("refused")] == [what]

    asyncio.run(story())


def test_an_answer_that_ends_halfway_is_cut() -> None:
    async def story() -> None:
        async with live() as gateway:
            status, headers, body = await gateway.ask("GET /half")
            assert (status, headers["content-length"], body) == (200, "100", b"half")

    asyncio.run(story())


@pytest.mark.parametrize("body", [0, 2_000_000])
def test_a_client_that_leaves_while_it_waits_is_seen(body: int) -> None:
    async def story() -> None:
        async with live() as gateway:
            hanging = asyncio.create_task(gateway.ask("GET /hang"))
            while not (gateway.driver.made and gateway.driver.made[0].busy):
                await asyncio.sleep(0.01)
            _, writer = await asyncio.open_connection(HOST, gateway.port)
            writer.write(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % body)
            writer.write(bytes(body))
            await writer.drain()
            while gateway.server.scheduler.reading()["queue"] != 1:
                await asyncio.sleep(0.01)
            writer.transport.abort()
            while not gateway.log.of("left"):
                await asyncio.sleep(0.01)
            assert gateway.server.scheduler.reading()["queue"] == 0
            gateway.driver.made[0].die()
            assert (await hanging)[0] == 503
            assert gateway.driver.made[0].seen == ["/hang"]

    asyncio.run(story())


def test_a_client_that_leaves_in_the_middle_of_its_body_frees_its_place() -> None:
    async def story() -> None:
        async with live() as gateway:
            _, writer = await asyncio.open_connection(HOST, gateway.port)
            writer.write(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
            while not (gateway.driver.made and gateway.driver.made[0].busy):
                await asyncio.sleep(0.01)
            writer.transport.abort()
            assert (await gateway.ask("POST /echo", b"next"))[2] == b"next"
            assert [line["how"] for line in gateway.log.of("request_end")] == ["left", "answered"]

    asyncio.run(story())


def test_an_instance_is_given_one_request_at_a_time() -> None:
    async def story() -> None:
        async with live() as gateway:
            answers = await asyncio.gather(*(gateway.ask("GET /slow") for _ in range(5)))
            assert [status for status, _, _ in answers] == [200] * 5
            (instance,) = gateway.driver.made
            assert (instance.most, len(instance.seen)) == (1, 5)

    asyncio.run(story())


def test_readings_of_queue_and_instances_are_noted_when_they_move() -> None:
    async def story() -> LiveGateway:
        async with live() as gateway:
            await asyncio.gather(*(gateway.ask("GET /slow") for _ in range(3)))
            await asyncio.sleep(0.3)
            return gateway

    log = asyncio.run(story()).log
    readings, beats = log.of("reading"), log.of("beat")
    assert len(beats) > len(readings)  # it gives a sign of life where nothing moves, too
    assert {"queue": 2, "in_flight": 1, "ready": 1, "starting": 0, "stopping": 0}.items() <= (
        readings[1].items()
    )
    assert readings[-1]["queue"] == readings[-1]["in_flight"] == 0
    assert all({**a, "at": 0} != {**b, "at": 0} for a, b in pairwise(readings))


def test_a_thousand_requests_get_exactly_one_answer_or_their_client_left() -> None:
    """With slow bodies, clients that leave at any moment, and instances that are killed."""

    async def story() -> tuple[Counter[str], LiveGateway]:
        dice = random.Random(7)
        outcomes: Counter[str] = Counter()
        async with live(cloudrun_max_instances=3, cloudrun_pending="60 s", **MANY) as gateway:
            gate = asyncio.Semaphore(100)
            asking = [
                asyncio.create_task(_one(gateway.port, random.Random(number), gate, outcomes))
                for number in range(1000)
            ]
            while not all(task.done() for task in asking):
                await asyncio.sleep(dice.uniform(0.05, 0.2))
                if gateway.driver.alive:
                    dice.choice(gateway.driver.alive).die(oom=True)
            await asyncio.gather(*asking)
        return outcomes, gateway

    outcomes, gateway = asyncio.run(story())
    assert outcomes.total() == 1000
    assert set(outcomes) <= {"200", "204", "503", "cut", "left"}
    assert min(outcomes[kind] for kind in ("200", "503", "left")) > 0
    assert gateway.server.scheduler.reading() == {
        "queue": 0, "in_flight": 0, "starting": 0, "ready": 0, "stopping": 0,
    }  # fmt: skip
    starts, ends = gateway.log.of("request_start"), gateway.log.of("request_end")
    assert len(starts) == len(ends)


async def _one(port: int, dice: random.Random, gate: asyncio.Semaphore, into: Counter[str]) -> None:
    """One client: a body in pieces with pauses, and perhaps gone before the answer's end."""
    async with gate:
        reader, writer = await asyncio.open_connection(HOST, port)
        pieces = [bytes(dice.choice([0, 10, 30_000])) for _ in range(4)]
        path = dice.choice(["/echo", "/slow", "/none", "/half"])
        size = sum(map(len, pieces))
        writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n".encode())
        writer.write(b"Connection: close\r\n\r\n")
        leaves_at = dice.choice([*range(5), *[None] * 10])
        for number, piece in enumerate(pieces):
            if number == leaves_at:
                break
            writer.write(piece)
            await asyncio.sleep(dice.uniform(0, 0.02))
        if leaves_at is not None:
            writer.transport.abort()
            into["left"] += 1
            return
        into[_kind(await reader.read(), size if path == "/echo" else None)] += 1
        writer.close()


def _kind(answer: bytes, echoed: int | None) -> str:
    """An answer's status; ``cut`` where it is not whole; nothing is no answer at all."""
    status, headers, body = parse(answer)
    if len(body) < int(headers.get("content-length", 0)):
        return "cut"
    if status == 200 and echoed is not None:
        assert len(body) == echoed
    return str(status)
