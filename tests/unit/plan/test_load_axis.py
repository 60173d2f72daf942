"""The axis `load`: cells that differ in what they are offered."""

from __future__ import annotations

from typing import Any

import pytest

from lab.errors import SpecError, UsageError
from lab.model.load import BurstLoad, ClosedLoad, StagesLoad
from lab.plan import expand
from tests.unit.plan.test_expand import FAULTS, experiment

USERS = {"few": {"users": 5}, "many": {"users": 50, "window": "2 min"}}


def test_a_label_sets_keys_of_the_load_and_keeps_the_others() -> None:
    base = {"users": 1, "ramp": "9 s"}
    few, many = expand(experiment(load=base, matrix={"load": USERS}), FAULTS)
    assert few.load == ClosedLoad.model_validate({"users": 5, "ramp": "9 s"})
    assert many.load == ClosedLoad.model_validate({"users": 50, "ramp": "9 s", "window": "2 min"})
    assert (few.id, many.axes) == ("load=few", {"load": "many"})
    assert few.knobs == many.knobs


@pytest.mark.parametrize(
    ("load", "keys", "expected"),
    [
        ({"burst": 5}, {"burst": 50}, BurstLoad(burst=50)),
        (
            {"stages": [{"users": 5, "hold": "5 s"}]},
            {"stages": [{"users": 9, "hold": "5 s"}]},
            StagesLoad.model_validate({"stages": [{"users": 9, "hold": "5 s"}]}),
        ),
    ],
)
def test_it_varies_every_form(load: dict[str, Any], keys: dict[str, Any], expected: Any) -> None:
    [cell] = expand(experiment(load=load, matrix={"load": {"a": keys}}), FAULTS)
    assert cell.load == expected


def test_it_crosses_with_other_axes() -> None:
    cells = expand(experiment(matrix={"workers": [1, 2], "load": USERS}), FAULTS)
    assert [(cell.knobs.workers, cell.load.peak_users) for cell in cells] == [
        *((1, 5), (1, 50), (2, 5), (2, 50)),
    ]


def test_users_of_the_command_line_are_refused_beside_it() -> None:
    with pytest.raises(UsageError, match="sweeps the load, and --users would change it"):
        expand(experiment(matrix={"load": USERS}), FAULTS, users=7)


def test_a_load_of_another_form_is_refused() -> None:
    with pytest.raises(SpecError, match="load 'a': a load has exactly one of the keys"):
        expand(experiment(matrix={"load": {"a": {"burst": 7}}}), FAULTS)
