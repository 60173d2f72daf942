from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lab.model.fault import Fault, ProcessFault, beyond
from lab.model.knobs import Knobs


def fault(*toxics: dict[str, Any]) -> Fault:
    return Fault.model_validate(
        {"fault": "a-fault", "about": "x", "proxy": "gcs", "toxics": list(toxics)}
    )


@pytest.mark.parametrize(
    ("toxic", "speed", "attributes"),
    [
        ({"type": "latency", "delay": "2-5 s"}, 1, {"latency": 3500, "jitter": 1500}),
        ({"type": "latency", "delay": "2-5 s"}, 10, {"latency": 350, "jitter": 150}),
        ({"type": "latency", "delay": {"knob": "gcs_latency"}}, 5, {"latency": 700, "jitter": 300}),
        ({"type": "latency", "delay": {"knob": "db_rtt"}}, 1, {"latency": 25, "jitter": 0}),
        ({"type": "latency", "delay": {"knob": "db_rtt"}}, 5, {"latency": 5, "jitter": 0}),
        # 2.5 ms is {2, 3} ms with equal chance: [3 - 1, 3 + 1).
        ({"type": "latency", "delay": {"knob": "db_rtt"}}, 10, {"latency": 3, "jitter": 1}),
        ({"type": "bandwidth", "rate": "100 KB"}, 1, {"rate": 100}),
        ({"type": "bandwidth", "rate": "100 KB"}, 10, {"rate": 1000}),
        ({"type": "timeout", "after": "5 s"}, 10, {"timeout": 500}),
        ({"type": "timeout", "after": "0 s"}, 10, {"timeout": 0}),
        ({"type": "reset_peer"}, 10, {"timeout": 0}),
        ({"type": "slow_close", "delay": "1 s"}, 4, {"delay": 250}),
        (
            {"type": "slicer", "size": "1 KB", "variation": "100 B", "delay": "10 ms"},
            10,
            {"average_size": 1000, "size_variation": 100, "delay": 1000},
        ),
        ({"type": "limit_data", "size": "1 KB"}, 10, {"bytes": 1000}),
    ],
)
def test_a_toxic_is_armed_in_toxiproxys_units_scaled_by_speed(
    toxic: dict[str, Any], speed: float, attributes: dict[str, int]
) -> None:
    (armed,) = fault(toxic).armed(Knobs().with_settings({"speed": speed}))
    assert armed.attributes == attributes
    assert (armed.proxy, armed.name, armed.type) == ("gcs", "a-fault-1", toxic["type"])
    assert (armed.stream, armed.toxicity) == ("downstream", 1.0)


@pytest.mark.parametrize(
    ("speed", "base_s", "span", "attributes"),
    [
        (1, 0.0, "25 ms", {"latency": 25, "jitter": 0}),
        (1, 0.0013, "25 ms", {"latency": 24, "jitter": 1}),  # 23.7 ms, so {23, 24}
        (5, 0.0013, "25 ms", {"latency": 4, "jitter": 1}),  # 5 - 1.3 = 3.7 ms
        (5, 0.001, "25 ms", {"latency": 4, "jitter": 0}),
        (5, 0.006, "25 ms", {"latency": 0, "jitter": 0}),  # no delay is below none
        (1, 0.002, "17-25 ms", {"latency": 19, "jitter": 4}),
    ],
)
def test_a_delay_adds_to_a_base_round_trip_what_lacks_of_the_distance(
    speed: float, base_s: float, span: str, attributes: dict[str, int]
) -> None:
    distance = fault({"type": "latency", "delay": {"knob": "db_rtt"}})
    knobs = Knobs().with_settings({"speed": speed, "db_rtt": span})
    (armed,) = distance.armed(beyond(knobs, base_s))
    assert armed.attributes == attributes
    assert beyond(knobs, base_s).gcs_latency == knobs.gcs_latency


