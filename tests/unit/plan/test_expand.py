from __future__ import annotations

from math import prod
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.errors import SpecError, UsageError
from lab.model.experiment import Experiment
from lab.model.fault import Fault
from lab.model.knobs import Knobs, Preset
from lab.model.load import BurstLoad, ClosedLoad
from lab.model.replica import PARTS, Target
from lab.model.units import Span
from lab.plan import expand, no_faster

FAULTS = {
    name: Fault.model_validate({"fault": name, "about": "x", "proxy": proxy, "down": True})
    for name, proxy in (("gcs-latency", "gcs"), ("db-distance", "db"))
}


STRIKE = {"about": "x", "strike": "kill", "at": "1 s", "for": "1 s"}
FAULTS |= {
    name: Fault.model_validate(STRIKE | {"fault": name, "part": part})
    for name, part in (("backend-killed", "backend"), ("pooler-killed", "pgbouncer"))
}


def experiment(**keys: Any) -> Experiment:
    return Experiment.model_validate({"experiment": "a", "load": {"users": 5}} | keys)


def test_every_combination_is_a_cell_and_the_last_axis_turns_fastest() -> None:
    pools = {"5+5": {"pool_size": 5, "max_overflow": 5}, "9+1": {"pool_size": 9, "max_overflow": 1}}
    cells = expand(experiment(matrix={"workers": [1, 2], "pool": pools}), FAULTS)
    assert [cell.id for cell in cells] == [
        "workers=1,pool=5+5",
        "workers=1,pool=9+1",
        "workers=2,pool=5+5",
        "workers=2,pool=9+1",
    ]
    assert cells[1].axes == {"workers": "1", "pool": "9+1"}
    last = cells[3].knobs
    assert (last.workers, last.pool_size, last.max_overflow) == (2, 9, 1)


def test_without_a_matrix_the_cell_has_the_experiments_name() -> None:
    (cell,) = expand(experiment(experiment="as-found"), FAULTS)
    assert (cell.id, cell.axes, cell.knobs) == ("as-found", {}, Knobs())
    assert cell.faults == (FAULTS["gcs-latency"], FAULTS["db-distance"])


def test_a_value_is_labelled_as_the_lab_writes_it() -> None:
    (cell,) = expand(experiment(matrix={"gcs_latency": ["2-5s"]}), FAULTS)
    assert cell.axes == {"gcs_latency": "2 s - 5 s"}
    assert cell.id == "gcs_latency=2s-5s"
    assert cell.knobs.gcs_latency == Span(low=2, high=5)


def test_a_repeat_is_a_pass_of_its_own_with_a_seed_of_its_own() -> None:
    cells = expand(experiment(matrix={"workers": [1, 2]}, repeat=2), FAULTS)
    assert [cell.id for cell in cells] == [
        "workers=1,repeat=1",
        "workers=2,repeat=1",
        "workers=1,repeat=2",
        "workers=2,repeat=2",
    ]
    assert cells[2].axes == {"workers": "1", "repeat": "2"}
    first, second, third, fourth = (cell.seed for cell in cells)
    assert first == second != third == fourth


@given(st.integers(0, 2**31 - 1), st.integers(1, 100))
def test_seeds_depend_on_seed_and_repeat_alone(seed: int, repeat: int) -> None:
    cells = expand(experiment(seed=seed, repeat=repeat), FAULTS)
    assert len({cell.seed for cell in cells}) == repeat
    swept = expand(experiment(seed=seed, repeat=repeat, matrix={"workers": [1, 2]}), FAULTS)
    assert {cell.seed for cell in swept} == {cell.seed for cell in cells}
    assert all(0 <= cell.seed < 2**31 for cell in cells)


MATRICES = st.fixed_dictionaries(
    {},
    optional={
        "workers": st.lists(st.integers(1, 16), min_size=1, max_size=4, unique=True),
        "gcs_threads": st.lists(st.integers(1, 256), min_size=1, max_size=3, unique=True),
        "db_session": st.just(["hold", "release"]),
        "pool": st.just({"a": {"pool_size": 5}, "b": {"pool_size": 6, "max_overflow": 0}}),
    },
)


