"""A cell's network with what its trials measured, at their speed and at 1."""

from __future__ import annotations

from typing import Any

import pytest

from lab.capacity import sharing
from lab.capacity.fitted import CellKey, MeasuredTimes, NetworkModel, correction_of
from lab.model.capacity import CapacityTrial
from lab.model.times import TrialTimes
from tests.unit.capacity.test_aimed import delayed
from tests.unit.capacity.test_search import ERRORS, P95, trial

STORAGE = tuple(2 + 3 * (i + 0.5) / 200 for i in range(200))


def model(speed: float, **knobs: Any) -> NetworkModel:
    """A cell whose upload has its loop for 10 ms at speed 1, and waits 0.2 s for its database."""
    cell = delayed({"workers": 2, "gcs_call": "executor", **knobs})
    stages = 0.08, 0.04, 0.08
    return NetworkModel(CellKey.of(cell), MeasuredTimes(stages, 0.01 * speed, STORAGE, speed), 0.7)


def test_at_speed_1_its_own_work_takes_that_much_less() -> None:
    network = model(5.0).network
    one = model(5.0).slowed
    assert one.cpu_before + one.cpu_after == pytest.approx(0.01)
    assert network.cpu_before + network.cpu_after == pytest.approx(0.05)
    assert network.database.auth == pytest.approx(0.08)
    assert one.database.auth < 0.08
    assert one.storage_mean == network.storage_mean


@pytest.mark.parametrize(
    "alike", [model(1.0), model(5.0, workers=1), model(5.0, balance="round_robin")]
)
def test_where_a_speed_moves_no_split_nothing_is_corrected(alike: NetworkModel) -> None:
    assert correction_of(alike, 40, 10.0) == 1


def test_workers_that_share_more_evenly_when_they_are_fast_break_later_than_at_1(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sharing, "CORRECTING_UPLOADS", 6000)
    corrections = [correction_of(model(speed, gcs_threads=11), 40, 10.0) for speed in (2.0, 4.0)]
    assert 1 / 1.15 < corrections[1] < corrections[0] < 1


def test_far_from_the_threshold_no_correction_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """There the odds follow no power of the users: an upload in ten thousand is late."""
    monkeypatch.setattr(sharing, "CORRECTING_UPLOADS", 2000)
    for users in (15, 18):
        assert 1 / 1.15 - 1e-9 <= correction_of(model(8.0, gcs_threads=20), users, 10.0) <= 1.15


def at_speed(speed: float, uploads: int) -> CapacityTrial:
    times = TrialTimes(
        sent=tuple(float(i) for i in range(uploads)),
        latency=(4.0,) * uploads,
        storage=(3.5,) * uploads,
        speed=speed,
    )
    return trial(15, {P95: 0.0, ERRORS: 0.0}).model_copy(update={"times": times})


def test_trials_at_several_speeds_count_by_their_uploads() -> None:
    found = MeasuredTimes.of([at_speed(2.0, 100), at_speed(4.0, 300)])
    assert found
    assert found.speed == 3.5
    assert found.coarse().speed == 3.5
