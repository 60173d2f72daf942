"""The Compose file: its variables, its walls, and what it is to bring it up by hand."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ruamel.yaml import YAML

from lab.model.knobs import TABLE, Knobs
from lab.paths import ROOT
from lab.stack.compose.environment import variables
from lab.stack.compose.images import OFFICIAL
from lab.stack.compose.passwords import ROLES

FILE = ROOT / "compose" / "replica.yaml"
TEXT = FILE.read_text(encoding="utf-8")
MODEL = YAML(typ="safe").load(TEXT)
SERVICES = MODEL["services"]

REFERENCE = re.compile(r"\$\{(\w+)(?:(:\?|:-)([^}]*))?\}")
MACHINE = {"LAB_SECRETS"}
"""What `make images` writes into compose/.env, beside the images."""
SOURCES = {
    *("LAB_DB_CAP", "LAB_DB_RTT", "LAB_GCS_LATENCY", "LAB_SPEECH_LATENCY", "LAB_CLOUDRUN_MEMORY"),
    *("LAB_NGINX_BODY", "LAB_NGINX_READ_TIMEOUT", "LAB_NGINX_KEEPALIVE", "LAB_NGINX_CONNECTIONS"),
    "LAB_NGINX_PROXY_BUFFER",
}
"""Knobs that no container is told: something that follows from each is."""
FRONT = {
    row.variable
    for row in TABLE
    if row.name.startswith("health_")
    or (
        row.part == "cloudrun"
        and row.name not in ("cloudrun_cpus", "cloudrun_memory", "cloudrun_workers")
    )
}
"""Knobs of the front, and of who asks for the VM's health: they are no containers."""


def asked(text: str) -> set[tuple[str, str, str]]:
    """Each variable that a text asks for, how, and the message or default."""
    return set(REFERENCE.findall(text))


def test_the_file_asks_for_all_that_is_given_and_nothing_else() -> None:
    given = set(variables(Knobs()))
    assert {name for name, _, _ in asked(TEXT)} == (given - SOURCES - FRONT) | MACHINE | set(
        OFFICIAL
    )


def test_the_backend_is_told_every_knob_of_its_and_no_other() -> None:
    told: dict[str, str] = SERVICES["backend"]["environment"]
    knobs = {row.variable for row in TABLE} & set(told)
    assert knobs == {row.variable for row in TABLE if row.part == "backend"}
    for name in knobs:
        assert [found for found, _, _ in REFERENCE.findall(told[name])] == [name]


def test_an_instance_is_the_backend_but_for_its_size() -> None:
    backend, instance = SERVICES["backend"], SERVICES["instance"]
    assert instance["profiles"] == ["cloudrun"]
    assert instance["image"] == backend["image"]
    told = instance["environment"]
    own = {name for name in told if told[name] != backend["environment"].get(name)}
    assert own == {"LAB_WORKERS", "LAB_VM_CPUS"}
    assert set(told) == set(backend["environment"])
    assert instance["secrets"] == backend["secrets"]
    assert [mount.partition(":")[0] for mount in instance["tmpfs"]] == ["/tmp"]  # noqa: S108


def test_images_have_the_official_ones_for_defaults() -> None:
    defaults = {name: text for name, how, text in asked(TEXT) if how == ":-"}
    assert defaults.pop("LAB_EVIDENCE") in MODEL["volumes"]
    assert defaults.pop("LAB_SETTINGS") in MODEL["volumes"]
    assert defaults == OFFICIAL


