"""How a speed changes the way in which workers share: what is simulated, and what is made of it."""

from __future__ import annotations

from math import exp
from typing import Any

import numpy as np
import pytest

from lab.capacity import sharing
from lab.capacity.model import Simulated, simulate
from lab.capacity.network import Network, network_of
from lab.capacity.sharing import (
    Parabola,
    SimulatedSplit,
    leads,
    network_at,
    threshold_correction,
)
from lab.config import read_faults
from lab.model.experiment import Cell
from lab.model.fidelity import keeps_split
from lab.model.physics import db_trips
from lab.paths import ROOT
from lab.plan.sharing import LoopWork
from lab.plan.speed import TYPICAL
from tests.fakes import make_cell

FAULTS = read_faults(ROOT / "faults")
USUAL = LoopWork(cpu_s=0.0055, trip_s=TYPICAL.trip_s)
LOAD: dict[str, Any] = {"users": 18, "window": "60 s", "audio": "50 KB"}


def cell(load: dict[str, Any] = LOAD, **knobs: Any) -> Cell:
    return make_cell(
        {"global_rate_limit": "off", "gcs_call": "to_thread", "workers": 2, **knobs},
        load=load,
        faults=[FAULTS["gcs-latency"], FAULTS["db-distance"]],
    )


def simulated(*uploads: tuple[int, float, float], window: float) -> Simulated:
    """Uploads of a worker each, which were sent and ended at these moments."""
    of, sent, ended = (np.array(column, dtype=float) for column in zip(*uploads, strict=True))
    zeros = np.zeros(len(uploads))
    return Simulated(
        ended=ended,
        latency=ended - sent,
        storage=zeros,
        worker=of.astype(np.int64),
        ok=zeros == 0,
        code=zeros.astype(np.int64),
        waits={},
        inside=zeros[:2],
        window=window,
    )


def test_the_lead_is_the_fullest_workers_share_window_by_window() -> None:
    """In the first 5 s both have one upload, in the next the first alone, and then the second has
    one for 4 s and the first for 1 s."""
    seen = simulated((0, 0, 11), (1, 0, 5), (1, 11, 15), (-1, 0, 15), window=15)
    assert leads(seen, 2, 5.0).tolist() == pytest.approx([0.5, 1.0, 0.8])
    assert leads(simulated((0, 0, 2), window=10), 2, 5.0).tolist() == [1.0]  # who is inside of none


def test_what_speed_1_does_at_a_usual_machine_is_the_network_of_the_cell() -> None:
    of = cell()
    usual = network_of(of)
    assert network_at(of, LoopWork(usual.cpu, TYPICAL.trip_s), 1.0).database == usual.database


def test_a_speed_multiplies_work_and_divides_no_delay() -> None:
    """At speed 4 with 10 ms of CPU, and 2 ms beyond each of seven round trips of 25 ms."""
    of = cell()
    network = network_at(of, LoopWork(cpu_s=0.010, trip_s=0.002), 4.0)
    assert network.cpu == pytest.approx(0.040)
    assert sum(db_trips(of.knobs).values()) == 7
    assert network.database.queries == pytest.approx(7 * (0.025 + 4 * 0.002))
    assert network.storage == (2.0, 5.0)


def test_a_parabola_through_exact_values_has_no_error() -> None:
    at = np.array([1.0, 2, 3, 5, 8, 1, 2])
    fit = Parabola.through(at, 2 - 0.02 * (at - 1) + 0.001 * (at - 1) ** 2, [1, 2, 3, 5, 8])
    assert fit.values.tolist() == pytest.approx([2, 1.981, 1.964, 1.936, 1.909])
    assert fit.errors.tolist() == pytest.approx([0] * 5, abs=1e-9)
    assert fit.moved(3) == pytest.approx(1 - exp(-0.064))


def test_what_chance_leaves_open_is_held_against_a_speed() -> None:
    """A line through 0, 1 and 2 twice, with residuals of 0.1: of 3 degrees of freedom the slope's
    error is sqrt(0.06 / 3 / 4), and the last is two steps from the first."""
    at = np.array([1.0, 1, 2, 2, 3, 3])
    fit = Parabola.through(at, np.array([0.1, -0.1] * 3), [1, 2, 3])
    assert fit.values.tolist() == pytest.approx([0, 0, 0])
    assert fit.errors[0] == 0
    line = Parabola.through(at[[0, 1, 4, 5]], np.array([0.1, -0.1] * 2), [1, 3])
    assert line.errors[1] == pytest.approx(2 * (0.04 / 2 / 4) ** 0.5)


