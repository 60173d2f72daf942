"""A cell's network: from its knobs alone, from measured stage times, at a speed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lab.capacity.network import StageTimes, network_of
from lab.errors import UsageError
from lab.model.experiment import Cell
from lab.model.fault import Fault
from tests.fakes.cells import LOAD, make_cell

STORAGE = Fault.model_validate(
    {
        "fault": "gcs-latency",
        "about": "storage is 2-5 s away",
        "proxy": "gcs",
        "toxics": [{"type": "latency", "delay": {"knob": "gcs_latency"}}],
    }
)
DATABASE = Fault.model_validate(
    {
        "fault": "db-distance",
        "about": "the database is a round trip away",
        "proxy": "db",
        "toxics": [{"type": "latency", "delay": {"knob": "db_rtt"}}],
    }
)
TIMES = StageTimes(0.062, 0.028, 0.124, 0.02, np.array([2.0, 3.0, 4.0]), speed=2.0)


def cell(settings: dict[str, Any] | None = None, **more: Any) -> Cell:
    return make_cell(settings, faults=(STORAGE, DATABASE), **more)


def test_a_network_has_the_knobs() -> None:
    found = network_of(cell({"workers": 2, "gcs_call": "to_thread", "db_session": "hold"}))
    assert (found.workers, found.threads, found.blocks_loop) == (2, 6, False)
    assert found.database.held
    assert found.database.connections == 20
    assert found.storage == (2.0, 5.0)
    assert found.database.auth == pytest.approx(0.05, rel=0.05)


def test_a_call_that_blocks_has_one_place() -> None:
    found = network_of(cell())
    assert (found.threads, found.blocks_loop) == (1, True)
    assert found.in_loop == pytest.approx(3.5 + 0.175, rel=0.01)


def test_a_distance_that_is_not_injected_is_none() -> None:
    found = network_of(make_cell())
    assert found.storage == (0, 0)
    assert found.database.auth < 0.01


def test_a_speed_makes_work_longer_and_no_delay() -> None:
    slow, fast = network_of(cell()), network_of(cell(), speed=5.0)
    assert fast.cpu == pytest.approx(5 * slow.cpu)
    assert fast.storage == slow.storage
    beyond = slow.database.auth - 0.05
    assert fast.database.auth == pytest.approx(0.05 + 5 * beyond)


def test_measured_stage_times_are_those_of_their_speed() -> None:
    same = network_of(cell(), TIMES, speed=2.0)
    assert same.database.auth == pytest.approx(0.062)
    assert same.cpu == pytest.approx(0.02)
    slower = network_of(cell(), TIMES)
    assert slower.database.auth == pytest.approx(0.056)
    assert slower.cpu == pytest.approx(0.01)
    assert slower.storage is TIMES.storage


def test_a_lead_is_of_a_shared_socket_alone() -> None:
    assert network_of(cell({"workers": 2})).lead == 0.72
    assert network_of(cell({"workers": 2}), lead=0.6).lead == 0.6
    assert network_of(cell({"workers": 2, "balance": "least_conn"}), lead=0.6).lead == 0
    assert network_of(cell()).lead == 0


def test_large_files_take_more_turns_to_be_read() -> None:
    small = network_of(cell(load={**LOAD, "audio": "50 KB"}))
    large = network_of(cell({"nginx_body": "off"}, load={**LOAD, "audio": "2 MB"}))
    assert small.turns.max() <= 4
    assert large.turns.min() > 20


def test_files_beyond_the_limit_are_refused() -> None:
    found = network_of(cell(load={**LOAD, "audio": "50 KB - 2 MB"}))
    assert found.oversize == pytest.approx(0.175, abs=0.01)
    assert found.turns.max() < 12  # of what comes through


def test_an_instance_has_its_places() -> None:
    knobs = {"cloudrun_cpus": 1, "cloudrun_concurrency": 8, "cloudrun_max_instances": 3}
    found = network_of(cell({**knobs, "gcs_call": "to_thread"}, target="cloudrun"))
    assert found.gateway is not None
    assert (found.gateway.instances, found.gateway.concurrency) == (3, 8)
    assert (found.workers, found.threads, found.balance) == (3, 5, "gateway")


BAD: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "burst": ({}, {"load": {"burst": 5}}, "cell: a load of kind burst has no number of users"),
    "leak": ({"leak": "pool"}, {}, "cell: the model does not know a leak of pool - set leak: off"),
    "pooler": (
        {"pooler": "transaction"},
        {},
        "cell: the model does not simulate PgBouncer - set pooler: off",
    ),
    "mix": (
        {},
        {"load": {**LOAD, "mix": {"upload": "80 %", "progress": "20 %"}}},
        "other things than upload - leave mix out",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_the_model_does_not_know_is_refused(name: str) -> None:
    settings, more, message = BAD[name]
    with pytest.raises(UsageError) as refused:
        network_of(cell(settings, **more))
    assert message in str(refused.value)
