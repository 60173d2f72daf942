"""The event loop that knows how busy it is, with a clock of the test's."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable

import pytest

from lab.services.backend.core.evidence import IdleSelector, MeteredLoop
from lab.stack.ports import accepts, free


class Clock:
    """Time that passes only where the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Waiting(selectors.DefaultSelector):
    """A selector in whose wait happens what the test says."""

    during: Callable[[], object]

    def select(self, _timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.during()
        return []


class Metered(IdleSelector, Waiting):
    """The meter before that selector."""


@pytest.mark.parametrize(("works", "waits"), [(3.0, 1.0), (0.0, 1.0), (2.0, 0.0)])
def test_a_loop_is_busy_while_it_does_not_wait(works: float, waits: float) -> None:
    clock = Clock()

    def wait() -> None:
        clock.now += waits

    meter = Metered(clock)
    meter.during = wait
    for _ in range(5):
        meter.select()
        clock.now += works
    assert meter.busy_s() == pytest.approx(5 * works)


def test_a_wait_that_is_not_over_is_no_work() -> None:
    clock, seen = Clock(), list[float]()

    def wait_and_be_asked() -> None:
        clock.now += 7.0
        seen.append(meter.busy_s())

    meter = Metered(clock)
    meter.during = wait_and_be_asked
    clock.now += 2.0
    meter.select()
    assert seen == [2.0]


def test_a_real_loop_counts_what_blocks_it() -> None:
    async def block() -> float:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, MeteredLoop)
        await asyncio.sleep(0.05)
        before = loop.meter.busy_s()
        time.sleep(0.05)
        return loop.meter.busy_s() - before

    with asyncio.Runner(loop_factory=MeteredLoop) as runner:
        assert runner.run(block()) >= 0.05


def test_what_waits_for_a_server_is_called_once_it_listens() -> None:
    async def serve() -> list[bool]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, MeteredLoop)
        port = free(1)[0]
        heard: list[bool] = []
        loop.when_serving(lambda: heard.append(accepts(port)))
        assert heard == []
        async with await loop.create_server(asyncio.Protocol, "127.0.0.1", port):
            loop.when_serving(lambda: heard.append(accepts(port)))
        async with await loop.create_server(asyncio.Protocol, "127.0.0.1", 0):
            return heard

    with asyncio.Runner(loop_factory=MeteredLoop) as runner:
        assert runner.run(serve()) == [True, True]
