"""An instance's life: start, CPU, idle, stop, death; on virtual time, with doubles."""

from __future__ import annotations

import asyncio

import pytest

from lab.services.cloudrun.gateway import LOOK_EVERY_S
from tests.component.cloudrun.double import Plan
from tests.component.cloudrun.service import Service
from tests.component.cloudrun.virtual import now, run


def test_the_first_request_is_a_cold_start_and_the_next_is_warm() -> None:
    async def story() -> Service:
        service = Service({}, [Plan(made=0.5, listens=1.5)])
        service.send(takes=1.0)
        await service.answered()
        await asyncio.sleep(100.0)
        service.send(takes=1.0)
        await service.answered()
        await service.close()
        return service

    service = run(story())
    assert [call.answers for call in service.calls] == [[(3.0, "200")], [(104.0, "200")]]
    assert len(service.log.of("starting")) == 1
    assert [(line["start_s"], line["made_s"]) for line in service.log.of("ready")] == [(2.0, 0.5)]
    assert [line["waited"] for line in service.log.of("request_start")] == [2.0, 0.0]


def test_cpu_is_withheld_outside_requests_and_nowhere_else() -> None:
    async def story() -> Service:
        service = Service({}, [Plan(listens=2.0)])
        service.send(takes=1.0)
        service.send(takes=1.0)  # follows at once: no pause between the two
        await service.answered()
        await asyncio.sleep(10.0)
        service.send(takes=1.0)
        await service.answered()
        await asyncio.sleep(1.0)
        await service.close()
        return service

    service = run(story())
    assert service.first == [
        (0.0, "cpus 0.5"),
        (4.0, "pause"),
        (14.0, "resume"),
        (15.0, "pause"),
        (16.0, "resume"),
        (16.0, "term"),
    ]
    assert service.log.times("paused", "resumed") == [
        (4.0, "paused"),
        (14.0, "resumed"),
        (15.0, "paused"),
        (16.0, "resumed"),
    ]


def test_an_instance_has_cpu_while_one_of_its_requests_goes_on() -> None:
    async def story() -> Service:
        service = Service({"cloudrun_concurrency": 2}, [Plan(listens=0.0)])
        service.send(takes=1.0)
        service.send(takes=5.0)
        await service.answered()
        await asyncio.sleep(1.0)
        told = list(service.first)
        await service.close()
        assert told == [(0.0, "cpus 0.5"), (5.0, "pause")]
        return service

    run(story())


@pytest.mark.knob("cloudrun_idle")
@pytest.mark.parametrize(("idle", "ended_at"), [("1 min", 63.0), ("15 min", 903.0)])
def test_an_idle_instance_is_ended_and_the_next_request_is_a_cold_start(
    idle: str, ended_at: float
) -> None:
    async def story() -> Service:
        service = Service({"cloudrun_idle": idle})
        service.send(takes=1.0)
        await service.answered()
        await asyncio.sleep(2000.0)
        assert service.driver.alive == []
        assert service.driver.made[0].removed
        service.send(takes=1.0)
        await service.answered()
        await service.close()
        return service

    service = run(story())
    assert service.log.times("idle", "sigterm", "stopped", "removed")[:4] == [
        (ended_at, "idle"),
        (ended_at, "sigterm"),
        (ended_at, "stopped"),
        (ended_at, "removed"),
    ]
    assert len(service.log.of("starting")) == 2


def test_every_request_sets_the_idle_clock_back() -> None:
    async def story() -> Service:
        service = Service({"cloudrun_idle": "1 min"})
        for _ in range(5):
            service.send(takes=1.0)
            await asyncio.sleep(50.0)
        await service.close()
        return service

    assert run(story()).log.of("idle") == []


def test_one_that_does_not_act_on_sigterm_is_killed_10_s_later() -> None:
    async def story() -> Service:
        service = Service({"cloudrun_idle": "1 min"}, [Plan(obeys="kill")])
        service.send(takes=1.0)
        await service.answered()
        await asyncio.sleep(100.0)
        return service

    service = run(story())
    assert service.log.times("sigterm", "sigkill", "stopped") == [
        (63.0, "sigterm"),
        (73.0, "sigkill"),
        (73.0, "stopped"),
    ]
    assert service.log.of("stopped")[0]["why"] == "killed by signal 9"


def test_one_that_cannot_be_killed_is_given_up_and_told_of() -> None:
    async def story() -> Service:
        service = Service({"cloudrun_idle": "1 min"}, [Plan(obeys="nothing"), Plan()])
        service.send(takes=1.0)
        await service.answered()
        await asyncio.sleep(100.0)
        service.send(takes=1.0)
        await service.answered()
        await service.close()
        return service

    service = run(story())
    assert service.outcomes() == {"200": 2}
    assert service.scheduler.stuck == ["instance-1"]
    assert [line["why"] for line in service.log.of("stuck")] == [
        "SIGKILL did not end it",
        "instance-1 is left over",
    ]


