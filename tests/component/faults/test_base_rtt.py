"""The base round trip: what a delay to the database need not add."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from lab.config import read_faults
from lab.faults.network import ProxyState, Toxiproxy, base_rtt
from lab.model.fault import Fault
from lab.model.knobs import Knobs
from lab.paths import ROOT

FILES = read_faults(ROOT / "faults")
DISTANCE, STORAGE, DOWN = (FILES[name] for name in ("db-distance", "gcs-latency", "db-down"))
AGAIN = DISTANCE.model_copy(update={"fault": "again"})
DELAYED = Fault.model_validate(
    {
        "fault": "delayed",
        "about": "30 ms on top of what is there",
        "proxy": "db",
        "toxics": [{"type": "latency", "delay": "30 ms"}],
    }
)


@pytest.fixture
def toxiproxy(api_url: str) -> Toxiproxy:
    return Toxiproxy(api_url)


class Way:
    """A way on which a round trip takes so long, and what was injected when that was asked, and
    said to be."""

    def __init__(self, toxiproxy: Toxiproxy, took_s: float) -> None:
        self._toxiproxy, self._took_s = toxiproxy, took_s
        self.seen: list[dict[str, ProxyState]] = []
        self.told: list[float] = []

    def __call__(self, delay_s: float) -> float:
        self.seen.append(self._toxiproxy.read_back())
        self.told.append(delay_s)
        return self._took_s


@pytest.mark.parametrize(
    ("settings", "took_s", "base_s"),
    [
        ({"speed": 5}, 0.0063, 0.0013),
        ({"speed": 1}, 0.0269, 0.0019),
        ({"speed": 3}, 0.009, 0.001),  # 8.33 ms: behind 8
        ({"speed": 1, "db_rtt": "17-25 ms"}, 0.023, 0.002),  # behind their mean
        ({"speed": 5}, 0.0049, 0.0),  # the timer was early: nothing is taken off
        ({"speed": 5}, 0.012, 0.003),  # something else was at work: not more than 3 ms
        ({"speed": 10}, 0.0045, 0.0015),  # of 2.5 ms one is left
    ],
)
def test_what_a_round_trip_takes_beyond_the_delay_is_the_base(
    toxiproxy: Toxiproxy, settings: dict[str, Any], took_s: float, base_s: float
) -> None:
    knobs = Knobs().with_settings(settings)
    way = Way(toxiproxy, took_s)
    assert base_rtt(toxiproxy, [STORAGE, DISTANCE], knobs, way) == pytest.approx(base_s)
    (states,) = way.seen
    ((toxic,), storage) = states["db"].toxics, states["gcs"].toxics
    assert (toxic["type"], toxic["stream"], storage) == ("latency", "downstream", ())
    assert toxic["attributes"]["jitter"] == 0  # each answer is as late as the others
    assert way.told == [pytest.approx(toxic["attributes"]["latency"] / 1000)]
    assert all(not state.toxics for state in toxiproxy.read_back().values())


@pytest.mark.parametrize(
    ("faults", "settings"),
    [
        pytest.param([], {}, id="no fault"),
        pytest.param([STORAGE], {}, id="storage only"),
        pytest.param([DELAYED], {}, id="a delay on top"),
        pytest.param([DISTANCE, DOWN], {}, id="the proxy is down"),
        pytest.param([DISTANCE, AGAIN], {}, id="two distances"),
        pytest.param([DISTANCE], {"speed": 25}, id="too short for a proxy"),
        pytest.param([DISTANCE], {"db_rtt": "500 ms"}, id="too long to matter"),
    ],
)
def test_nothing_is_taken_off_where_not_one_delay_stands_for_the_distance(
    toxiproxy: Toxiproxy, faults: Sequence[Fault], settings: dict[str, Any]
) -> None:
    way = Way(toxiproxy, 1.0)
    assert base_rtt(toxiproxy, faults, Knobs().with_settings(settings), way) == 0
    assert way.seen == []


def test_only_the_way_to_the_database_is_shorter_by_it(toxiproxy: Toxiproxy) -> None:
    """A delay of storage that a file gives as long as that distance is as long as it says."""
    of_storage = AGAIN.model_copy(update={"proxy": "gcs"})
    with toxiproxy.injected([DISTANCE, of_storage], Knobs(), 0.002) as states:
        attributes = {name: state.toxics[0]["attributes"] for name, state in states.items()}
        lines = {line.proxy: line.base_s for line in toxiproxy.evidence(0.0, 0.002)}
    assert attributes["db"]["latency"] == 23
    assert attributes["gcs"]["latency"] == 25
    assert lines == {"db": 0.002, "gcs": 0.0}


def test_nothing_stays_injected_where_the_database_does_not_answer(toxiproxy: Toxiproxy) -> None:
    def unanswered(_delay_s: float) -> float:
        raise KeyError("no answer")

    with pytest.raises(KeyError, match="no answer"):
        base_rtt(toxiproxy, [DISTANCE], Knobs(), unanswered)
    assert all(not state.toxics for state in toxiproxy.read_back().values())
