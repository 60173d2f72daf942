"""Facts of a replica that several rooms share."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from lab.model.knobs import Knobs
from lab.model.physics import (
    checkout_trips,
    db_trips,
    max_processes,
    pool_connections,
    service_s,
    upload_slots,
    worker_storage_slots,
)
from lab.model.replica import Target
from tests.fakes import make_cell

UNLIMITED = [{"max_overflow": "unlimited"}, {"pool_class": "NullPool"}]
HOLD = {"db_session": "hold", "gcs_call": "executor"}


def test_a_session_that_is_held_makes_two_round_trips_less() -> None:
    released = db_trips(Knobs(db_session="release"))
    held = db_trips(Knobs(db_session="hold"))
    assert (released, held) == ({"auth": 2, "release": 1, "write": 4}, {"auth": 2, "write": 3})


@pytest.mark.parametrize(
    ("settings", "connections"),
    [({}, 20), ({"max_overflow": 0}, 10), *((each, inf) for each in UNLIMITED)],
)
def test_what_a_pool_may_have_out_at_once(settings: dict[str, Any], connections: float) -> None:
    assert pool_connections(Knobs().with_settings(settings)) == connections


@pytest.mark.parametrize(
    ("settings", "slots"),
    [
        ({"max_overflow": 0}, 10),
        ({"max_overflow": 10}, 20),
        ({"pooler": "transaction", "pooler_size": 4}, 4),
        *((each, 20) for each in UNLIMITED),
    ],
)
def test_uploads_in_storage_are_as_many_as_threads_or_held_connections(
    settings: dict[str, Any], slots: int
) -> None:
    assert upload_slots(make_cell(HOLD | settings)) == slots


@pytest.mark.parametrize(
    ("settings", "trips", "seconds"),
    [
        ({}, 0, 3.675),
        ({"pool_pre_ping": "on"}, 1, 3.725),
        ({"pool_class": "NullPool", "pool_pre_ping": "on"}, 4, 3.875),
    ],
)
def test_a_checkout_that_tries_or_opens_a_connection_takes_time(
    settings: dict[str, Any], trips: int, seconds: float
) -> None:
    cell = make_cell(settings)
    assert checkout_trips(cell.knobs) == trips
    assert service_s(cell) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("target", "settings", "processes", "slots"),
    [
        ("vm", {"workers": 3, "gcs_call": "executor", "cloudrun_workers": 2}, 3, 20),
        ("cloudrun", {"workers": 3, "cloudrun_workers": 2, "cloudrun_max_instances": 2}, 4, 1),
        ("cloudrun", {"gcs_call": "executor", "cloudrun_workers": 2}, 2, 1),
        (
            "cloudrun",
            {"gcs_call": "to_thread", "cloudrun_concurrency": 8, "cloudrun_workers": 4},
            4,
            5,
        ),
    ],
)
def test_processes_and_what_each_has_in_storage_at_most(
    target: Target, settings: dict[str, Any], processes: int, slots: int
) -> None:
    cell = make_cell(settings, target=target)
    assert (max_processes(cell), worker_storage_slots(cell)) == (processes, slots)
