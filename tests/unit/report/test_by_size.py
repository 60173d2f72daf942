"""Uploads by size of file in a cell's report, and the refusals that the sizes predict."""

from __future__ import annotations

from typing import Any

import pytest

from lab.model.distribution import SizeClass
from lab.model.run import CellResult
from lab.report import Style, cell_details
from tests.unit.report.results import CLOSED, result

REPORT = {**CLOSED, "audio": "50 KB - 2 MB"}
CLASSES = [
    {"from": 50_000, "to": 1_048_399, "attempts": 330, "failed": 0, "p50": 3.7, "p95": 5.1},
    {
        "from": 1_048_399,
        "to": 2_000_000,
        "attempts": 70,
        "failed": 70,
        "causes": {"body_too_large": 70},
    },
]
METRICS = {"attempts": 400.0, "oversize": 0.175, "errors.body_too_large": 70.0}


def told(cell: CellResult) -> str:
    return " ".join(cell_details(cell, Style(300)).split())


def of(metrics: dict[str, float] = METRICS, **knobs: Any) -> CellResult:
    sizes = tuple(map(SizeClass.model_validate, CLASSES))
    cell = result(metrics=metrics, load=REPORT, **knobs)
    return cell.model_copy(update={"sizes": sizes})


def test_each_class_has_a_row() -> None:
    text = told(of())
    assert "by size of file" in text
    assert "50.0 KB - 1.05 MB 330 0 % - 3.70 s 5.10 s" in text
    assert "1.05 MB - 2.00 MB 70 100 % body_too_large 70 - -" in text


def test_what_the_sizes_predict_stands_beside_what_was_refused() -> None:
    assert (
        "files above 1.05 MB are refused: 18 % of the load's sizes, 18 % of those sent; refused"
        " were 70 of 400 uploads, 18 % (14 % .. 21 % at 95 %)"
    ) in told(of())


@pytest.mark.parametrize("knobs", [{"nginx": "recommended"}, {"nginx_body": "off"}])
def test_where_nobody_refuses_any_nothing_is_predicted(knobs: dict[str, Any]) -> None:
    text = told(of({"attempts": 400.0, "oversize": 0.0}, **knobs))
    assert "by size of file" in text
    assert "are refused" not in text


def test_of_one_size_there_are_no_classes() -> None:
    assert "by size" not in told(result())