@given(MATRICES, st.integers(1, 3))
def test_a_matrix_has_as_many_different_cells_as_the_product_of_its_axes(
    matrix: dict[str, Any], repeat: int
) -> None:
    knobs = {"gcs_call": "executor"}
    cells = expand(experiment(knobs=knobs, matrix=matrix, repeat=repeat), FAULTS)
    assert len(cells) == repeat * prod(len(axis) for axis in matrix.values())
    assert len({cell.id for cell in cells}) == len(cells)
    assert len({(cell.knobs, cell.seed) for cell in cells}) == len(cells)
    assert cells == expand(experiment(knobs=knobs, matrix=matrix, repeat=repeat), FAULTS)


def test_precedence_runs_from_preset_over_spec_and_matrix_to_the_command_line() -> None:
    spec = experiment(
        preset="as-found",
        knobs={"pool_size": 7, "max_overflow": 7, "gcs_threads": 7, "speed": 2},
        matrix={"pool": {"a": {"max_overflow": 8}}},
    )
    (cell,) = expand(spec, FAULTS, {"gcs_threads": 9, "speed": 5}, Preset.RECOMMENDED)
    knobs = cell.knobs
    assert (knobs.workers, knobs.pool_size, knobs.max_overflow) == (4, 7, 8)
    assert (knobs.gcs_threads, knobs.speed) == (9, 5.0)


@pytest.mark.parametrize(("own", "most", "run_at"), [(5, 3, 3), (2, 3, 2), (1, 1, 1)])
def test_no_cell_is_faster_than_asked(own: float, most: float, run_at: float) -> None:
    cells = expand(experiment(knobs={"speed": own}, matrix={"workers": [1, 2]}), FAULTS)
    slower = no_faster(cells, most)
    assert [cell.knobs.speed for cell in slower] == [run_at, run_at]
    assert [cell.knobs.workers for cell in slower] == [1, 2]
    assert [cell.id for cell in slower] == [cell.id for cell in cells]


@pytest.mark.parametrize(
    ("keys", "given", "auto", "speed"),
    [
        ({}, {}, True, 1),
        ({"knobs": {"speed": "auto"}}, {}, True, 1),
        ({"knobs": {"speed": 5}}, {}, False, 5),
        ({"knobs": {"speed": 5}}, {"speed": "auto"}, True, 1),
        ({"knobs": {"speed": "auto"}}, {"speed": 2}, False, 2),
        ({}, {"speed": 2}, False, 2),
        ({"matrix": {"speed": [3]}}, {}, False, 3),
        ({"target": "cloudrun"}, {}, True, 1),
    ],
)
def test_a_speed_is_chosen_where_none_is_given(
    keys: dict[str, Any], given: dict[str, Any], auto: bool, speed: float
) -> None:
    (cell,) = expand(experiment(**keys), FAULTS, given)
    assert (cell.auto_speed, cell.knobs.speed, cell.speed_reason) == (auto, speed, "")
    (slower,) = no_faster([cell], 4)
    assert slower.knobs.speed == min(speed, 4)
    assert slower.auto_speed == auto


def test_speeds_that_are_compared_are_not_made_alike() -> None:
    cells = expand(experiment(matrix={"speed": [1, 5]}), FAULTS)
    with pytest.raises(UsageError, match=r"^--most-speed 3 with cells at speeds 1 and 5"):
        no_faster(cells, 3)


def test_users_replace_those_of_a_load_that_has_them() -> None:
    (closed,) = expand(experiment(load={"users": 5, "window": "7 s"}), FAULTS, users=9)
    assert closed.load == ClosedLoad(users=9).model_copy(update={"window": 7.0})
    (burst,) = expand(experiment(load={"burst": 5}), FAULTS, users=9)
    assert burst.load == BurstLoad(burst=9)


