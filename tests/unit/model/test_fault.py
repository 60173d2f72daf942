from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lab.model.fault import Fault, ProcessFault, without_base
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
def test_a_toxic_is_sent_in_toxiproxys_units_scaled_by_speed(
    toxic: dict[str, Any], speed: float, attributes: dict[str, int]
) -> None:
    (wire,) = fault(toxic).to_toxics(Knobs().with_settings({"speed": speed}))
    assert wire.attributes == attributes
    assert (wire.proxy, wire.name, wire.type) == ("gcs", "a-fault-1", toxic["type"])
    assert (wire.stream, wire.toxicity) == ("downstream", 1.0)


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
    (wire,) = distance.to_toxics(without_base(knobs, base_s))
    assert wire.attributes == attributes
    assert without_base(knobs, base_s).gcs_latency == knobs.gcs_latency


@given(st.integers(0, 9000), st.integers(0, 9000), st.integers(1, 50))
def test_a_latency_keeps_its_span_to_the_millisecond(one: int, other: int, speed: int) -> None:
    low, high = sorted((one, other))
    toxic = {"type": "latency", "delay": f"{low} ms - {high} ms"}
    (wire,) = fault(toxic).to_toxics(Knobs().with_settings({"speed": speed}))
    latency, jitter = wire.attributes["latency"], wire.attributes["jitter"]
    assert latency >= 0
    assert jitter >= 0
    assert abs((latency - jitter) - low / speed) <= 1
    assert abs((latency + jitter) - high / speed) <= 2


def test_toxics_are_named_by_the_fault_and_numbered() -> None:
    names = [
        wire.name
        for wire in fault({"type": "reset_peer"}, {"type": "reset_peer"}).to_toxics(Knobs())
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


def process_fault(at: str = "10 s", lasts: str = "5 s", part: str = "backend") -> Fault:
    keys = {"fault": "a-strike", "about": "x", "part": part, "strike": "kill"}
    return Fault.model_validate(keys | {"at": at, "for": lasts})


def test_a_process_fault_is_planned_and_has_no_toxics() -> None:
    planned = ProcessFault("a-strike", "backend", "kill", at=10.0, lasts=5.0)
    assert process_fault().process_fault == planned
    assert process_fault().to_toxics(Knobs()) == ()
    assert fault({"type": "reset_peer"}).process_fault is None


@pytest.mark.parametrize(
    ("whole", "keys"),
    [
        (process_fault(), ["fault", "about", "part", "strike", "at", "for"]),
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
        (process_fault("10 s", "5 s"), process_fault("15 s"), True),
        (process_fault("10 s", "5 s"), process_fault("16 s"), False),
        (process_fault("10 s", "0 s"), process_fault("10 s", "0 s"), True),
        (process_fault("10 s", "5 s"), process_fault("12 s", part="nginx"), False),
    ],
)
def test_process_faults_overlap_on_one_part_only_in_whichever_order(
    one: Fault, other: Fault, overlap: bool
) -> None:
    assert one.process_fault
    assert other.process_fault
    assert one.process_fault.overlaps(other.process_fault) is overlap
    assert other.process_fault.overlaps(one.process_fault) is overlap


def test_a_plan_reads_as_a_person_says_it() -> None:
    assert str(process_fault("90 s", "2 min").process_fault) == "kill at 90 s, for 2 min"
    assert str(process_fault("500 ms", "0 s").process_fault) == "kill at 500 ms"
