from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lab.model.knobs import TABLE, Knobs, Preset, default_executor_threads
from lab.model.replica import TARGETS, Target, contradiction
from lab.model.units import RateLimit, Span

VALUES = {
    "workers": st.integers(1, 16),
    "gcs_call": st.sampled_from(["blocking", "to_thread", "executor", "audio_pool"]),
    "pool_timeout": st.integers(1, 600_000).map(lambda ms: f"{ms} ms"),
    "upload_rate_limit": st.just("off") | st.integers(1, 999).map(lambda n: f"{n}/min"),
    "max_inflight_uploads": st.just("off") | st.integers(1, 10_000),
    "vm_memory": st.just("off") | st.integers(64, 4096).map(lambda n: f"{n} MiB"),
    "gcs_latency": st.integers(1, 9000).map(lambda ms: f"{ms} ms - 9 s"),
    "max_overflow": st.just("unlimited") | st.integers(0, 200),
    "nginx_body": st.sampled_from(["preset", "off"]) | st.integers(1, 10**9).map("{} B".format),
    "nginx_read_timeout": st.sampled_from(["preset", "off"])
    | st.integers(1, 86_400_000).map("{} ms".format),
    "nginx_keepalive": st.just("off") | st.integers(1, 1000),
    "nginx_connections": st.integers(64, 65536),
    "backend_body": st.just("off") | st.integers(1, 10**9).map("{} B".format),
    "vm_cpus": st.integers(1, 64) | st.just(1.5),
    "health_probe": st.just("off") | st.integers(1, 3600).map(lambda n: f"{n} s"),
    "speed": st.integers(1, 50),
}
SETTINGS = st.fixed_dictionaries({}, optional=VALUES)


@given(SETTINGS)
def test_knobs_travel_through_text_json_and_the_environment(settings: dict[str, Any]) -> None:
    knobs = Knobs().with_settings(settings)
    assert Knobs().with_settings(knobs.as_text()) == knobs
    assert Knobs.model_validate_json(knobs.model_dump_json()) == knobs
    assert Knobs.from_env(knobs.as_env()) == knobs


def test_the_environment_names_every_knob_and_nothing_else() -> None:
    assert set(Knobs().as_env()) == {row.variable for row in TABLE}
    assert Knobs().as_env()["LAB_UPLOAD_RATE_LIMIT"] == "off"
    assert Knobs.from_env({"LAB_POOL_SIZE": "5", "PATH": "/bin"}).pool_size == 5
    assert Knobs.from_env({}) == Knobs()


def test_the_presets_are_the_two_columns_of_the_table() -> None:
    as_found, recommended = (Knobs.preset(preset) for preset in Preset)
    for row in TABLE:
        assert getattr(as_found, row.name) == row.default
        assert getattr(recommended, row.name) == row.recommended
    assert (as_found.workers, as_found.gcs_call, as_found.pool_size) == (1, "blocking", 10)
    assert (recommended.workers, recommended.gcs_call, recommended.pool_size) == (
        4,
        "to_thread",
        15,
    )
    assert recommended.upload_rate_limit == RateLimit(count=10, per=60)


@pytest.mark.parametrize("preset", Preset)
def test_a_preset_satisfies_the_tables_own_bounds(preset: Preset) -> None:
    knobs = Knobs.preset(preset)
    assert Knobs.model_validate(knobs.as_text()) == knobs


def test_every_row_is_filled() -> None:
    assert [row.name for row in TABLE] == list(Knobs.model_fields)
    for row in TABLE:
        assert row.unit
        assert row.help
        assert row.part in ("backend", "nginx", "pgbouncer", "postgres", "cloudrun", "run")


@pytest.mark.parametrize(
    ("name", "unit", "bounds"),
    [
        ("workers", "count", ">= 1, <= 16"),
        ("pool_timeout", "duration", "> 0, <= 600"),
        ("gcs_latency", "range of durations", "<= 3600"),
        ("global_rate_limit", "rate limit or off", ""),
        ("max_inflight_uploads", "count or off", ">= 1, <= 10000"),
        ("max_overflow", "count or unlimited", ">= 0, <= 200"),
        ("nginx_body", "size or preset or off", ">= 1 B, <= 1024 GiB"),
        ("nginx_read_timeout", "duration or preset or off", "> 0, <= 86400"),
        ("nginx_keepalive", "count or off", ">= 1, <= 1000"),
        ("nginx_connections", "count", ">= 64, <= 65536"),
        ("backend_body", "size or off", ">= 1 B, <= 1024 GiB"),
        ("refuse", "choice", "before_body | after_body"),
        ("keep_alive", "duration", "> 0, <= 3600"),
        ("gcs_call", "choice", "blocking | to_thread | executor | audio_pool"),
        ("speed", "number", ">= 1, <= 50"),
        ("cloudrun_memory", "size", ">= 128 MiB, <= 32 GiB"),
    ],
)
def test_a_row_tells_unit_and_bounds(name: str, unit: str, bounds: str) -> None:
    row = next(row for row in TABLE if row.name == name)
    assert (row.unit, row.bounds) == (unit, bounds)