def test_one_speed_alone_moves_nothing() -> None:
    fit = Parabola.through(np.array([1.0, 1.0]), np.array([0.1, 0.2]), [1.0])
    assert (fit.moved(0), fit.values.tolist()) == (0, pytest.approx([0.15]))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "UPLOADS", 1500)


@pytest.mark.usefixtures("quick")
def test_more_work_to_a_second_has_two_workers_share_more_evenly() -> None:
    model = SimulatedSplit()
    told = model.split(cell(), USUAL, 8.0)
    assert told is not None
    assert told.window == 60
    assert [effect.speed for effect in told.effects] == [1, 2, 3, 5, 8, 12]
    first, last = told.effects[0], told.effects[-1]
    assert 0.5 < last.lead < first.lead < 0.9
    assert 0 < first.spread < 0.1
    assert last.moved > 0.03
    assert not keeps_split(2, 12, told)
    heavy = model.split(cell(), LoopWork(0.022, 4 * TYPICAL.trip_s), 8.0)
    assert heavy is not None
    assert heavy.moved_at(4) > told.moved_at(4)  # four times the work is as four times the speed


@pytest.mark.usefixtures("quick")
def test_two_users_hardly_meet_whatever_the_speed() -> None:
    told = SimulatedSplit().split(cell({**LOAD, "users": 2}), USUAL, 4.0)
    assert told is not None
    assert keeps_split(2, 4, told)


@pytest.mark.usefixtures("quick")
def test_what_was_simulated_is_not_simulated_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def counted(network: Network, users: int, **more: Any) -> Simulated:
        made.append(users)
        return simulate(network, users, **more)

    monkeypatch.setattr(sharing, "simulate", counted)
    model = SimulatedSplit()
    told, count = model.split(cell(), USUAL, 3.0), len(made)
    again = cell().model_copy(update={"id": "another", "seed": 7})
    assert model.split(again, LoopWork(0.00551, TYPICAL.trip_s), 3.0) == told
    assert len(made) == count
    model.split(cell({**LOAD, "users": 19}), USUAL, 3.0)
    assert len(made) == 2 * count
    assert SimulatedSplit().split(cell(), USUAL, 3.0) == told  # and the same in another process


@pytest.mark.parametrize(
    "unknown",
    [
        cell({"rate": "2/s", "window": "60 s"}),
        cell({"burst": 20}),
        cell(leak="memory"),
        cell({**LOAD, "mix": {"upload": "80 %", "progress": "20 %"}}),
    ],
    ids=["open", "burst", "leak", "mix"],
)
def test_of_what_the_model_does_not_know_nothing_is_said(unknown: Cell) -> None:
    assert SimulatedSplit().split(unknown, USUAL, 3.0) is None


def test_where_hardly_an_upload_succeeds_nothing_is_said() -> None:
    refused = cell({**LOAD, "audio": "2 MB"}, nginx_body="1 MiB")
    assert SimulatedSplit().split(refused, USUAL, 3.0) is None


def test_a_threshold_is_as_much_higher_as_its_odds_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Odds that grow with the 15th power of the users, and are 1/19 at 40 and at 44."""
    one, fast = (network_at(cell(), USUAL, speed) for speed in (1.0, 5.0))
    at = {id(one): 40.0, id(fast): 44.0}

    def odds(network: Network, users: int, bound: float) -> float:
        assert bound == 10.0
        return float(np.log(1 / 19) + 15 * np.log(users / at[id(network)]))

    monkeypatch.setattr(sharing, "_late_odds", odds)
    assert threshold_correction(one, fast, 42.0, 10.0) == pytest.approx(40 / 44)
    assert threshold_correction(one, one, 42.0, 10.0) == 1
    assert threshold_correction(one, fast, 1.0, 10.0) == 1  # a single number has no slope


def test_where_nothing_is_late_no_threshold_is_corrected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "CORRECTING_UPLOADS", 500)
    one, fast = (network_at(cell(), USUAL, speed) for speed in (1.0, 5.0))
    assert threshold_correction(one, fast, 18.0, 1000.0) == pytest.approx(1, abs=0.01)
