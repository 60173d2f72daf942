"""Knobs that a cell does not feel: said where they are set, refused where cells differ in them."""

from __future__ import annotations

from typing import Any

import pytest

from lab.errors import SpecError
from lab.model.experiment import Cell, Experiment
from lab.model.fault import Fault
from lab.model.knobs import TABLE, Knobs
from lab.plan import expand, settings_without_effect, without_effect
from lab.plan.effect import ALL, EFFECTS, felt
from tests.fakes import make_cell


def delay(name: str, proxy: str, knob: str) -> Fault:
    toxic = {"type": "latency", "stream": "downstream", "delay": {"knob": knob}}
    return Fault.model_validate({"fault": name, "about": "x", "proxy": proxy, "toxics": [toxic]})


FAULTS = {
    "gcs-latency": delay("gcs-latency", "gcs", "gcs_latency"),
    "db-distance": delay("db-distance", "db", "db_rtt"),
}


def experiment(**keys: Any) -> Experiment:
    return Experiment.model_validate({"experiment": "a", "load": {"users": 5}} | keys)


def notes(settings: dict[str, Any] | None = None, **keys: Any) -> list[str]:
    spec = experiment(**keys)
    return without_effect(spec, settings or {}, expand(spec, FAULTS, settings))


STORAGE = "gcs_threads has no effect{}: its threads are those of gcs_call: executor"
NO_VM = "target cloudrun has no VM and no nginx"
LIMIT_KEY = (
    "rate_limit_key has no effect: it takes a global_rate_limit, and an address that is passed on:"
    " nginx as found does not"
)
NULL_POOL = "{} has no effect: pool_class: NullPool keeps no connections and sets no limit"
NEVER_WAITS = "pool_timeout has no effect: a checkout never waits in a pool without a limit"
OF_NULL_POOL = ("pool_size", "max_overflow", "pool_recycle", "pool_pre_ping")
KEPT = (
    "keep_alive has no effect: only nginx keeps idle connections to uvicorn, under nginx_keepalive"
)
BOTH = {"target": ["vm", "cloudrun"]}


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"knobs": {"gcs_threads": 5}}, [STORAGE.format("")]),
        ({"knobs": {"gcs_threads": 5, "gcs_call": "executor"}}, []),
        ({"preset": "recommended", "target": "cloudrun"}, []),
        (
            {"knobs": {"gcs_threads": 5}, "matrix": {"gcs_call": ["blocking", "executor"]}},
            [STORAGE.format(" on gcs_call=blocking")],
        ),
        (
            {
                "knobs": {"gcs_threads": 5},
                "matrix": {"gcs_call": ["blocking", "executor"], "workers": [1, 2, 3, 4]},
            },
            [STORAGE.format(" on 4 of 8 cells")],
        ),
        (
            {"matrix": {"case": {"a": {"gcs_threads": 5}, "b": {"db_cap": 9}}}},
            [STORAGE.format(" on case=a")],
        ),
        (
            {"target": "cloudrun", "knobs": {"workers": 2, "nginx": "recommended", "vm_cpus": 4}},
            [f"{name} has no effect: {NO_VM}" for name in ("workers", "nginx", "vm_cpus")],
        ),
        (
            {"target": "cloudrun", "knobs": {"vm_memory": "1 GiB", "cloudrun_idle": "1 min"}},
            [f"vm_memory has no effect: {NO_VM}"],
        ),
        (
            {"knobs": {"cloudrun_min_instances": 1}},
            ["cloudrun_min_instances has no effect: target vm has no instances"],
        ),
        (
            {"knobs": {"cloudrun_min_instances": 1, "workers": 2}, "matrix": BOTH},
            [
                f"workers has no effect on target=cloudrun: {NO_VM}",
                "cloudrun_min_instances has no effect on target=vm: target vm has no instances",
            ],
        ),
        (
            {"knobs": {"audio_threads": 5, "gcs_call": "executor"}},
            [
                "audio_threads has no effect: an upload uses its threads with gcs_call: audio_pool"
                " alone"
            ],
        ),
        ({"knobs": {"audio_threads": 5, "gcs_call": "audio_pool"}}, []),
        (
            {"knobs": {"speech_threads": 5}},
            ["speech_threads has no effect: an upload never uses its threads"],
        ),
        ({"knobs": {"rate_limit_key": "forwarded"}}, [LIMIT_KEY]),
        ({"knobs": {"rate_limit_key": "forwarded", "nginx": "recommended"}}, []),
        ({"knobs": {"rate_limit_key": "forwarded"}, "target": "cloudrun"}, []),
        (
            {
                "knobs": {
                    "rate_limit_key": "forwarded",
                    "nginx": "recommended",
                    "global_rate_limit": "off",
                }
            },
            [LIMIT_KEY],
        ),
        (
            {"knobs": {"health_timeout": "2 s", "health_failures": 5}},
            [
                f"{name} has no effect: health_probe is off"
                for name in ("health_timeout", "health_failures")
            ],
        ),
        ({"knobs": {"health_timeout": "2 s", "health_probe": "5 s"}}, []),
        ({"knobs": {"pooler_size": 5}}, ["pooler_size has no effect: pooler is off"]),
        ({"knobs": {"pooler_size": 5, "pooler": "session"}}, []),
        ({"knobs": {"leak_every": 5}}, ["leak_every has no effect: leak is off"]),
        ({"knobs": {"leak_every": 5, "leak": "memory"}}, []),
        (
            {
                "knobs": {
                    "pool_class": "NullPool",
                    "pool_size": 5,
                    "max_overflow": 5,
                    "pool_timeout": "5 s",
                    "pool_recycle": "1 min",
                    "pool_pre_ping": "on",
                }
            },
            [*(NULL_POOL.format(name) for name in OF_NULL_POOL), NEVER_WAITS],
        ),
        (
            {"knobs": {"max_overflow": "unlimited", "pool_size": 5, "pool_timeout": "5 s"}},
            [NEVER_WAITS],
        ),
        ({"knobs": {"pool_size": 5, "pool_timeout": "5 s", "pool_pre_ping": "on"}}, []),
        ({"knobs": {"keep_alive": "5 s"}}, [KEPT]),
        ({"knobs": {"keep_alive": "5 s", "nginx_keepalive": 8}}, []),
        (
            {"knobs": {"keep_alive": "5 s", "nginx_keepalive": 8}, "target": "cloudrun"},
            [KEPT, f"nginx_keepalive has no effect: {NO_VM}"],
        ),
        (
            {"target": "cloudrun", "knobs": {"nginx_body": "off", "nginx_read_timeout": "9 s"}},
            [f"{name} has no effect: {NO_VM}" for name in ("nginx_body", "nginx_read_timeout")],
        ),
        (
            {"target": "cloudrun", "knobs": {"workers": 2, "cloudrun_workers": 2}},
            [f"workers has no effect: {NO_VM}"],
        ),
        (
            {"knobs": {"workers": 2, "cloudrun_workers": 2}},
            ["cloudrun_workers has no effect: target vm has no instances"],
        ),
        ({"knobs": {"anyio_threads": 5}}, []),
        (
            {"knobs": {"balance": "least_conn"}},
            ["balance has no effect: a single worker has every upload"],
        ),
        ({"knobs": {"balance": "least_conn", "workers": 2}}, []),
        (
            {"knobs": {"gcs_latency": "1 s", "db_rtt": "1 ms"}, "faults": ["db-distance"]},
            ["gcs_latency has no effect: none of the faults injects it"],
        ),
        (
            {"knobs": {"gcs_latency": "1 s", "db_rtt": "1 ms"}, "faults": ["gcs-latency"]},
            ["db_rtt has no effect: none of the faults injects it"],
        ),
    ],
)
def test_a_knob_that_is_set_in_vain_is_said(keys: dict[str, Any], said: list[str]) -> None:
    assert sorted(notes(**keys)) == sorted(said)


