"""Bad axes of loads, and what a spec may answer: the message that each gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.config import read_experiment
from lab.errors import SpecError
from tests.unit.config.test_experiment import FAULTS, spec, with_lines

BAD: list[tuple[str, str]] = [
    ("{load: [5, 50]}", ":3:16: axis 'load' has no labels - write labels with keys of the load"),
    ("{load: {}}", ":3:16: axis 'load' has no labels"),
    ("{load: {a: 5}}", ":3:20: 'a' sets no key of the load - set one"),
    ("{load: {a: {}}}", ":3:20: 'a' sets no key of the load - set one"),
    (
        "{load: {a: {users: 6}, b: {users: 6}}}",
        ":3:32: 'b' sets the same as 'a' - remove one of the two",
    ),
    ("{load: {a: {users: 0}}}", "'users': Input should be greater than or equal to 1"),
    ("{load: {a: {windw: 5 s}}}", "'windw': Extra inputs are not permitted"),
    ("{load: {a: {burst: 5}}}", "a load has exactly one of the keys users, stages, burst, rate"),
]


@pytest.mark.parametrize(("matrix", "message"), BAD)
def test_an_axis_of_loads_that_cannot_be(tmp_path: Path, matrix: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        read_experiment(spec(tmp_path, with_lines(matrix=matrix)), FAULTS)
    assert message in str(caught.value)
    assert ":3:" in str(caught.value)


def test_a_varied_load_is_checked_as_the_specs_own_is(tmp_path: Path) -> None:
    matrix = "{load: {a: {stages: [{users: 5}]}}}"
    text = with_lines(load="{stages: [{users: 5, over: 9 s}]}", matrix=matrix)
    with pytest.raises(SpecError, match="the stages take no time at all"):
        read_experiment(spec(tmp_path, text), FAULTS)


def test_the_kind_of_answer_is_one_of_a_closed_set(tmp_path: Path) -> None:
    assert read_experiment(spec(tmp_path, with_lines()), FAULTS).answers == "general"
    with pytest.raises(SpecError, match=r":3:10: .*answers"):
        read_experiment(spec(tmp_path, with_lines(answers="spikes")), FAULTS)


RELATIVE = "[p95 < 10 s, throughput > 1.8 x baseline]"


@pytest.mark.parametrize(
    "load", ["{burst: 5}", "{stages: [{users: 5, over: 9 s, hold: 9 s}]}"], ids=["burst", "stages"]
)
def test_a_relative_criterion_that_no_trial_of_the_load_can_decide(
    tmp_path: Path, load: str
) -> None:
    given = {"matrix": "{workers: [1, 2]}", "baseline": "{workers: 1}"}
    text = with_lines(load=load, criteria=RELATIVE, **given)
    with pytest.raises(SpecError) as caught:
        read_experiment(spec(tmp_path, text), FAULTS)
    kind = load[1:].partition(":")[0]
    assert (
        f"criterion 'throughput > 1.8 x baseline': a load of kind {kind} has no window that says"
        " how well throughput is known - give the load users or a rate"
    ) in str(caught.value)

    counted = with_lines(load=load, criteria="[pg_connections <= 2 x baseline, p95 < 9 s]", **given)
    assert read_experiment(spec(tmp_path, counted), FAULTS).criteria[0].relative