@given(st.integers(0, 9000), st.integers(0, 9000), st.integers(1, 50))
def test_an_armed_latency_keeps_its_span_to_the_millisecond(
    one: int, other: int, speed: int
) -> None:
    low, high = sorted((one, other))
    toxic = {"type": "latency", "delay": f"{low} ms - {high} ms"}
    (armed,) = fault(toxic).armed(Knobs().with_settings({"speed": speed}))
    latency, jitter = armed.attributes["latency"], armed.attributes["jitter"]
    assert latency >= 0
    assert jitter >= 0
    assert abs((latency - jitter) - low / speed) <= 1
    assert abs((latency + jitter) - high / speed) <= 2


def test_toxics_are_named_by_the_fault_and_numbered() -> None:
    names = [
        armed.name for armed in fault({"type": "reset_peer"}, {"type": "reset_peer"}).armed(Knobs())
    ]
    assert names == ["a-fault-1", "a-fault-2"]


def test_a_fault_reads_back_from_json() -> None:
    toxics: list[dict[str, Any]] = [
        {"type": "latency", "delay": {"knob": "db_rtt"}, "toxicity": "20 %"},
        {"type": "latency", "delay": "2-5 s", "stream": "upstream"},
        {"type": "bandwidth", "rate": "100 KB"},
    ]
    whole = fault(*toxics)
    assert Fault.model_validate_json(whole.model_dump_json()) == whole


@pytest.mark.parametrize(
    "toxic",
    [
        {"type": "latncy", "delay": "1 s"},
        {"delay": "1 s"},
        {"type": "latency"},
        {"type": "latency", "delay": 5},
        {"type": "latency", "delay": {"knob": "pool_timeout"}},
        {"type": "latency", "delay": "1 s", "toxicity": "101 %"},
        {"type": "latency", "delay": "1 s", "toxicity": 1},
        {"type": "latency", "delay": "1 s", "stream": "sideways"},
        {"type": "bandwidth", "rate": "999 B"},
        {"type": "timeout", "after": "1 s", "size": "1 KB"},
    ],
)
def test_a_toxic_that_cannot_be_is_refused(toxic: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        fault(toxic)


def strike(at: str = "10 s", lasts: str = "5 s", part: str = "backend") -> Fault:
    keys = {"fault": "a-strike", "about": "x", "part": part, "strike": "kill"}
    return Fault.model_validate(keys | {"at": at, "for": lasts})


def test_a_strike_is_planned_and_arms_nothing() -> None:
    planned = ProcessFault("a-strike", "backend", "kill", at=10.0, lasts=5.0)
    assert strike().planned == planned
    assert strike().armed(Knobs()) == ()
    assert fault({"type": "reset_peer"}).planned is None


@pytest.mark.parametrize(
    ("whole", "keys"),
    [
        (strike(), ["fault", "about", "part", "strike", "at", "for"]),
        (fault({"type": "reset_peer"}), ["fault", "about", "proxy", "down", "toxics"]),
    ],
)
@pytest.mark.parametrize("by_alias", [True, False])
def test_a_fault_is_stored_in_its_own_form_and_reads_back(
    whole: Fault, keys: list[str], by_alias: bool
) -> None:
    written = whole.model_dump(mode="json", by_alias=by_alias)
    assert list(written) == keys
    assert Fault.model_validate_json(json.dumps(written)) == whole


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        (strike("10 s", "5 s"), strike("15 s"), True),
        (strike("10 s", "5 s"), strike("16 s"), False),
        (strike("10 s", "0 s"), strike("10 s", "0 s"), True),
        (strike("10 s", "5 s"), strike("12 s", part="nginx"), False),
    ],
)
def test_strikes_overlap_on_one_part_only_in_whichever_order(
    one: Fault, other: Fault, overlap: bool
) -> None:
    assert one.planned
    assert other.planned
    assert one.planned.overlaps(other.planned) is overlap
    assert other.planned.overlaps(one.planned) is overlap


def test_a_plan_reads_as_a_person_says_it() -> None:
    assert str(strike("90 s", "2 min").planned) == "kill at 90 s, for 2 min"
    assert str(strike("500 ms", "0 s").planned) == "kill at 500 ms"
