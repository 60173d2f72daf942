"""The cell that the others are compared with."""

from __future__ import annotations

from typing import Any

import pytest

from lab.errors import SpecError
from lab.model.experiment import Cell
from lab.plan import expand, never_early
from lab.store.runs import digest
from tests.unit.plan.test_expand import FAULTS, experiment

POOLS = {"5+5": {"pool_size": 5, "max_overflow": 5}, "9+1": {"pool_size": 9, "max_overflow": 1}}
MATRIX: dict[str, Any] = {"workers": [1, 2], "pool": POOLS}
RELATIVE = ["p95 < 10 s", "throughput > 1.8 x baseline"]


def cells(**keys: Any) -> tuple[Cell, ...]:
    return expand(experiment(matrix=MATRIX, **keys), FAULTS)


def test_it_comes_first_and_the_others_are_held_against_it() -> None:
    first, *others = cells(baseline={"workers": 2, "pool": "5+5"}, criteria=RELATIVE)
    assert (first.id, first.baseline, first.relative) == ("workers=2,pool=5+5", "", ())
    assert [cell.id for cell in others] == [
        "workers=1,pool=5+5",
        "workers=1,pool=9+1",
        "workers=2,pool=9+1",
    ]
    assert {cell.baseline for cell in others} == {first.id}
    assert {tuple(map(str, cell.relative)) for cell in others} == {(RELATIVE[1],)}
    assert {tuple(map(str, cell.criteria)) for cell in (first, *others)} == {(RELATIVE[0],)}


def test_every_pass_of_a_repeat_has_its_own() -> None:
    repeated = cells(baseline={"workers": 1, "pool": "9+1"}, repeat=2)
    baselines = ["workers=1,pool=9+1,repeat=1", "workers=1,pool=9+1,repeat=2"]
    assert [cell.id for cell in repeated if not cell.baseline] == baselines
    assert [cell.baseline for cell in repeated[1:4]] == [baselines[0]] * 3
    assert [cell.baseline for cell in repeated[5:]] == [baselines[1]] * 3


def test_a_value_may_be_written_as_the_matrix_does_or_otherwise() -> None:
    spec = experiment(matrix={"pool_timeout": ["5 s", "60s"]}, baseline={"pool_timeout": "60 s"})
    assert expand(spec, FAULTS)[0].axes == {"pool_timeout": "1 min"}


def test_axes_that_one_cell_alone_has_may_be_left_out() -> None:
    spec = experiment(matrix={"workers": [1, 2]}, baseline={"workers": "2"})
    assert [cell.id for cell in expand(spec, FAULTS)] == ["workers=2", "workers=1"]


@pytest.mark.parametrize(
    ("baseline", "what", "remedy"),
    [
        (
            {"worker": 1},
            "baseline: 'worker' is no axis of the matrix",
            "its axes are workers, pool",
        ),
        ({"workers": 3}, "baseline: workers is never '3' in the matrix", "1, 2"),
        ({"pool": "5+6"}, "baseline: pool is never '5+6' in the matrix", "5+5"),
        ({"workers": 1}, "baseline 'workers: 1' is 2 cells", "give it a value of pool too"),
        ({"workers": "many"}, "'workers': ", "lists units and bounds"),
        (
            {"workers": True, "pool": "5+5"},
            "baseline: workers is never 'true' in the matrix",
            "known are: 1, 2",
        ),
    ],
)
def test_one_that_is_no_cell_or_several_is_refused(
    baseline: dict[str, Any], what: str, remedy: str
) -> None:
    with pytest.raises(SpecError) as error:
        cells(baseline=baseline)
    assert error.value.what.startswith(what)
    assert remedy in (error.value.remedy or "")


def test_cells_without_one_have_the_digest_that_they_had() -> None:
    plain = cells()
    data = [cell.model_dump(mode="json") for cell in plain]
    assert all(one["baseline"] == "" and one["relative"] == [] for one in data)
    assert digest(plain) != digest(cells(baseline={"workers": 1, "pool": "5+5"}))


def test_a_comparison_of_figures_is_never_ended_early() -> None:
    chosen = cells(
        baseline={"workers": 1, "pool": "5+5"}, criteria=RELATIVE, stop_when_decided=True
    )
    assert not any("comparison" in why for why in never_early(chosen[0]))
    assert any("is a comparison of figures" in why for why in never_early(chosen[1]))
