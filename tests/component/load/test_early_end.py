"""A window that is ended before its time, by the real generator."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab.load import schedule
from lab.load.driver import LoadResult, LocustLoad
from lab.model.evidence import Sample
from lab.model.load import Load, OpenLoad
from lab.model.run import LoadSoFar, LoadTick
from tests.component.load.conftest import Service, cell_of, load_of, read_samples

SPEED = 4.0


def offer(
    folder: Path,
    service: Service,
    load: Load,
    is_decided: Callable[[LoadSoFar], bool],
    ticks: list[LoadTick] | None = None,
) -> tuple[LoadResult, list[Sample], float]:
    """What came of it, and the wall-clock seconds from t = 0 to the last answer."""
    samples, log = folder / "samples.jsonl", folder / "logs" / "generator.log"
    tick = (lambda _tick: None) if ticks is None else ticks.append
    cell = cell_of(load, SPEED)
    result = LocustLoad().run(cell, service.url, samples, log, tick, None, is_decided)
    return result, read_samples(samples), time.monotonic() - result.t0


@pytest.mark.parametrize(
    "keys",
    [
        {"users": 4, "ramp": 1, "warmup": 1, "window": 600, "think": 0.4},
        {"users": 4, "ramp": 0, "warmup": 1, "window": 600, "think": 300},
        {"rate": 10, "warmup": 1, "window": 600, "timeout": 2},
        {"rate": 0.05, "warmup": 1, "window": 600, "timeout": 2},
    ],
    ids=["closed", "long pauses", "open", "few arrivals"],
)
def test_nothing_is_sent_once_a_window_has_ended_and_what_was_sent_is_answered(
    tmp_path: Path, service: Service, keys: dict[str, Any]
) -> None:
    service.delay = 1.0 / SPEED
    ticks: list[LoadTick] = []
    result, samples, wall = offer(tmp_path, service, load_of(**keys), lambda s: s.at >= 8, ticks)
    (start, end), decided = result.window, result.decided_at
    assert decided is not None
    assert start < 8 <= decided <= end < 20
    assert wall < 40 / SPEED
    # What had arrived when an open load's window ended is sent, if a moment later.
    is_open = "rate" in keys
    assert all((s.planned_at if is_open else s.sent_at) < end for s in samples)
    assert [sample.error for sample in samples] == [None] * len(samples)
    assert ticks[-1].ended_at == end
    assert ticks[-1].sent == len(samples)


def test_an_open_load_sends_what_had_arrived_when_its_window_ended(
    tmp_path: Path, service: Service
) -> None:
    load = load_of(rate=10, warmup=1, window=600, timeout=5)
    assert isinstance(load, OpenLoad)
    result, samples, _ = offer(tmp_path, service, load, lambda so_far: so_far.at >= 8)
    arrived = [at for at in schedule.arrivals(load, 1) if at < result.window[1]]
    assert sorted(s.planned_at for s in samples) == pytest.approx(arrived, abs=1e-5)


def test_a_look_sees_what_was_answered_and_what_is_under_way(
    tmp_path: Path, service: Service
) -> None:
    service.delay = 2.0 / SPEED
    looks: list[LoadSoFar] = []

    def look(so_far: LoadSoFar) -> bool:
        looks.append(LoadSoFar(so_far.at, tuple(so_far.samples), so_far.under_way))
        return False

    load = load_of(users=3, ramp=2, warmup=0, window=12)
    result, samples, _ = offer(tmp_path, service, load, look)
    assert (result.window, result.decided_at) == (load.measured, None)
    assert len(looks) > 5
    for so_far in looks:
        waiting = [s.sent_at for s in samples if s.sent_at <= so_far.at < s.sent_at + s.latency_s]
        ended = [s for s in samples if s.sent_at + s.latency_s <= so_far.at]
        assert sorted(so_far.under_way) == pytest.approx(sorted(waiting), abs=1e-5)
        assert [s for s in so_far.samples if s.sent_at + s.latency_s <= so_far.at] == ended


def test_a_decision_that_comes_when_the_window_is_over_ends_nothing(
    tmp_path: Path, service: Service
) -> None:
    service.delay = 4.0 / SPEED
    load = load_of(users=2, ramp=0, warmup=0, window=5)
    result, _, _ = offer(tmp_path, service, load, lambda so_far: so_far.at >= 5)
    assert (result.window, result.decided_at) == (load.measured, None)


def test_an_order_of_an_earlier_trial_does_not_end_this_one(
    tmp_path: Path, service: Service
) -> None:
    load = load_of(users=2, ramp=0, warmup=0, window=600, think=0.4)
    first, _, _ = offer(tmp_path, service, load, lambda so_far: so_far.at >= 3)
    second, _, _ = offer(tmp_path, service, load, lambda so_far: so_far.at >= 8)
    assert first.window[1] < 8 < second.window[1]