def test_a_request_that_comes_while_the_instance_is_stopping_gets_a_new_one() -> None:
    async def story() -> Service:
        service = Service({"cloudrun_idle": "1 min"}, [Plan(obeys="kill"), Plan(listens=2.0)])
        service.send(takes=1.0)
        await service.answered()
        await asyncio.sleep(65.0)  # SIGTERM was at 63, SIGKILL comes at 73
        late = service.send(takes=1.0)
        await service.answered()
        assert late.answers == [(71.0, "200")]
        assert late.instance == "instance-2"
        await service.close()
        return service

    assert run(story()).outcomes() == {"200": 2}


@pytest.mark.parametrize(("oom", "event"), [(True, "oom"), (False, "died")])
def test_requests_in_flight_are_answered_503_when_the_instance_dies(oom: bool, event: str) -> None:
    async def story() -> Service:
        service = Service({"cloudrun_concurrency": 2}, [Plan(listens=1.0)])
        service.send(takes=9.0)
        service.send(takes=9.0, streams=2.0)
        await asyncio.sleep(4.0)
        service.driver.made[0].die(-9, oom=oom)
        await asyncio.sleep(1.0)
        service.send(takes=1.0)
        await service.answered()
        await service.close()
        return service

    service = run(story())
    first, streaming, after = service.calls
    assert first.answers == [(4.0, "503 instance_died")]
    assert streaming.answers == [(4.0, "cut")]
    assert after.answers == [(7.0, "200")]
    assert service.log.times("starting", event) == [
        (0.0, "starting"),
        (4.0, event),
        (5.0, "starting"),
    ]
    assert service.log.of(event)[0]["peak_bytes"] == 1.0


def test_those_who_wait_wait_on_when_the_instance_dies() -> None:
    async def story() -> Service:
        service = Service({}, [Plan(listens=1.0, dies=2.0), Plan(listens=1.0)])
        service.send(takes=5.0)
        service.send(takes=5.0)
        await service.answered()
        await service.close()
        return service

    assert [call.answers for call in run(story()).calls] == [
        [(2.0, "503 instance_died")],
        [(8.0, "200")],
    ]


@pytest.mark.parametrize("plan", [Plan(listens=3.0, dies=2.0), Plan(listens=None, dies=2.0)])
def test_those_who_wait_wait_on_when_an_instance_dies_at_its_start(plan: Plan) -> None:
    async def story() -> Service:
        service = Service({}, [plan, Plan(listens=2.0)])
        service.send(takes=1.0)
        await service.answered()
        await service.close()
        return service

    service = run(story())
    assert service.driver.attempts == [0.0, 3.0]  # 1 s after the death
    assert service.calls[0].answers == [(6.0, "200")]
    assert service.log.of("start_failed")[0]["why"] == "it ended before it listened: exit code 1"


@pytest.mark.parametrize(
    ("plan", "attempts"),
    [
        (Plan(fails=True), [0.0, 1.0, 3.0, 7.0]),
        (Plan(listens=None, dies=1.5), [0.0, 2.5, 6.0]),
    ],
)
def test_one_that_never_starts_is_told_as_that_and_tried_ever_less_often(
    plan: Plan, attempts: list[float]
) -> None:
    async def story() -> Service:
        service = Service({}, [plan])
        service.send()
        await service.answered()
        await service.close()
        return service

    service = run(story())
    assert service.calls[0].answers == [(10.0, "503 instance_died")]
    assert service.driver.attempts == attempts


def test_one_that_does_not_listen_within_4_minutes_is_ended() -> None:
    async def story() -> Service:
        service = Service({}, [Plan(listens=None, obeys="kill"), Plan(listens=2.0)])
        service.send(takes=1.0)
        await asyncio.sleep(260.0)
        await service.close()
        return service

    service = run(story())
    assert service.log.times("start_failed", "sigterm", "sigkill", "starting")[:5] == [
        (0.0, "starting"),
        (240.0, "start_failed"),
        (240.0, "sigterm"),
        (241.0, "starting"),
        (250.0, "sigkill"),
    ]
    assert service.log.of("start_failed")[0]["why"] == "it did not listen within 240 s"


