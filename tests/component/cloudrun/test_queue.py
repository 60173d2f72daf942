"""Who is served, who waits, and who is refused: on virtual time, with doubles."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.component.cloudrun.double import Plan
from tests.component.cloudrun.service import Service
from tests.component.cloudrun.virtual import now, run


@pytest.mark.knob("cloudrun_concurrency")
@pytest.mark.parametrize(
    ("settings", "at_once", "started", "last_at"),
    [
        ({}, 3, 1, 5.0),  # one after the other, behind a start of 2 s
        ({"cloudrun_concurrency": 3}, 3, 1, 3.0),
        ({"cloudrun_concurrency": 2}, 3, 1, 4.0),
        ({"cloudrun_max_instances": 2}, 2, 2, 3.0),
        ({"cloudrun_max_instances": 2, "cloudrun_concurrency": 2}, 2, 1, 3.0),
        ({"cloudrun_max_instances": 2, "cloudrun_concurrency": 2}, 3, 2, 3.0),
    ],
)
def test_an_empty_service_starts_as_many_instances_as_those_who_wait_need(
    settings: dict[str, int], at_once: int, started: int, last_at: float
) -> None:
    async def story() -> Service:
        service = Service(settings)
        for _ in range(at_once):
            service.send(takes=1.0)
        await service.answered()
        await service.close()
        return service

    service = run(story())
    assert service.outcomes() == {"200": at_once}
    assert len(service.driver.made) == started
    assert max(call.answers[0][0] for call in service.calls) == last_at


@pytest.mark.parametrize(
    ("moments", "waits"),
    [
        ([0.0, 0.0], [(2.0, 2.0), (3.0, 2.0)]),  # one after the other, behind a start of 2 s
        ([0.0, 1.5], [(2.0, 2.0), (1.5, 0.5)]),
        ([0.0, 2.0, 9.0], [(2.0, 2.0), (1.0, 0.0), (0.0, 0.0)]),
    ],
)
def test_a_wait_is_cold_for_as_long_as_the_instance_that_serves_was_starting(
    moments: list[float], waits: list[tuple[float, float]]
) -> None:
    async def story() -> Service:
        service = Service({})
        for moment in moments:
            await asyncio.sleep(moment - now())
            service.send(takes=1.0)
        await service.answered()
        await service.close()
        return service

    service = run(story())
    assert [call.waits for call in service.calls] == [[wait] for wait in waits]
    told = [(line["waited"], line["cold"]) for line in service.log.of("request_start")]
    assert told == waits


@pytest.mark.knob("cloudrun_max_instances")
@pytest.mark.parametrize(("most", "served"), [(1, 3), (2, 6), (3, 9)])
def test_more_instances_take_more_of_a_burst(most: int, served: int) -> None:
    async def story() -> Service:
        service = Service({"cloudrun_max_instances": most})
        for _ in range(10):
            service.send(takes=3.65)
        await service.answered()
        await service.close()
        return service

    service = run(story())
    assert service.outcomes() == {"200": served, "429 no_instance": 10 - served}
    assert len(service.driver.made) == most


def test_at_concurrency_1_a_burst_is_served_one_at_a_time_and_the_rest_refused_at_the_limit() -> (
    None
):
    async def story() -> Service:
        service = Service({})
        for _ in range(10):
            service.send(takes=3.65)
        await service.answered()
        await service.close()
        return service

    service = run(story())
    answers = [call.answers for call in service.calls]
    assert answers[:3] == [[(5.65, "200")], [(9.3, "200")], [(12.95, "200")]]
    assert answers[3:] == [[(10.0, "429 no_instance")]] * 7


@pytest.mark.knob("cloudrun_pending")
@pytest.mark.parametrize(
    ("pending", "starts", "refused_at"),
    [
        ("10 s", 2.0, 10.0),
        ("5 s", 1.0, 5.0),
        ("5 s", 2.0, 7.0),  # 3.5 start-ups are longer
        ("30 s", 2.0, 30.0),
    ],
)
def test_one_that_waits_too_long_is_answered_429(
    pending: str, starts: float, refused_at: float
) -> None:
    async def story() -> Service:
        service = Service({"cloudrun_pending": pending}, [Plan(listens=starts)])
        service.send(takes=100.0)
        service.send()
        await service.answered()
        await service.close()
        return service

    service = run(story())
    assert service.calls[1].answers == [(refused_at, "429 no_instance")]
    assert service.log.of("refused")[0]["took"] == refused_at


def test_the_first_start_ever_is_waited_for_however_long_it_takes() -> None:
    async def story() -> Service:
        service = Service({}, [Plan(listens=60.0)])
        service.send(takes=1.0)
        await service.answered()
        await service.close()
        return service

    assert run(story()).calls[0].answers == [(61.0, "200")]


@pytest.mark.knob("cloudrun_timeout")
@pytest.mark.parametrize(
    ("timeout", "answer"),
    [("5 s", (5.0, "504 request_timeout")), ("2 s", (2.0, "504 request_timeout")),
     ("13 s", (12.0, "200"))],
)  # fmt: skip
def test_the_timeout_counts_queue_and_start_up(timeout: str, answer: tuple[float, str]) -> None:
    async def story() -> Service:
        service = Service({"cloudrun_timeout": timeout}, [Plan(listens=3.0)])
        service.send(takes=9.0)
        await service.answered()
        await service.close()
        return service

    assert run(story()).calls[0].answers == [answer]


def test_an_instance_goes_on_with_the_request_that_timed_out_and_its_place_is_taken() -> None:
    async def story() -> Service:
        service = Service({"cloudrun_timeout": "20 s"}, [Plan(listens=1.0)])
        service.send(takes=22.0)
        await service.answered()
        assert not service.driver.made[0].paused
        service.send(takes=1.0)
        await service.answered()
        await service.close()
        return service

    service = run(story())
    assert service.calls[0].answers == [(20.0, "504 request_timeout")]
    assert service.calls[0].done_at == 23.0
    assert service.calls[1].answers == [(24.0, "200")]


def test_an_answer_that_is_under_way_at_the_timeout_is_cut() -> None:
    async def story() -> Service:
        service = Service({"cloudrun_timeout": "20 s"})
        service.send(takes=30.0, streams=5.0)
        await service.answered()
        await service.close()
        return service

    assert run(story()).calls[0].answers == [(20.0, "cut")]


def test_a_client_that_leaves_while_it_waits_is_forgotten() -> None:
    async def story() -> Service:
        service = Service({})
        service.send(takes=5.0)
        leaver = service.send(takes=5.0)
        service.send(takes=1.0)
        await asyncio.sleep(3.0)
        leaver.leave()
        await service.answered()
        await service.close()
        return service

    service = run(story())
    assert [call.answers for call in service.calls] == [[(7.0, "200")], [], [(8.0, "200")]]
    assert service.calls[1].instance is None
    assert service.log.of("left")[0]["waited"] == 3.0


def test_a_client_that_leaves_while_it_waits_starts_nothing_more() -> None:
    async def story() -> Service:
        service = Service({}, [Plan(fails=True), Plan()])
        leaver = service.send()
        await asyncio.sleep(0.5)  # the first start has failed, the second waits its time
        leaver.leave()
        await asyncio.sleep(100.0)
        await service.close()
        return service

    assert run(story()).driver.attempts == [0.0]


def test_a_place_that_comes_as_the_client_leaves_is_given_to_the_next() -> None:
    async def story() -> Service:
        service = Service({})
        service.send(takes=3.0)
        leaver = service.send(takes=50.0)
        service.send(takes=1.0)
        await asyncio.sleep(5.0)  # the instant at which the place is free
        leaver.leave()
        await service.answered()
        await service.close()
        return service

    service = run(story())
    assert service.calls[2].answers == [(6.0, "200")]
    assert service.scheduler.reading()["in_flight"] == 0


def test_a_body_that_proves_too_large_is_refused_wherever_its_request_is() -> None:
    async def story() -> Service:
        service = Service({})
        first, second = service.send(takes=9.0), service.send(takes=9.0)
        await asyncio.sleep(4.0)
        first.grow()
        second.grow()
        await service.answered()
        await service.close()
        return service

    assert run(story()).outcomes() == {"413 too_large": 2}


@pytest.mark.parametrize("seed", range(20))
def test_every_request_gets_exactly_one_answer_or_its_client_left(seed: int) -> None:
    dice = random.Random(seed)

    async def story() -> tuple[Service, set[int]]:
        plans = [
            Plan(
                listens=dice.choice([0.5, 3.0, None]),
                dies=dice.choice([None, None, dice.uniform(0, 30)]),
                fails=dice.random() < 0.1,
                obeys=dice.choice(["term", "kill"]),
            )
            for _ in range(200)
        ]
        most = dice.randint(1, 3)
        service = Service(
            {
                "cloudrun_max_instances": most,
                "cloudrun_min_instances": dice.randint(0, most),
                "cloudrun_concurrency": dice.randint(1, 5),
                "cloudrun_timeout": f"{dice.randint(5, 60)} s",
                "cloudrun_idle": f"{dice.randint(1, 20)} s",
            },
            [*plans, Plan()],
        )
        left = set()
        for number in range(200):
            call = service.send(takes=dice.expovariate(1.0), streams=dice.choice([None, 0.0]))
            await asyncio.sleep(dice.expovariate(2.0))
            if dice.random() < 0.2:
                call.leave()
                left.add(number)
            if dice.random() < 0.05 and service.driver.alive:
                dice.choice(service.driver.alive).die(-9, oom=True)
        await service.answered()
        await service.close()
        return service, left

    service, left = run(story())
    for number, call in enumerate(service.calls):
        assert len(call.answers) == 1 or (number in left and not call.answers), number
    assert service.driver.alive == []
    assert all(double.removed for double in service.driver.made)
    assert service.scheduler.stuck == []
    assert service.scheduler.reading() == {
        "queue": 0, "in_flight": 0, "starting": 0, "ready": 0, "stopping": 0,
    }  # fmt: skip
