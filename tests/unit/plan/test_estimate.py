from __future__ import annotations

from typing import Any

import pytest

from lab.model.experiment import Cell
from lab.model.knobs import Knobs
from lab.plan.estimate import OVERHEAD_S, drain, estimate

CLOSED = {"users": 10, "ramp": "5 s", "warmup": "10 s", "window": "60 s"}


CLOUDRUN: dict[str, Any] = {"target": "cloudrun", "gcs_call": "executor"}


def cell(load: dict[str, Any], target: str = "vm", **settings: Any) -> Cell:
    knobs = Knobs().with_settings({"gcs_latency": "2 s", "db_rtt": "0 s"} | settings)
    whole = {
        "id": "a",
        "axes": {},
        "target": target,
        "load": load,
        "faults": [],
        "criteria": [],
        "seed": 1,
    }
    return Cell.model_validate(whole | {"knobs": knobs})


def test_a_load_takes_its_duration_and_a_drain_divided_by_speed() -> None:
    idle: dict[str, Any] = {"gcs_call": "executor", "gcs_threads": 10}
    assert estimate([cell(CLOSED, **idle)]) == OVERHEAD_S + 75 + 2
    assert estimate([cell(CLOSED, **idle, speed=2)] * 3) == 3 * (OVERHEAD_S + 77 / 2)
    assert estimate([]) == 0


@pytest.mark.parametrize(
    ("load", "settings", "seconds"),
    [
        (CLOSED, {}, 20.0),
        (CLOSED, {"workers": 2}, 10.0),
        (CLOSED, {"gcs_call": "to_thread", "vm_cpus": 1}, 4.0),
        (CLOSED, {"gcs_call": "audio_pool", "audio_threads": 2}, 10.0),
        (
            CLOSED,
            {"gcs_call": "executor", "db_session": "hold", "pool_size": 1, "max_overflow": 1},
            10.0,
        ),
        (
            CLOSED,
            {"gcs_call": "executor", "db_session": "hold", "max_overflow": "unlimited"},
            2.0,
        ),
        (CLOSED, {"gcs_call": "executor", "db_session": "hold", "pool_class": "NullPool"}, 2.0),
        (CLOSED, CLOUDRUN | {"workers": 4, "cloudrun_pending": "30 s"}, 20.0),
        (CLOSED, CLOUDRUN, 12.0),  # who waits longer than 10 s for an instance is refused
        (CLOSED, {"target": "cloudrun", "cloudrun_concurrency": 4, "cloudrun_cpus": 1}, 18.0),
        (CLOSED, CLOUDRUN | {"cloudrun_workers": 2, "cloudrun_concurrency": 2}, 10.0),
        (CLOSED, CLOUDRUN | {"cloudrun_max_instances": 2}, 10.0),
        (
            CLOSED,
            CLOUDRUN
            | {"cloudrun_concurrency": 10, "db_session": "hold", "pool_size": 1, "max_overflow": 1},
            10.0,
        ),
        ({"burst": 100}, {}, 120.0),
        ({"burst": 100, "timeout": "30 s"}, {}, 30.0),
        ({"stages": [{"users": 4, "over": "9 s"}, {"users": 0, "hold": "1 s"}]}, {}, 8.0),
    ],
)
def test_a_drain_is_the_queue_at_the_end_but_no_longer_than_the_client_waits(
    load: dict[str, Any], settings: dict[str, Any], seconds: float
) -> None:
    assert drain(cell(load, **settings)) == pytest.approx(seconds)