@pytest.mark.knob("cloudrun_min_instances")
def test_instances_that_are_kept_warm_start_unasked_stay_and_are_replaced() -> None:
    async def story() -> Service:
        service = Service({"cloudrun_min_instances": 2, "cloudrun_max_instances": 3})
        await asyncio.sleep(5.0)
        assert len(service.driver.alive) == 2
        assert all(double.paused for double in service.driver.alive)
        for _ in range(3):
            service.send(takes=5.0)
        await service.answered()
        assert len(service.driver.alive) == 3
        await asyncio.sleep(2000.0)
        assert len(service.driver.alive) == 2
        service.driver.alive[0].die()
        await asyncio.sleep(5.0)
        assert len(service.driver.alive) == 2
        await service.close()
        return service

    service = run(story())
    assert service.outcomes() == {"200": 3}
    assert [call.answers[0][0] for call in service.calls] == [10.0, 10.0, 12.0]
    assert len(service.log.of("idle")) == 1


@pytest.mark.knob("cloudrun_boost", "cloudrun_cpus")
@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, [(0.0, "cpus 0.5")]),
        ({"cloudrun_cpus": 2}, [(0.0, "cpus 2")]),
        ({"cloudrun_boost": "on"}, [(0.0, "cpus 2"), (12.0, "cpus 0.5")]),
        ({"cloudrun_boost": "on", "cloudrun_cpus": 2}, [(0.0, "cpus 4"), (12.0, "cpus 2")]),
    ],
)
def test_the_boost_lasts_until_10_s_after_the_start_up(
    settings: dict[str, object], told: list[tuple[float, str]]
) -> None:
    async def story() -> Service:
        service = Service(settings, [Plan(listens=2.0)])
        service.send(takes=20.0)
        await service.answered()
        await service.close()
        return service

    assert [line for line in run(story()).first if line[1].startswith("cpus")] == told


def test_closing_refuses_who_waits_and_lets_an_instance_finish_what_it_can() -> None:
    async def story() -> Service:
        service = Service({}, [Plan(listens=1.0, obeys="kill")])
        service.send(takes=5.0)
        service.send(takes=1.0)
        await asyncio.sleep(3.0)
        closing = asyncio.create_task(service.close())
        await asyncio.sleep(0.0)
        service.send()
        await closing
        await service.answered()
        return service

    service = run(story())
    assert [call.answers for call in service.calls] == [
        [(6.0, "200")],
        [(3.0, "503 no_instance")],
        [(3.0, "503 no_instance")],
    ]
    assert service.log.times("sigterm", "sigkill", "removed") == [
        (3.0, "sigterm"),
        (13.0, "sigkill"),
        (13.0, "removed"),
    ]


def test_closing_while_an_instance_starts_ends_it() -> None:
    async def story() -> Service:
        service = Service({}, [Plan(listens=100.0)])
        service.send()
        await asyncio.sleep(1.0)
        await service.close()
        return service

    service = run(story())
    assert service.outcomes() == {"503 no_instance": 1}
    assert service.driver.alive == []
    assert service.log.of("start_failed") == []


def test_aborting_waits_for_nothing_and_leaves_nothing() -> None:
    async def story() -> Service:
        service = Service({}, [Plan(listens=1.0, obeys="kill")])
        service.send(takes=500.0)
        await asyncio.sleep(3.0)
        service.scheduler.abort()
        await service.close()
        return service

    service = run(story())
    assert service.calls[0].answers == [(3.0, "503 instance_died")]
    assert service.log.of("sigterm") == []
    assert [double.removed for double in service.driver.made] == [True]


async def looked(service: Service, seconds: float) -> None:
    """Look four times a second, as the gateway does."""
    for _ in range(round(seconds / LOOK_EVERY_S)):
        await service.scheduler.look_whether_frozen()
        await asyncio.sleep(LOOK_EVERY_S)


@pytest.mark.parametrize(
    ("frozen", "noted"),
    [
        ((0.5, 60.0), [(0.75, "starting")]),
        ((2.5, 60.0), [(2.75, "ready")]),
        ((2.5, 2.6), []),  # one look alone
        (None, []),
        ((10.0, 60.0), [(20.5, "ready")]),  # it had no CPU anyway, until the next request
    ],
)
def test_an_instance_that_others_freeze_is_noted_once(
    frozen: tuple[float, float] | None, noted: list[tuple[float, str]]
) -> None:
    async def story() -> Service:
        service = Service({}, [Plan(listens=2.0, frozen=frozen)])
        looking = asyncio.create_task(looked(service, 30.0))
        service.send(takes=5.0)
        await service.answered()
        await asyncio.sleep(20.1 - now())
        service.send(takes=5.0)
        await service.answered()
        await looking
        return service

    lines = run(story()).log.of("frozen")
    assert [(line["at"], line["during"]) for line in lines] == noted
    assert {line["why"] for line in lines} <= {"process 7 was stopped (SIGSTOP)"}
