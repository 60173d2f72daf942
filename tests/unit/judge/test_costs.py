"""What a trial's uploads cost: CPU by part and by upload, and what a round trip takes itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from lab.judge import judge
from lab.judge.costs import FEWEST, cost_of
from lab.judge.trial import Trial
from lab.model.costs import TrialCost
from lab.model.evidence import Evidence, Sample
from tests.unit.judge.observations import (
    WINDOW,
    audit,
    cell,
    machine,
    observation,
    samples,
    worker,
)

SPEED = 5.0
WALL_S = (WINDOW[1] - WINDOW[0]) / SPEED
USED = {"backend": 1.5, "generator": 0.6, "nginx": 0.3}
"""CPU-seconds in the window."""


def evidence() -> Iterator[Evidence]:
    for t, share in zip(WINDOW, (0.0, 1.0), strict=True):
        yield machine(t, 0.4, **{part: cpu_s * share for part, cpu_s in USED.items()})
        yield worker(t, cpu_s=1.2 * share)
    yield audit()


def cost(uploads: Sequence[Sample], target: str = "vm") -> TrialCost | None:
    of = cell(faults=["gcs-latency", "db-distance"], speed=SPEED if target == "vm" else 1)
    of = of.model_copy(update={"target": target})
    return cost_of(Trial(of, observation(uploads, evidence())))


def test_it_is_what_the_window_used_shared_out_among_its_uploads() -> None:
    found = cost(samples(100))
    assert found is not None
    assert (found.uploads, found.size) == (100, 200_000)
    assert found.wall_s == pytest.approx(WALL_S / 100)
    assert found.cpu_s == pytest.approx({"backend": 0.012, "generator": 0.006, "nginx": 0.003})
    assert found.machine_s == pytest.approx(0.4 * WALL_S / 100)
    assert found.others(2) == pytest.approx(0.8 - 2.1 / WALL_S)


def test_a_round_trip_is_what_stages_take_beyond_their_delays_in_wall_seconds() -> None:
    late = [
        one.model_copy(update={"stages": {**one.stages, "write": 0.135}}) for one in samples(99)
    ]
    for uploads, beyond in ((samples(99), 0.0), (late, 0.035)):
        found = cost(uploads)
        assert found is not None
        assert found.trip_s == pytest.approx(beyond / SPEED / 7, abs=1e-6)


def test_a_call_of_storage_is_what_it_took_beyond_its_delay_in_wall_seconds() -> None:
    found = cost(samples(99))
    assert found is not None
    assert found.call_s == pytest.approx(0.0)
    assert found.speed == SPEED
    longer = [one.model_copy(update={"stages": {**one.stages, "gcs": 3.6}}) for one in samples(99)]
    found = cost(longer)
    assert found is not None
    assert found.call_s == pytest.approx(0.1 / SPEED, abs=1e-6)


@pytest.mark.parametrize(("knobs", "known"), [({}, True), ({"gcs_call": "blocking"}, False)])
def test_what_a_loop_works_is_what_its_meter_tells_beyond_its_waits(
    knobs: dict[str, Any], known: bool
) -> None:
    start, end = WINDOW
    lines: list[Evidence] = [
        machine(t, 0.4, **{part: cpu_s * share for part, cpu_s in USED.items()})
        for t, share in ((start, 0.0), (end, 1.0))
    ]
    for t, share in ((start, 0.0), (end, 1.0)):
        lines.append(worker(t, cpu_s=1.2 * share, loop_busy_s=share * 0.35 * WALL_S))
    of = cell(faults=["gcs-latency", "db-distance"], speed=SPEED, **knobs)
    found = cost_of(Trial(of, observation(samples(100), [*lines, audit()])))
    assert found is not None
    if not known:
        assert found.loop_s is None
        return
    rate = 100 / (end - start)
    assert found.loop_s == pytest.approx((0.35 - rate * 0.175) / SPEED / rate)


@pytest.mark.parametrize(
    ("uploads", "target"),
    [
        (samples(FEWEST - 1), "vm"),
        (samples(100, failed=21), "vm"),
        ([], "vm"),
        (samples(100), "cloudrun"),
    ],
    ids=["too-few", "turned-away", "nothing", "cloud-run"],
)
def test_what_cannot_be_told_is_not(uploads: list[Sample], target: str) -> None:
    assert cost(uploads, target) is None


def test_without_readings_nothing_is_told() -> None:
    assert cost_of(Trial(cell(speed=SPEED), observation(samples(100), [audit()]))) is None


def test_a_verdict_has_it() -> None:
    of = cell(faults=["gcs-latency", "db-distance"], speed=SPEED)
    seen = observation(samples(100), evidence())
    assert judge(of, seen).cost == cost_of(Trial(of, seen))
    assert judge(of, seen).cost is not None
