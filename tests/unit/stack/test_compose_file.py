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

FILE = ROOT / "compose" / "replica.yaml"
TEXT = FILE.read_text(encoding="utf-8")
MODEL = YAML(typ="safe").load(TEXT)
SERVICES = MODEL["services"]

REFERENCE = re.compile(r"\$\{(\w+)(?:(:\?|:-)([^}]*))?\}")
PASSWORDS = {"LAB_POSTGRES_PASSWORD", "LAB_APP_PASSWORD"}
SOURCES = {
    *("LAB_DB_CAP", "LAB_DB_RTT", "LAB_GCS_LATENCY", "LAB_CLOUDRUN_MEMORY"),
    *("LAB_NGINX_BODY", "LAB_NGINX_READ_TIMEOUT", "LAB_NGINX_KEEPALIVE", "LAB_NGINX_CONNECTIONS"),
}
"""Knobs that no container is told: something that follows from each is."""
FRONT = {
    row.variable
    for row in TABLE
    if row.part == "cloudrun"
    and row.name not in ("cloudrun_cpus", "cloudrun_memory", "cloudrun_workers")
}
"""Knobs of the front, which is no container."""


def asked(text: str) -> set[tuple[str, str, str]]:
    """Each variable that a text asks for, how, and the message or default."""
    return set(REFERENCE.findall(text))


def test_the_file_asks_for_all_that_is_given_and_nothing_else() -> None:
    given = set(variables(Knobs()))
    assert {name for name, _, _ in asked(TEXT)} == (given - SOURCES - FRONT) | PASSWORDS | set(
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
    assert instance["tmpfs"] == ["/tmp"]  # noqa: S108 - the container's own


def test_images_have_the_official_ones_for_defaults() -> None:
    defaults = {name: text for name, how, text in asked(TEXT) if how == ":-"}
    assert defaults.pop("LAB_EVIDENCE") in MODEL["volumes"]
    assert defaults.pop("LAB_SETTINGS") in MODEL["volumes"]
    assert defaults == OFFICIAL


def test_a_missing_variable_says_where_to_get_it() -> None:
    remedies = {text for name, how, text in asked(TEXT) if how == ":?" and name not in PASSWORDS}
    assert remedies == {"add --env-file compose/as-found.env"}
    remedies = {text for name, _, text in asked(TEXT) if name in PASSWORDS}
    assert remedies == {"run make images, which writes compose/.env"}
    assert not [name for name, how, _ in asked(TEXT) if not how]


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_confined(service: str) -> None:
    found: dict[str, Any] = SERVICES[service]
    assert found["init"] is found["read_only"] is True
    assert found["cap_drop"] == ["ALL"]
    assert found["security_opt"] == ["no-new-privileges:true"]
    user, _, group = found["user"].partition(":")
    assert min(int(user), int(group)) > 0
    assert found["mem_limit"] == found["memswap_limit"]
    assert found["cpus"]
    assert found["pids_limit"] > 0
    assert set(found["logging"]["options"]) == {"max-size", "max-file"}
    assert found["restart"] == ("on-failure" if service == "backend" else "no")
    assert "docker.sock" not in str(found)


@pytest.mark.parametrize("kind", ["services", "networks", "volumes"])
def test_everything_carries_the_labels_by_which_it_is_found(kind: str) -> None:
    for found in MODEL[kind].values():
        assert set(found["labels"]) == {"replica-lab.id", "replica-lab.owner"}


def test_only_control_is_published_from_and_on_loopback_alone() -> None:
    open_networks = [name for name, found in MODEL["networks"].items() if not found.get("internal")]
    assert open_networks == ["control"]
    publishing = {name: found["ports"] for name, found in SERVICES.items() if "ports" in found}
    assert set(publishing) == {"nginx", "postgres", "fake-gcs-server", "toxiproxy"}
    for service, ports in publishing.items():
        assert "control" in SERVICES[service]["networks"]
        assert all(port.startswith("127.0.0.1:${LAB_") for port in ports)


def test_the_backend_meets_storage_and_the_database_through_toxiproxy_alone() -> None:
    members = {
        network: {name for name, found in SERVICES.items() if network in found["networks"]}
        for network in MODEL["networks"]
    }
    assert members["near"] == {"nginx", "backend", "instance", "toxiproxy", "arm"}
    assert members["far"] == {"toxiproxy", "postgres", "fake-gcs-server"}
    assert not {"backend", "instance"} & members["control"]