@pytest.mark.parametrize(
    ("keys", "arguments", "kind", "message"),
    [
        ({}, {"settings": {"workrs": 2}}, SpecError, "'workrs' is not a knob - did you mean 'wo"),
        ({}, {"settings": {"workers": 99}}, SpecError, "'workers': Input should be less than or"),
        ({"knobs": {"pool_timeout": 5}}, {}, SpecError, "'pool_timeout': 5 has no unit; write the"),
        (
            {},
            {"settings": {"speed": 0.5}},
            SpecError,
            "'speed': Input should be greater than",
        ),
        ({}, {"users": 0}, UsageError, "--users 0: Input should be greater than or equal to 1"),
        ({}, {"users": 5001}, UsageError, "--users 5001: Input should be less than or equal to 5"),
        ({"load": {"rate": "5/s"}}, {"users": 5}, UsageError, "--users says nothing of a load of"),
        (
            {"matrix": {"workers": [1, 2]}},
            {"settings": {"workers": 3}},
            UsageError,
            "'workers' is swept by the spec's matrix, so setting it would make cells equal - leave",
        ),
        (
            {"matrix": {"pool": {"a": {"pool_size": 1}}}},
            {"settings": {"pool_size": 3}},
            UsageError,
            "'pool_size' is swept by the spec's matrix",
        ),
        (
            {"matrix": {"target": ["vm", "cloudrun"]}},
            {"target": "cloudrun"},
            UsageError,
            "the spec's matrix sweeps the target, and --target would make cells equal - leave the",
        ),
        (
            {"target": "cloudrun"},
            {"settings": {"speed": 4}},
            SpecError,
            "speed 4 with target cloudrun: no speed shortens the start of an instance - leave",
        ),
        (
            {"target": "cloudrun"},
            {"settings": {"balance": "least_conn"}},
            SpecError,
            "balance: least_conn with target cloudrun: there is no nginx, and the platform chooses"
            " the instance - leave balance out, or use target vm",
        ),
        (
            {"matrix": {"target": ["vm", "cloudrun"]}, "faults": ["backend-killed"]},
            {},
            SpecError,
            "backend-killed hits backend, and target cloudrun has none - its parts are postgres",
        ),
        (
            {"matrix": {"speed": [1, 5]}},
            {"settings": {"speed": 3}},
            UsageError,
            "'speed' is swept by the spec's",
        ),
    ],
)
def test_what_cannot_be_is_refused(
    keys: dict[str, Any], arguments: dict[str, Any], kind: type[UsageError], message: str
) -> None:
    with pytest.raises(kind) as error:
        expand(experiment(**keys), FAULTS, **arguments)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"matrix": {"cloudrun_concurrency": [1, 20]}},
            "cloudrun_cpus below 1 (0.5) forces cloudrun_concurrency 1, not 20 - change one, or",
        ),
        (
            {"knobs": {"cloudrun_min_instances": 2}},
            "cloudrun_min_instances is 2, above cloudrun_max_instances, 1 - lower one or raise",
        ),
    ],
)
def test_knobs_that_cannot_be_together_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        expand(experiment(target="cloudrun", **keys), FAULTS)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("target", ["vm", "cloudrun"])
@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"knobs": {"pooler": "session", "pooler_size": 30}},
            "pooler_size is 30, above db_cap, 25: Postgres would refuse PgBouncer - lower one or"
            " raise the other",
        ),
        (
            {"knobs": {"pooler": "transaction"}, "matrix": {"db_cap": [25, 10]}},
            "pooler_size is 20, above db_cap, 10: Postgres would refuse PgBouncer - lower one or"
            " raise the other",
        ),
        (
            {"criteria": ["pooler_wait < 1 s"]},
            "criterion 'pooler_wait < 1 s': pooler is off, so there is no pooler_wait - leave it"
            " out, or set pooler: session or transaction",
        ),
        (
            {"faults": ["pooler-killed"]},
            "pooler-killed hits pgbouncer, and target {target} with pooler: off has none - its"
            " parts are {parts}",
        ),
        (
            {"faults": ["pooler-killed"], "matrix": {"pooler": ["off", "session"]}},
            "pooler-killed hits pgbouncer, and target {target} with pooler: off has none - its"
            " parts are {parts}",
        ),
    ],
)
def test_what_cannot_be_of_pgbouncer_is_refused(
    target: Target, keys: dict[str, Any], message: str
) -> None:
    expected = message.format(target=target, parts=", ".join(PARTS[target]))
    with pytest.raises(SpecError) as caught:
        expand(experiment(target=target, **keys), FAULTS)
    assert str(caught.value) == expected


