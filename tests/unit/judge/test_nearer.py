"""Whether a figure is surely nearer to one than to another."""

from __future__ import annotations

import random
from math import exp
from types import SimpleNamespace
from typing import Any

import pytest

from lab.judge.comparison import is_nearer
from lab.model.verdict import Spread


def cell(name: str, value: float, error: float = 0.02, effective: float | None = None) -> Any:
    spread = Spread(error=error, batches=20, effective=effective)
    return SimpleNamespace(metrics={name: value}, spreads={name: spread})


CASES = [
    # name, cell, one, other, error of the cell: nearer?
    ("throughput", 1.2, 1.0, 4.0, 0.02, True),
    ("throughput", 1.2, 1.0, 4.0, 0.6, False),
    ("throughput", 2.0, 1.0, 4.0, 0.02, True),
    ("throughput", 2.5, 1.0, 4.0, 0.02, False),
    ("throughput", 3.0, 1.0, 4.0, 0.02, False),
    ("throughput", 0.3, 0.05, 2.4, 0.78, True),  # of next to nothing, too
    ("p95", 18.0, 20.0, 8.0, 0.02, True),
    ("p95", 10.0, 20.0, 8.0, 0.02, False),
]


@pytest.mark.parametrize(("name", "value", "one", "other", "error", "nearer"), CASES)
def test_a_figure_is_nearer_where_its_distance_to_the_middle_is_sure(
    name: str, value: float, one: float, other: float, error: float, nearer: bool
) -> None:
    trio = cell(name, value, error), cell(name, one), cell(name, other)
    assert is_nearer(name, *trio) is nearer


@pytest.mark.parametrize(("effective", "nearer"), [(84.0, True), (5.0, False)])
def test_a_share_is_nearer_by_as_many_independent_uploads_as_it_is_worth(
    effective: float, nearer: bool
) -> None:
    shares = [(1.0, effective), (1.0, 74.0), (0.5, 240.0)]
    trio = [cell("error_rate", share, 0.03, worth) for share, worth in shares]
    assert is_nearer("error_rate", *trio) is nearer


def test_of_what_is_not_known_or_nothing_nobody_can_tell() -> None:
    nothing, one, other = (cell("throughput", rate) for rate in (0.0, 1.0, 4.0))
    assert not is_nearer("throughput", nothing, one, other)
    nothing.metrics["throughput"], nothing.spreads = 1.0, {}
    assert not is_nearer("throughput", nothing, one, other)


def test_of_a_figure_in_the_middle_it_is_said_as_seldom_as_it_claims() -> None:
    draw = random.Random(1)

    def drawn(rate: float) -> Any:
        return cell("throughput", rate * exp(draw.gauss(0, 0.1)), 0.1)

    said = sum(is_nearer("throughput", drawn(2.5), drawn(1.0), drawn(4.0)) for _ in range(2000))
    assert said <= 0.035 * 2000