def test_a_missing_variable_says_where_to_get_it() -> None:
    remedies = {text for name, how, text in asked(TEXT) if how == ":?" and name not in MACHINE}
    assert remedies == {"add --env-file compose/as-found.env"}
    remedies = {text for name, _, text in asked(TEXT) if name in MACHINE}
    assert remedies == {"run make images, which writes compose/.env"}
    assert not [name for name, how, _ in asked(TEXT) if not how]


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_confined(service: str) -> None:
    found: dict[str, Any] = SERVICES[service]
    assert found["init"] is found["read_only"] is True
    assert found["cap_drop"] == ["ALL"]
    assert found["security_opt"] == ["no-new-privileges:true"]
    assert (found["dns_opt"], found["dns_search"]) == (["ndots:1"], ["."])
    user, _, group = found["user"].partition(":")
    assert min(int(user), int(group)) > 0
    assert found["mem_limit"] == found["memswap_limit"]
    assert found["cpus"]
    assert found["pids_limit"] > 0
    assert set(found["logging"]["options"]) == {"max-size", "max-file"}
    assert found["restart"] == ("on-failure:100" if service == "backend" else "no")
    assert "docker.sock" not in str(found)
    for mount in found.get("tmpfs", ()):
        options = mount.partition(":")[2]
        assert {"noexec", "nosuid", "nodev"} <= set(options.split(","))
        assert "size=" in options


def test_no_password_stands_in_an_environment() -> None:
    files = {f"/run/secrets/{name}": found["file"] for name, found in MODEL["secrets"].items()}
    for found in SERVICES.values():
        environment: dict[str, str] = found.get("environment", {})
        told = {name: value for name, value in environment.items() if "PASSWORD" in name}
        assert all(name.endswith("_FILE") for name in told)
        assert set(told.values()) == {f"/run/secrets/{name}" for name in found.get("secrets", ())}
        assert set(told.values()) <= set(files)
        assert not [value for value in environment.values() if "@" in value and "app@" not in value]
    assert set(files.values()) == {
        f"${{LAB_SECRETS:?run make images, which writes compose/.env}}/{role}" for role in ROLES
    }


def test_the_api_of_toxiproxy_is_where_no_service_under_test_is() -> None:
    toxiproxy = SERVICES["toxiproxy"]
    (name,) = toxiproxy["networks"]["control"]["aliases"]
    assert f"-host={name}" in toxiproxy["command"]
    assert not {"backend", "instance"} & set(_members("control"))
    assert SERVICES["arm"]["networks"] == ["control"]


@pytest.mark.parametrize("kind", ["services", "networks", "volumes"])
def test_everything_carries_the_labels_by_which_it_is_found(kind: str) -> None:
    for found in MODEL[kind].values():
        assert set(found["labels"]) == {"replica-lab.id", "replica-lab.owner"}


def test_only_control_is_published_from_and_on_loopback_alone() -> None:
    open_networks = [name for name, found in MODEL["networks"].items() if not found.get("internal")]
    assert open_networks == ["control"]
    publishing = {name: found["ports"] for name, found in SERVICES.items() if "ports" in found}
    assert set(publishing) == {
        *("nginx", "postgres", "pgbouncer", "fake-gcs-server", "speech", "toxiproxy"),
    }
    for service, ports in publishing.items():
        assert "control" in SERVICES[service]["networks"]
        assert all(port.startswith("127.0.0.1:${LAB_") for port in ports)


def test_the_backend_meets_what_it_calls_through_toxiproxy_alone() -> None:
    assert _members("near") == {"nginx", "backend", "instance", "toxiproxy"}
    assert _members("far") == {"toxiproxy", "postgres", "pgbouncer", "fake-gcs-server", "speech"}
    assert not {"backend", "instance"} & _members("control")


def _members(network: str) -> set[str]:
    """The services that are in a network."""
    return {name for name, found in SERVICES.items() if network in found["networks"]}


def test_no_up_by_hand_starts_pgbouncer_and_its_template_asks_for_what_it_is_told() -> None:
    assert [name for name, found in SERVICES.items() if found.get("profiles") == ["pooler"]] == [
        "pgbouncer"
    ]
    template = (ROOT / "compose" / "pooler" / "pgbouncer.ini").read_text(encoding="utf-8")
    told = {name for name in SERVICES["pgbouncer"]["environment"] if "PASSWORD" not in name}
    assert {name for name, _, _ in asked(template)} == told
