from __future__ import annotations

import pytest

from lab.judge.validity import overstated, scaling, true_speed
from tests.unit.judge.observations import WINDOW, cell

EVEN = {
    "attempts": 120.0,
    "succeeded": 120.0,
    "p50": 4.0,
    "auth": 0.05,
    "release": 0.025,
    "write": 0.1,
}
"""120 uploads in a window of 60 s by one worker: 2 a second, 35 % of its loop in the database."""


def busy(cores: float, **metrics: float) -> dict[str, float]:
    return EVEN | {"cpu_worker_max": cores, "cpu_backend": cores} | metrics


@pytest.mark.parametrize(
    ("speed", "metrics", "says"),
    [
        (1, busy(1.0), None),  # at speed 1 all work is real, however much there is
        (5, busy(0.10), None),  # 0.08 / 2 = 0.04 s more than 4 s: 1 %
        (5, busy(0.40), None),  # 0.16 s: 4 %
        (5, busy(0.50), None),  # its loop is busy 85 %: something else limits it
        (5, busy(0.60), "of what keeps the busiest event loop busy"),  # 0.48 of 0.95
        (5, busy(0.40, p50=2.0), "an upload takes 0.16 s longer than it would"),
        (5, busy(0.05, write=0.4), None),  # (0.05 + 2 x 0.3) x 0.8 / 1.0, but without a fault
    ],
)
def test_work_that_speed_makes_dense_is_a_reason_where_it_matters(
    speed: float, metrics: dict[str, float], says: str | None
) -> None:
    found = list(scaling(cell(speed=speed), metrics, WINDOW))
    assert bool(found) == (says is not None)
    assert all(" - lower --speed, to about " in reason for reason in found)
    assert says is None or any(says in reason for reason in found)


def test_the_speed_that_is_advised_is_the_highest_that_is_true() -> None:
    """Loop 95 % busy at 5, of it 12 % a unit of speed: at 4.5 it is 89 % busy, and no limit."""
    [reason] = scaling(cell(speed=5), busy(0.60, p50=5.0), WINDOW)
    assert reason.endswith("(5% is allowed) - lower --speed, to about 4.5")
    dense = busy(1.0, p50=2.0)  # 0.2 a unit of speed, 0.1 s of each upload: of 2 s 5 % at 2
    assert all(reason.endswith("to about 2") for reason in scaling(cell(speed=5), dense, WINDOW))
    assert true_speed(5, lambda speed: False) == 1
    assert true_speed(3.3, lambda speed: True) == 3
    assert true_speed(3, lambda speed: True) == 2.5


def test_overhead_beyond_the_injected_distance_counts_as_work() -> None:
    slow = busy(0.1, auth=0.07, write=0.13)  # 50 ms more than 7 round trips of 25 ms
    found = overstated(cell(speed=5, faults=["db-distance"]), slow, WINDOW)
    assert found is not None
    assert found.rate == pytest.approx(2.0)
    assert found.busy == pytest.approx(0.1 + 2 * 0.225)
    assert found.excess == pytest.approx((0.1 + 2 * 0.05) * 0.8)


def test_the_loops_own_meter_tells_how_busy_it_is_where_the_sum_tells_more() -> None:
    """CPU within a call is counted twice in the sum; a wait for storage is no call of its own."""
    metered = overstated(cell(speed=5), busy(0.6, loop_busy=0.85), WINDOW)
    assert metered is not None
    assert metered.busy == pytest.approx(0.85)
    assert list(scaling(cell(speed=5), busy(0.6, p50=5.0, loop_busy=0.85), WINDOW)) == []
    computing = overstated(cell(speed=5), busy(0.95, loop_busy=0.80), WINDOW)
    assert computing is not None
    assert computing.busy == pytest.approx(0.95)
    waiting = overstated(cell(speed=5, gcs_call="blocking"), busy(0.1, loop_busy=1.0), WINDOW)
    assert waiting is not None
    assert waiting.busy == pytest.approx(0.1 + 2 * 0.175)


def test_calls_in_other_threads_keep_no_loop_busy() -> None:
    found = overstated(cell(speed=5, db_call="threadpool"), busy(0.1), WINDOW)
    assert found is not None
    assert found.busy == pytest.approx(0.1)


def test_the_busiest_worker_has_its_share_of_the_uploads() -> None:
    metrics = busy(0.3) | {"cpu_backend": 0.4}
    found = overstated(cell(speed=5, workers=2), metrics, WINDOW)
    assert found is not None
    assert found.rate == pytest.approx(2.0 / 2 * 0.3 / 0.2)


def test_an_upload_that_failed_made_no_calls() -> None:
    found = overstated(cell(speed=5), busy(0.1, succeeded=60.0), WINDOW)
    assert found is not None
    assert found.rate == pytest.approx(2.0)
    assert found.busy == pytest.approx(0.1 + 1 * 0.175)


def test_nothing_is_said_without_a_rate() -> None:
    assert overstated(cell(speed=5), {}, WINDOW) is None
    assert list(scaling(cell(speed=5), {}, WINDOW)) == []


def test_a_burst_is_as_dense_as_the_time_until_its_last_answer() -> None:
    """50 uploads answered within 14 s are 3.6 a second, however long a client would wait."""
    metrics = busy(0.043 * 14, attempts=50.0, succeeded=50.0)
    found = overstated(cell(speed=5, load={"burst": 50}), metrics, (0.0, 14.0))
    assert found is not None
    assert found.rate == pytest.approx(50 / 14)
    assert overstated(cell(speed=5, load={"burst": 50}), metrics, (0.0, 0.0)) is None


def test_a_session_that_was_held_makes_a_round_trip_less() -> None:
    metrics = busy(0.1, auth=0.05, release=0.025, write=0.1)
    excess = []
    for session in ("release", "hold"):
        of = cell(speed=5, faults=["db-distance"], db_session=session)
        found = overstated(of, metrics, WINDOW)
        assert found is not None
        excess.append(found.excess)
    assert excess[1] - excess[0] == pytest.approx(2 * 0.025 * 0.8)
