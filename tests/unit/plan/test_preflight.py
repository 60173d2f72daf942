from __future__ import annotations

from typing import Any

import pytest

from lab.errors import UsageError
from lab.plan.estimate import check_pace, min_uploads, too_few
from tests.fakes import make_cell

CRITERIA = {"p50": 5, "p95": 59, "p99": 299}


@pytest.mark.parametrize(
    ("rate", "speed", "size", "message"),
    [
        ("1000/s", 20, "50 KB", "1000/s at speed 20 are 20000 uploads a second, and the load"),
        ("1000/s", 10, "50 KB", "sends at most 5455 of 50 KB - lower the rate, the audio or"),
        ("500/s", 5, "2 MB", "500/s at speed 5 are 2500 uploads a second, and the load generator"),
    ],
)
def test_an_open_load_above_what_the_generator_can_send_is_refused(
    rate: str, speed: int, size: str, message: str
) -> None:
    load = {"rate": rate, "timeout": "1 s", "window": "5 s", "audio": size}
    with pytest.raises(UsageError) as refused:
        check_pace([make_cell({"speed": speed}, load=load)])
    assert message in str(refused.value)
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    "load",
    [
        {"rate": "1000/s", "timeout": "1 s", "audio": "50 KB"},
        {"rate": "5/s"},
        {"users": 5000},
        {"burst": 5000},
    ],
)
def test_a_load_that_some_machine_can_send_is_left_to_the_verdict(load: dict[str, Any]) -> None:
    check_pace([make_cell({"speed": 5}, load=load)])


@pytest.mark.parametrize(
    ("load", "criteria", "messages"),
    [
        (
            {"burst": 40},
            ["p99 < 10 s"],
            [
                "c: p99 < 10 s cannot be shown to hold: about 40 uploads count at most, and it"
                " takes 299 with none beyond the bound"
            ],
        ),
        ({"burst": 40}, ["p50 < 10 s", "pg_connections <= 20", "error_rate == 0 %"], []),
        (
            {"burst": 40},
            ["error_rate < 1 %", "p95 < 10 s"],
            [
                "c: error_rate < 1 % cannot be shown to hold: about 40 uploads count at most, and"
                " it takes 299 with none beyond the bound",
                "c: p95 < 10 s cannot be shown to hold: about 40 uploads count at most, and it"
                " takes 59 with none beyond the bound",
            ],
        ),
        ({"burst": 59}, ["p95 < 10 s"], []),
        ({"users": 2, "window": "60 s"}, ["p95 > 10 s"], []),
        ({"users": 50, "window": "10 min"}, ["p95 < 10 s"], []),
        (
            {"rate": "1/s", "window": "20 s"},
            ["p95 < 10 s"],
            [
                "c: p95 < 10 s cannot be shown to hold: about 30 uploads count at most, and it"
                " takes 59 with none beyond the bound"
            ],
        ),
        (
            {"users": 1, "window": "60 s"},
            ["p95 < 10 s"],
            [
                "c: p95 < 10 s cannot be shown to hold: about 26 uploads count at most, and it"
                " takes 59 with none beyond the bound"
            ],
        ),
    ],
)
def test_a_criterion_that_the_load_cannot_decide_is_known_before_the_run(
    load: dict[str, Any], criteria: list[str], messages: list[str]
) -> None:
    assert too_few(make_cell(cell_id="c", load=load, criteria=criteria)) == messages


@pytest.mark.parametrize("metric", CRITERIA)
def test_what_a_percentile_needs_is_what_the_verdict_asks_for(metric: str) -> None:
    [criterion] = make_cell(criteria=[f"{metric} < 10 s"]).criteria
    assert min_uploads(criterion) == CRITERIA[metric]