def test_pgbouncer_off_has_any_size_and_on_it_may_be_struck_and_judged() -> None:
    assert expand(experiment(knobs={"db_cap": 10}), FAULTS)
    keys = {"faults": ["pooler-killed"], "criteria": ["pooler_wait < 1 s"]}
    assert expand(experiment(knobs={"pooler": "session"}, **keys), FAULTS)


def test_what_cannot_be_on_cloud_run_says_nothing_of_the_vm() -> None:
    (cell,) = expand(experiment(knobs={"cloudrun_concurrency": 20, "speed": 5}), FAULTS)
    assert (cell.target, cell.knobs.cloudrun_concurrency) == ("vm", 20)


def test_a_target_is_the_specs_or_the_command_lines_or_an_axis() -> None:
    (cell,) = expand(experiment(target="cloudrun"), FAULTS)
    assert (cell.id, cell.target) == ("a", "cloudrun")
    (cell,) = expand(experiment(), FAULTS, target="cloudrun")
    assert cell.target == "cloudrun"
    both = expand(experiment(matrix={"target": ["vm", "cloudrun"], "db_cap": [25, 50]}), FAULTS)
    assert [(cell.id, cell.target, cell.knobs.db_cap) for cell in both] == [
        ("target=vm,db_cap=25", "vm", 25),
        ("target=vm,db_cap=50", "vm", 50),
        ("target=cloudrun,db_cap=25", "cloudrun", 25),
        ("target=cloudrun,db_cap=50", "cloudrun", 50),
    ]


def test_knobs_are_judged_together_and_not_one_by_one() -> None:
    axes = {"cloudrun_concurrency": [1, 20], "cloudrun_cpus": [1]}
    knobs = {"cloudrun_max_instances": 2}
    cells = expand(experiment(target="cloudrun", matrix=axes, knobs=knobs), FAULTS)
    assert [cell.knobs.cloudrun_concurrency for cell in cells] == [1, 20]


BOTH = {"target": ["vm", "cloudrun"]}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"target": "cloudrun", "criteria": ["errors.gateway_timeout == 0"]},
            "criterion 'errors.gateway_timeout == 0': there is no errors.gateway_timeout on target"
            " cloudrun - write errors.request_timeout, or judge it on target vm alone",
        ),
        (
            {"criteria": ["p95 < 10 s", "errors.no_instance <= 3"]},
            "criterion 'errors.no_instance <= 3': there is no errors.no_instance on target vm -"
            " leave it out, or judge it on target cloudrun alone",
        ),
        (
            {"criteria": ["errors.instance_died == 0"]},
            "criterion 'errors.instance_died == 0': there is no errors.instance_died on target vm -"
            " write errors.bad_gateway, or judge it on target cloudrun alone",
        ),
        (
            {"criteria": ["queue_depth < 5"]},
            "criterion 'queue_depth < 5': there is no queue_depth on target vm - leave it out, or"
            " judge it on target cloudrun alone",
        ),
        (
            {"matrix": BOTH, "criteria": ["queue_wait < 2 s"]},
            "criterion 'queue_wait < 2 s': there is no queue_wait on target vm - leave it out, or"
            " judge it on target cloudrun alone",
        ),
        (
            {"matrix": BOTH, "criteria": ["memory_instance < 200 MB"]},
            "criterion 'memory_instance < 200 MB': there is no memory_instance on target vm - write"
            " memory_backend, or judge it on target cloudrun alone",
        ),
    ],
)
def test_a_criterion_that_no_target_can_answer_is_refused(
    keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError) as caught:
        expand(experiment(**keys), FAULTS)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "metric", ["errors.gateway_timeout", "errors.no_instance", "cold_starts", "queue_depth"]
)
def test_a_count_that_one_of_two_targets_can_have_is_a_criterion_of_both(metric: str) -> None:
    cells = expand(experiment(matrix=BOTH, criteria=[f"{metric} == 0"]), FAULTS)
    assert [cell.target for cell in cells] == ["vm", "cloudrun"]


def test_a_target_from_the_command_line_is_the_one_that_criteria_are_held_against() -> None:
    spec = experiment(criteria=["errors.no_instance == 0"])
    assert expand(spec, FAULTS, target="cloudrun")
    with pytest.raises(SpecError, match="on target vm"):
        expand(spec, FAULTS, target="vm")
