from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from lab.model.load import BurstLoad, ClosedLoad, Load, OpenLoad, StagesLoad, end_of, users_at
from lab.model.units import SizeRange, Span

LOAD: TypeAdapter[Load] = TypeAdapter(Load)

STAGES = {"stages": [{"users": 10, "over": "5 min"}, {"users": 100, "hold": "1 min"}]}


@pytest.mark.parametrize(
    ("text", "kind", "measured", "peak", "end"),
    [
        ({"users": 50}, ClosedLoad, (15.0, 75.0), 50, 75.0),
        ({"users": 5, "ramp": "0 s", "warmup": "0 s"}, ClosedLoad, (0.0, 60.0), 5, 60.0),
        (STAGES, StagesLoad, (0.0, 360.0), 100, 360.0),
        ({"burst": 50, "timeout": "30 s"}, BurstLoad, (0.0, 30.0), 50, 0.0),
        ({"rate": "5/s", "window": "20 s"}, OpenLoad, (10.0, 30.0), 235, 30.0),
    ],
)
def test_a_load_is_told_by_its_key_and_knows_what_counts(
    text: dict[str, Any], kind: type, measured: tuple[float, float], peak: int, end: float
) -> None:
    load = LOAD.validate_python(text)
    assert isinstance(load, kind)
    assert (load.measured, load.peak_users, end_of(load)) == (measured, peak, end)
    assert LOAD.validate_json(LOAD.dump_json(load)) == load
    assert LOAD.validate_python(load) == load


def test_what_is_left_out_is_the_default() -> None:
    load = LOAD.validate_python({"users": 1})
    assert (load.think, load.backoff) == (Span(low=0, high=0), Span(low=1, high=1))
    assert (load.timeout, load.uplink) == (120.0, None)
    as_text = load.model_dump(mode="json")
    assert (as_text["think"], as_text["backoff"], as_text["uplink"]) == ("0 s", "1 s", "off")
    assert load.audio == SizeRange(low=50_000, high=2_000_000)
    assert as_text["audio"] == "50 KB - 2 MB"  # a stored load says which files it had


@pytest.mark.parametrize(
    "text",
    [{}, {"think": "1 s"}, {"users": 1, "rate": "1/s"}, {"burst": 1, **STAGES}, "users", 5, None],
)
def test_a_load_of_no_kind_or_of_two_is_refused(text: object) -> None:
    with pytest.raises(ValidationError, match="exactly one of the keys users, stages, burst, rate"):
        LOAD.validate_python(text)


@pytest.mark.parametrize(
    "text",
    [
        {"users": 0},
        {"users": 5001},
        {"users": 5, "window": "0 s"},
        {"users": 5, "window": 60},
        {"users": 5, "timeout": "0 s"},
        {"users": 5, "windw": "5 s"},
        {"burst": 5, "window": "5 s"},
        {"stages": []},
        {"stages": [{"users": -1}]},
        {"rate": 5},
        {"rate": "0/s"},
    ],
)
def test_a_load_that_cannot_be_is_refused(text: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        LOAD.validate_python(text)


@pytest.mark.parametrize(
    ("keys", "key", "text"),
    [
        ({"think": "2-5s"}, "think", "2 s - 5 s"),
        ({"think": "90 s"}, "think", "90 s"),
        ({"backoff": "500 ms - 2 s"}, "backoff", "500 ms - 2 s"),
        ({"uplink": "250 KB/s"}, "uplink", "250 KB/s"),
        ({"uplink": "0.25MB / s"}, "uplink", "250 KB/s"),
        ({"uplink": "off"}, "uplink", "off"),
        ({"max_in_flight": 20}, "max_in_flight", 20),
        ({"max_in_flight": "off"}, "max_in_flight", "off"),
    ],
)
def test_a_value_reads_back_as_it_is_stored(keys: dict[str, Any], key: str, text: object) -> None:
    load = LOAD.validate_python({"rate": "5/s", **keys})
    assert load.model_dump(mode="json")[key] == text
    assert LOAD.validate_python(load.model_dump(mode="json")) == load


@pytest.mark.parametrize(
    ("keys", "peak"), [({}, 235), ({"max_in_flight": 20}, 20), ({"max_in_flight": 999}, 235)]
)
def test_an_open_load_has_no_more_users_than_may_be_in_flight(
    keys: dict[str, Any], peak: int
) -> None:
    assert LOAD.validate_python({"rate": "5/s", "window": "20 s", **keys}).peak_users == peak


@pytest.mark.parametrize(
    ("keys", "seconds"),
    [
        ({}, 0.0),
        ({"uplink": "250 KB/s", "audio": "200 KB"}, 0.8),
        ({"uplink": "250 KB/s"}, 528_613 / 250_000),
        ({"uplink": "1 MB/s", "audio": "500 KB - 1 MB"}, 0.5 / 0.693147),
    ],
)
def test_the_line_is_busy_with_an_upload_of_mean_size(keys: dict[str, Any], seconds: float) -> None:
    assert LOAD.validate_python({"burst": 5, **keys}).uplink_s == pytest.approx(seconds, rel=1e-5)


STEPS: dict[str, Any] = {
    "stages": [
        {"users": 10, "over": "5 s", "hold": "55 s"},
        {"users": 30, "over": "10 s", "hold": "50 s"},
        {"users": 0, "over": "30 s"},
    ]
}


@pytest.mark.parametrize(
    ("t", "users"),
    [
        *((-1, 0), (0, 0), (2.5, 5), (5, 10), (59, 10), (65, 20)),
        *((70, 30), (119, 30), (135, 15), (150, 0), (999, 0)),
    ],
)
def test_the_users_of_stages_move_linearly_and_hold(t: float, users: int) -> None:
    assert users_at(LOAD.validate_python(STEPS), t) == users


@pytest.mark.parametrize(
    ("kind", "t", "users"),
    [
        ({"users": 20, "ramp": "10 s"}, 5.0, 10),
        ({"users": 20, "ramp": "0 s"}, 0.0, 20),
        ({"users": 20, "ramp": "0 s"}, -0.1, 0),
        ({"stages": [{"users": 20, "hold": "9 s"}]}, 0.0, 20),
        ({"stages": [{"users": 20, "hold": "9 s"}]}, -0.1, 0),
        ({"users": 20, "ramp": "10 s"}, 80.0, 20),
        ({"users": 20, "ramp": "10 s"}, 80.1, 0),
        ({"burst": 50}, 3.0, 7),
        ({"rate": "5/s"}, 3.0, 7),
    ],
)
def test_the_users_of_the_other_loads(kind: dict[str, Any], t: float, users: int) -> None:
    assert users_at(LOAD.validate_python(kind), t, inflight=7) == users


@pytest.mark.parametrize(
    ("steps", "peak"),
    [
        (STEPS["stages"], (68.5, 123.0)),
        ([{"users": 100, "over": "300 s"}], (270.0, 300.0)),
        ([{"users": 50, "over": "0 s", "hold": "60 s"}], (0.0, 60.0)),
        ([{"users": 50, "hold": "5 s"}, {"users": 48, "hold": "5 s"}], (0.0, 10.0)),
        ([{"users": 50, "hold": "5 s"}, {"users": 1, "hold": "9 s"}], (0.0, 5.0)),
        ([{"users": 0, "hold": "5 s"}], (0.0, 5.0)),
    ],
)
def test_where_a_load_in_stages_is_at_its_peak(
    steps: list[dict[str, Any]], peak: tuple[float, float]
) -> None:
    assert StagesLoad.model_validate({"stages": steps}).peak == pytest.approx(peak)
