"""The platform's liveness probe: when an instance is asked, ended and replaced; on virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lab.services.cloudrun.probe import ask_health
from tests.component.cloudrun.double import Plan
from tests.component.cloudrun.service import Service
from tests.component.cloudrun.virtual import run

PROBED = {"health_probe": "10 s", "cloudrun_concurrency": 2}


async def of_one_request(settings: dict[str, Any], plan: Plan, takes: float) -> Service:
    """A service that has one request from the start, until that is answered."""
    service = Service(settings, [plan, Plan(listens=1.0)])
    service.send(takes=takes)
    await service.answered()
    await service.close()
    return service


@pytest.mark.knob("health_probe", "health_timeout", "health_failures")
@pytest.mark.parametrize(
    ("knobs", "ended_at"),
    [
        ({}, 2 + 30 + 1),
        ({"health_timeout": "5 s"}, 2 + 30 + 5),
        ({"health_failures": 2}, 2 + 20 + 1),
        ({"health_probe": "4 s"}, 2 + 12 + 1),
        ({"health_probe": "off"}, None),
    ],
)
def test_one_that_does_not_answer_its_probes_in_a_row_is_killed_with_all_in_it(
    knobs: dict[str, Any], ended_at: float | None
) -> None:
    silent = Plan(listens=2.0, silent=(0.0, 1000.0))
    service = run(of_one_request({**PROBED, **knobs}, silent, takes=100.0))
    [call] = service.calls
    if ended_at is None:
        assert call.answers == [(102.0, "200")]
        assert service.log.of("probe_failed", "probe_ended") == []
        return
    assert call.answers == [(ended_at, "503 instance_died")]
    assert service.log.times("probe_ended", "sigterm", "sigkill", "stopped") == [
        (ended_at, "probe_ended"),
        (ended_at, "sigkill"),
        (ended_at, "stopped"),
    ]
    failures = [line["in_row"] for line in service.log.of("probe_failed")]
    assert failures == list(range(1, len(failures) + 1))
    within = knobs.get("health_timeout", "1 s")
    assert {line["why"] for line in service.log.of("probe_failed")} == {
        f"no answer within {within}"
    }


def test_a_probe_that_is_answered_between_begins_the_count_anew() -> None:
    plan = Plan(listens=2.0, silent=(10.0, 30.0))  # the probes at 12 and 22 s, of those at 12 to 92
    service = run(of_one_request(PROBED, plan, takes=95.0))
    assert [line["in_row"] for line in service.log.of("probe_failed")] == [1, 2]
    assert service.log.of("probe_ended") == []
    assert service.outcomes() == {"200": 1}


def test_who_waits_gets_the_instance_that_takes_its_place() -> None:
    async def story() -> Service:
        service = Service(
            {"health_probe": "1 s", "cloudrun_pending": "1 min"},
            [Plan(listens=2.0, silent=(0.0, 1000.0)), Plan(listens=1.0)],
        )
        service.send(takes=100.0)
        service.send(takes=3.0)
        await service.answered()
        await service.close()
        return service

    service = run(story())
    assert service.outcomes() == {"503 instance_died": 1, "200": 1}
    assert [call.instance for call in service.calls] == ["instance-1", "instance-2"]


def test_an_idle_instance_has_cpu_for_its_probes_and_becomes_idle_all_the_same() -> None:
    async def story() -> Service:
        service = Service({**PROBED, "cloudrun_idle": "35 s"}, [Plan(listens=2.0)])
        service.send(takes=1.0)
        await asyncio.sleep(60.0)
        await service.close()
        return service

    service = run(story())
    told = [what for _, what in service.first]
    assert told[:2] == ["cpus 0.5", "pause"]
    assert told[2:11] == ["resume", "probe", "pause"] * 3
    assert service.log.times("idle") == [(2.0 + 1.0 + 35.0, "idle")]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", ""),
        (b"HTTP/1.1 302 Found\r\n\r\n", ""),
        (b"HTTP/1.1 429 Too Many Requests\r\n\r\n", "it answered 429"),
        (b"nonsense\r\n", "its connection was closed without an answer"),
        (b"", "its connection was closed without an answer"),
        (None, "no answer within 0.2 s"),
    ],
)
def test_an_answer_is_good_from_200_to_399(answer: bytes | None, why: str) -> None:
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        if answer is None:
            await reader.read()
        else:
            writer.write(answer)
        writer.close()

    async def ask() -> str:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            return await ask_health(server.sockets[0].getsockname(), 0.2)

    assert asyncio.run(ask()) == why
    assert asked[0].startswith(b"GET /health HTTP/1.1\r\n")


def test_nobody_there_is_no_answer() -> None:
    assert asyncio.run(ask_health(("127.0.0.1", 1), 1.0)) != ""