@pytest.mark.parametrize(
    ("load", "said"),
    [
        ({"burst": 5, "think": "2 s"}, ["think has no effect: a user of a burst uploads once"]),
        (
            {"rate": "1/s", "think": "2 s", "backoff": "5 s"},
            [
                "think has no effect: an open load's arrivals wait for nobody's answer",
                "backoff has no effect: an open load's arrivals wait for nobody's answer",
            ],
        ),
        ({"rate": "1/s", "backoff": "1 s"}, []),  # what it is anyway
        ({"users": 5, "think": "2 s", "backoff": "5 s"}, []),
    ],
)
def test_so_is_a_pause_of_a_load_without_any(load: dict[str, Any], said: list[str]) -> None:
    assert notes(load=load) == said


def test_so_is_one_that_the_command_line_sets() -> None:
    assert notes({"gcs_threads": 5}) == [STORAGE.format("")]
    assert notes({"gcs_threads": 5, "gcs_call": "executor"}) == []


def test_so_is_one_that_is_set_for_a_cell_without_a_spec() -> None:
    assert settings_without_effect(["gcs_threads", "db_cap"], make_cell()) == [STORAGE.format("")]
    assert settings_without_effect(["gcs_threads"], make_cell({"gcs_call": "executor"})) == []


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"matrix": {"gcs_threads": [8, 16]}},
            "cells 'gcs_threads 8' and 'gcs_threads 16' are equal: gcs_threads has no effect on"
            " them, its threads are those of gcs_call: executor - leave it out of the axes, or give"
            " each cell a label of one axis",
        ),
        (
            {"target": "cloudrun", "matrix": {"workers": [1, 2]}},
            f"cells 'workers 1' and 'workers 2' are equal: workers has no effect on them, {NO_VM}"
            " - leave it out",
        ),
        (
            {"matrix": BOTH | {"nginx": ["as-found", "recommended"]}},
            "cells 'target cloudrun, nginx as-found' and 'target cloudrun, nginx recommended' are"
            f" equal: nginx has no effect on them, {NO_VM} - leave it out",
        ),
        (
            {"matrix": {"pool_size": [5, 10]}, "knobs": {"pool_class": "NullPool"}},
            "cells 'pool_size 5' and 'pool_size 10' are equal: pool_size has no effect on them",
        ),
        (
            {"matrix": {"rate_limit_key": ["peer", "forwarded"]}},
            "cells 'rate_limit_key peer' and 'rate_limit_key forwarded' are equal: rate_limit_key",
        ),
        (
            {"matrix": {"gcs_call": ["blocking", "executor"], "gcs_threads": [8, 16]}},
            "cells 'gcs_call blocking, gcs_threads 8' and 'gcs_call blocking, gcs_threads 16' are",
        ),
        (
            {"matrix": {"case": {"a": {"workers": 1}, "b": {"gcs_call": "blocking"}}}},
            "cells 'case a' and 'case b' are equal: they set the same - remove one of the two",
        ),
        (
            {"matrix": {"load": {"a": {"audio": "50 KB"}, "b": {"audio": "50000 B"}}}},
            "cells 'load a' and 'load b' are equal: they set the same - remove one of the two",
        ),
    ],
)
def test_cells_that_differ_in_nothing_they_feel_are_refused(
    keys: dict[str, Any], message: str
) -> None:
    for repeat in (1, 2):
        with pytest.raises(SpecError) as caught:
            expand(experiment(repeat=repeat, **keys), FAULTS)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "matrix",
    [
        {"case": {"a": {"gcs_call": "blocking"}, "b": {"gcs_call": "executor", "gcs_threads": 9}}},
        BOTH | {"db_cap": [25, 50]},
        {"gcs_call": ["blocking", "executor"], "load": {"a": {"users": 5}, "b": {"users": 6}}},
    ],
)
def test_cells_that_differ_in_what_they_feel_are_not(matrix: dict[str, Any]) -> None:
    assert expand(experiment(matrix=matrix, repeat=2), FAULTS)


def test_a_setting_that_takes_its_effect_from_an_axis_makes_cells_equal() -> None:
    spec = experiment(matrix={"gcs_threads": [8, 16]}, knobs={"gcs_call": "executor"})
    assert len(expand(spec, FAULTS)) == 2
    with pytest.raises(SpecError, match="gcs_threads has no effect on them"):
        expand(spec, FAULTS, {"gcs_call": "to_thread"})


def test_every_row_is_a_knob_and_those_of_nginx_and_cloud_run_follow_from_their_part() -> None:
    assert EFFECTS.keys() <= Knobs.model_fields.keys()
    of_one_target = {row.name for row in TABLE if row.part in ("nginx", "cloudrun")}
    assert ALL.keys() == EFFECTS.keys() | of_one_target
    on_vm, on_cloudrun = (set(felt(make_cell(target=target))) for target in ("vm", "cloudrun"))
    assert {name for name in of_one_target if name in on_vm & on_cloudrun} == set()


def test_what_a_cell_feels_has_its_values() -> None:
    cell: Cell = make_cell({"gcs_call": "executor", "gcs_threads": 7})
    assert felt(cell)["gcs_threads"] == 7
    assert "cloudrun_cpus" not in felt(cell)