@pytest.mark.parametrize(
    "settings",
    [
        {"workers": 0},
        {"workers": 17},
        {"pool_sze": 5},
        {"pool_timeout": 10},
        {"pool_timeout": "0 s"},
        {"gcs_call": "thread"},
        {"max_inflight_uploads": 0},
        {"max_overflow": -1},
        {"max_overflow": "off"},
        {"nginx_body": "0 B"},
        {"nginx_body": "none"},
        {"nginx_read_timeout": "25 h"},
        {"nginx_keepalive": 0},
        {"nginx_connections": 63},
        {"backend_body": "0 B"},
        {"refuse": "never"},
        {"pool_class": "static"},
        {"keep_alive": "0 s"},
        {"anyio_threads": 257},
        {"cloudrun_workers": 17},
        {"vm_memory": "1 MiB"},
        {"speed": 0.5},
        {"speed": 51},
        {"cloudrun_cpus": 0.07},
        {"cloudrun_memory": "127 MiB"},
        {"cloudrun_concurrency": 0},
        {"cloudrun_max_instances": 0},
        {"cloudrun_timeout": "61 min"},
        {"cloudrun_boost": True},
    ],
)
def test_what_the_table_does_not_allow_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Knobs().with_settings(settings)
    with pytest.raises(ValidationError):
        Knobs.model_validate(settings)


@pytest.mark.parametrize(
    ("settings", "slots"),
    [
        ({}, 1),
        ({"workers": 4}, 4),
        ({"gcs_call": "to_thread"}, 6),
        ({"gcs_call": "to_thread", "workers": 4, "vm_cpus": 4}, 32),
        ({"gcs_call": "executor", "gcs_threads": 8, "workers": 2}, 16),
        ({"gcs_call": "audio_pool"}, 10),
    ],
)
def test_storage_slots_are_the_threads_that_can_be_in_a_storage_call(
    settings: dict[str, Any], slots: int
) -> None:
    assert Knobs().with_settings(settings).storage_slots == slots


@pytest.mark.parametrize(
    ("settings", "slots"),
    [
        ({"workers": 4, "gcs_call": "executor"}, 1),
        ({"cloudrun_max_instances": 3}, 3),
        ({"cloudrun_workers": 4}, 1),
        ({"cloudrun_workers": 4, "cloudrun_concurrency": 80}, 4),
        ({"cloudrun_workers": 2, "cloudrun_concurrency": 8, "gcs_call": "to_thread"}, 8),
        ({"cloudrun_concurrency": 80, "cloudrun_max_instances": 2}, 2),
        ({"cloudrun_concurrency": 80, "gcs_call": "to_thread", "vm_cpus": 8}, 5),
        ({"cloudrun_concurrency": 80, "gcs_call": "to_thread", "cloudrun_cpus": 2}, 6),
        ({"cloudrun_concurrency": 3, "gcs_call": "executor", "cloudrun_max_instances": 2}, 6),
    ],
)
def test_an_instance_takes_no_more_than_its_concurrency_and_its_processes_threads(
    settings: dict[str, Any], slots: int
) -> None:
    assert Knobs().with_settings(settings).instance_slots == slots


def test_the_default_executor_stops_growing_at_32_threads() -> None:
    assert [default_executor_threads(cpus) for cpus in (1, 2, 2.5, 28, 64)] == [5, 6, 6, 32, 32]


def test_settings_change_only_what_they_name() -> None:
    knobs = Knobs().with_settings({"db_rtt": "17-25 ms"})
    assert knobs.db_rtt == Span(low=0.017, high=0.025)
    assert knobs.model_copy(update={"db_rtt": Knobs().db_rtt}) == Knobs()


@pytest.mark.knob("cloudrun_enforce")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"cloudrun_concurrency": 20},
            "cloudrun_cpus below 1 (0.5) forces cloudrun_concurrency 1, not 20",
        ),
        ({"cloudrun_cpus": 1.5}, "cloudrun_cpus above 1 must be a whole number, not 1.5"),
        (
            {"cloudrun_cpus": 0.4, "cloudrun_memory": "513 MiB"},
            "cloudrun_memory above 512 MiB (513 MiB) needs cloudrun_cpus 0.5 or more, not 0.4",
        ),
        (
            {"cloudrun_memory": "2 GiB"},
            "cloudrun_memory above 1 GiB (2 GiB) needs cloudrun_cpus 1 or more, not 0.5",
        ),
    ],
)
def test_what_the_platform_refuses_is_a_contradiction_unless_broken_on_purpose(
    settings: dict[str, Any], message: str
) -> None:
    knobs = Knobs().with_settings(settings)
    remedy = "change one, or set cloudrun_enforce: none to break the rule"
    assert knobs.contradiction() == (message, remedy)
    assert knobs.with_settings({"cloudrun_enforce": "none"}).contradiction() is None


@pytest.mark.parametrize("enforce", ["platform", "none"])
def test_more_instances_at_least_than_at_most_is_always_a_contradiction(enforce: str) -> None:
    knobs = Knobs().with_settings({"cloudrun_min_instances": 2, "cloudrun_enforce": enforce})
    assert knobs.contradiction() == (
        "cloudrun_min_instances is 2, above cloudrun_max_instances, 1",
        "lower one or raise the other",
    )


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"cloudrun_cpus": 1, "cloudrun_concurrency": 80},
        {"cloudrun_min_instances": 3, "cloudrun_max_instances": 3},
        {"cloudrun_cpus": 2, "cloudrun_memory": "4 GiB"},
    ],
)
def test_what_the_platform_allows_is_none(settings: dict[str, Any]) -> None:
    assert Knobs().with_settings(settings).contradiction() is None
    assert Knobs.preset(Preset.RECOMMENDED).with_settings(settings).contradiction() is None


@pytest.mark.parametrize("target", TARGETS)
def test_a_probe_waits_no_longer_than_until_the_next(target: Target) -> None:
    probed = Knobs().with_settings({"health_probe": "2 s", "health_timeout": "3 s"})
    message = "health_timeout is 3 s, above health_probe, 2 s"
    assert contradiction(target, probed) == (message, "lower one or raise the other")
    for settings in ({"health_timeout": "3 s"}, {"health_probe": "3 s", "health_timeout": "3 s"}):
        assert contradiction(target, Knobs().with_settings(settings)) is None
