"""What the Compose file is told: the knobs, what follows from them, and the place."""

from __future__ import annotations

from typing import Any

import pytest

from lab import paths
from lab.model.knobs import Knobs, Preset
from lab.stack.compose.environment import Place, env_file, variables


def given(settings: dict[str, Any], **others: Any) -> dict[str, str]:
    return variables(Knobs().with_settings(settings), **others)


def test_the_knobs_read_back_as_they_were() -> None:
    knobs = Knobs.preset(Preset.RECOMMENDED).with_settings({"vm_memory": "512 MiB", "speed": 20})
    assert Knobs.from_env(variables(knobs)) == knobs


@pytest.mark.knob("balance", "workers")
@pytest.mark.parametrize(
    ("balance", "workers", "upstream", "ports"),
    [
        ("shared_socket", 1, "server vm:8080 max_fails=0;", "8080"),
        ("shared_socket", 4, "server vm:8080 max_fails=0;", "8080"),
        ("round_robin", 1, "server vm:8080 max_fails=0;", "8080"),
        (
            "round_robin",
            2,
            "server vm:8080 max_fails=0; server vm:8081 max_fails=0;",
            "8080 8081",
        ),
        ("least_conn", 1, "least_conn; server vm:8080 max_fails=0;", "8080"),
        (
            "least_conn",
            3,
            "least_conn; server vm:8080 max_fails=0; server vm:8081 max_fails=0;"
            " server vm:8082 max_fails=0;",
            "8080 8081 8082",
        ),
    ],
)
def test_nginx_and_the_backend_are_told_the_same_ports(
    balance: str, workers: int, upstream: str, ports: str
) -> None:
    env = given({"balance": balance, "workers": workers})
    assert (env["LAB_UPSTREAM"], env["LAB_BACKEND_PORTS"]) == (upstream, ports)


@pytest.mark.knob("db_cap", "vm_memory", "nginx", "speed", "gcs_latency", "db_rtt")
@pytest.mark.knob("speech_latency", "nginx_proxy_buffer")
@pytest.mark.knob("nginx_body", "nginx_read_timeout", "nginx_keepalive", "cloudrun_workers")
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"db_cap": 25}, {"LAB_MAX_CONNECTIONS": "28"}),
        ({"vm_memory": "off"}, {"LAB_VM_MEMORY_BYTES": "0"}),
        ({"vm_memory": "256 MiB"}, {"LAB_VM_MEMORY_BYTES": "268435456"}),
        ({"nginx": "as-found"}, {"LAB_READ_TIMEOUT_MS": "60000", "LAB_NGINX": "as-found"}),
        (
            {"nginx": "recommended", "speed": 20},
            {
                "LAB_READ_TIMEOUT_MS": "1500",
                "LAB_SEND_TIMEOUT_MS": "3000",
                "LAB_CLIENT_KEEPALIVE_MS": "3750",
            },
        ),
        ({"nginx_body": "1500001 B"}, {"LAB_MAX_BODY": "1500001"}),
        ({}, {"LAB_PROXY_BUFFER": "4096"}),
        ({"nginx_proxy_buffer": "64 KiB"}, {"LAB_PROXY_BUFFER": "65536"}),
        ({}, {"LAB_WORKER_CONNECTIONS": "1024", "LAB_WORKER_FILES": "2048"}),
        ({"nginx_connections": 64}, {"LAB_WORKER_CONNECTIONS": "64", "LAB_WORKER_FILES": "128"}),
        ({"nginx": "recommended", "nginx_body": "off"}, {"LAB_MAX_BODY": "0"}),
        ({"nginx_read_timeout": "90 s", "speed": 20}, {"LAB_READ_TIMEOUT_MS": "4500"}),
        ({"nginx_read_timeout": "off"}, {"LAB_READ_TIMEOUT_MS": "604800000"}),
        ({"nginx_read_timeout": "1 us"}, {"LAB_READ_TIMEOUT_MS": "1"}),
        (
            {},
            {
                "LAB_UPSTREAM_KEEPALIVE": "0",
                "LAB_UPSTREAM_HTTP": "1.0",
                "LAB_UPSTREAM_CONNECTION": "close",
            },
        ),
        (
            {"nginx_keepalive": 32, "speed": 10},
            {
                "LAB_UPSTREAM_KEEPALIVE": "32",
                "LAB_UPSTREAM_HTTP": "1.1",
                "LAB_UPSTREAM_CONNECTION": '""',
                "LAB_UPSTREAM_IDLE_MS": "6000",
            },
        ),
        ({"cloudrun_workers": 3}, {"LAB_CLOUDRUN_WORKERS": "3"}),
        ({"gcs_latency": "2-5 s"}, {"LAB_GCS_LATENCY_MS": "3500", "LAB_GCS_JITTER_MS": "1500"}),
        (
            {"gcs_latency": "2-5 s", "speed": 10},
            {"LAB_GCS_LATENCY_MS": "350", "LAB_GCS_JITTER_MS": "150"},
        ),
        (
            {"speech_latency": "1-3 s", "speed": 10},
            {"LAB_SPEECH_LATENCY_MS": "200", "LAB_SPEECH_JITTER_MS": "100"},
        ),
        ({"db_rtt": "25 ms"}, {"LAB_DB_LATENCY_MS": "25", "LAB_DB_JITTER_MS": "0"}),
        ({"db_rtt": "17-25 ms"}, {"LAB_DB_LATENCY_MS": "21", "LAB_DB_JITTER_MS": "4"}),
    ],
)
def test_what_follows_from_a_knob(settings: dict[str, Any], expected: dict[str, str]) -> None:
    found = given(settings)
    assert {name: found[name] for name in expected} == expected


def test_a_lab_that_watches_the_database_holds_one_connection_more() -> None:
    assert given({"db_cap": 25}, monitored=True)["LAB_MAX_CONNECTIONS"] == "29"


def test_two_replicas_with_the_same_knobs_differ_in_their_place_alone() -> None:
    here = given({}, place=Place(id="a", net_prefix="198.19.7", nginx_port=18080))
    there = given({}, place=Place(id="b", net_prefix="198.19.8", nginx_port=18081))
    differing = {name for name in here if here[name] != there[name]}
    assert differing == {"LAB_ID", "LAB_NET_PREFIX", "LAB_NGINX_PORT"}


@pytest.mark.parametrize("preset", Preset)
def test_the_preset_in_git_is_the_tables(preset: Preset) -> None:
    file = paths.data("compose") / f"{preset}.env"
    assert file.read_text(encoding="utf-8") == env_file(preset), "run `make schema`"


@pytest.mark.parametrize("preset", Preset)
def test_a_preset_gives_every_variable_once(preset: Preset) -> None:
    lines = [line for line in env_file(preset).splitlines() if line and line[0] != "#"]
    assert len(lines) == len({line.partition("=")[0] for line in lines})
    expected = variables(Knobs.preset(preset))
    assert dict(line.split("=", 1) for line in lines) == expected
