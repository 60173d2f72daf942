from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.model.metrics import Unit
from lab.report import format


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (14.23, "14.2"),
        (6.049, "6.05"),
        (0.27397, "0.274"),
        (5.0, "5.00"),
        (9.996, "10.0"),
        (99.96, "100"),
        (1234.5, "1230"),
        (0.000123456, "0.000123"),
        (1e-12, "0.00000000000100"),
        (-3.14159, "-3.14"),
    ],
)
def test_three_significant_digits(value: float, text: str) -> None:
    assert format.significant(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (6e-6, "<0.001"), (0.001, "0.00100"), (11.94, "11.9")]
)
def test_in_a_table_what_is_tiny_takes_no_room(value: float, text: str) -> None:
    assert format.brief(value) == text


@given(st.floats(min_value=1e-9, max_value=1e12))
def test_rounding_never_moves_a_figure_by_more_than_half_a_percent(value: float) -> None:
    text = format.significant(value)
    assert "e" not in text.lower()
    assert float(text) == pytest.approx(value, rel=0.00501)


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0, "0 %"),
        (0.0001, "<0.1 %"),
        (0.004, "0.4 %"),
        (0.0996, "10 %"),
        (0.05, "5.0 %"),
        (0.372, "37 %"),
        (0.985, "98 %"),
        (0.997, "99.7 %"),
        (0.99, "99 %"),
        (0.9904, "99 %"),
        (0.9906, "99.1 %"),
        (0.9999, "99.9 %"),
        (1, "100 %"),
    ],
)
def test_a_percentage_never_claims_none_or_all_falsely(share: float, text: str) -> None:
    assert format.percent(share) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (59.4, "59 s"), (245, "4 min 05 s"), (4800, "1 h 20 min")],
)
def test_time_left(seconds: float, text: str) -> None:
    assert format.clock(seconds) == text


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("p95", 14.23, "14.2 s"),
        ("auth", 0.0502, "50.2 ms"),
        ("throughput", 6.7, "6.70/s"),
        ("error_rate", 0.012, "1.2 %"),
        ("pg_connections", 25.0, "25"),
        ("cpu_generator", 0.235, "0.235 cores"),
        ("rss_backend", 98.4e6, "98.4 MB"),
        ("net_to_gcs", 999.0, "999 B/s"),
        ("p95", None, "-"),
        ("of_a_later_lab", 1.5, "1.50"),
    ],
)
def test_a_metric_carries_its_unit(name: str, value: float | None, text: str) -> None:
    assert format.metric(name, value) == text


@pytest.mark.parametrize("unit", get_args(Unit))
def test_every_unit_can_be_written(unit: Unit) -> None:
    assert format.quantity(0.0, unit)[0] == "0"
