"""The base round trip: what a delay to the database need not add."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from lab.faults.adapter import ProxyState, Toxiproxy
from lab.faults.base import base_rtt
from lab.model.fault import Fault
from lab.model.knobs import Knobs
from lab.spec import read_faults
from tests.faults.conftest import running
from tests.test_architecture import ROOT

FILES = read_faults(ROOT / "faults")
DISTANCE, STORAGE, DOWN = (FILES[name] for name in ("db-distance", "gcs-latency", "db-down"))
DELAYED = Fault.model_validate(
    {
        "fault": "delayed",
        "about": "30 ms on top of what is there",
        "proxy": "db",
        "toxics": [{"type": "latency", "delay": "30 ms"}],
    }
)


@pytest.fixture(
    scope="module", params=["embedded", pytest.param("real", marks=pytest.mark.toxiproxy)]
)
def toxiproxy(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Toxiproxy]:
    folder = tmp_path_factory.mktemp(f"base-{request.param}")
    entries = [
        {"name": name, "listen": "127.0.0.1:0", "upstream": "127.0.0.1:9", "enabled": True}
        for name in ("gcs", "db")
    ]
    (folder / "proxies.json").write_text(json.dumps(entries))
    with running(request.param, folder / "proxies.json", folder / "log") as url:
        yield Toxiproxy(url)


class Way:
    """A way on which a round trip takes so long, and what was armed when that was asked."""

    def __init__(self, toxiproxy: Toxiproxy, took_s: float) -> None:
        self._toxiproxy, self._took_s = toxiproxy, took_s
        self.seen: list[dict[str, ProxyState]] = []

    def __call__(self) -> float:
        self.seen.append(self._toxiproxy.read_back())
        return self._took_s


@pytest.mark.parametrize(
    ("settings", "took_s", "base_s"),
    [
        ({"speed": 5}, 0.0063, 0.0013),
        ({"speed": 1}, 0.0269, 0.0019),
        ({"speed": 10}, 0.0035, 0.001),  # behind {2, 3} ms
        ({"speed": 1, "db_rtt": "17-25 ms"}, 0.023, 0.002),  # behind their mean
        ({"speed": 5}, 0.0049, 0.0),  # the timer was early: nothing is taken off
        ({"speed": 5}, 0.012, 0.0025),  # too slow a machine: no more than half
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
    assert all(not state.toxics for state in toxiproxy.read_back().values())


@pytest.mark.parametrize(
    "faults", [[], [STORAGE], [DELAYED], [DISTANCE, DOWN]], ids=["none", "gcs", "added", "down"]
)
def test_nothing_is_taken_off_where_no_delay_stands_for_the_distance(
    toxiproxy: Toxiproxy, faults: Sequence[Fault]
) -> None:
    way = Way(toxiproxy, 1.0)
    assert base_rtt(toxiproxy, faults, Knobs(), way) == 0
    assert way.seen == []


def test_nothing_stays_armed_where_the_database_does_not_answer(toxiproxy: Toxiproxy) -> None:
    def unanswered() -> float:
        raise KeyError("no answer")

    with pytest.raises(KeyError, match="no answer"):
        base_rtt(toxiproxy, [DISTANCE], Knobs(), unanswered)
    assert all(not state.toxics for state in toxiproxy.read_back().values())
