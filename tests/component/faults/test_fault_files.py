"""The files under faults/: what each injects."""

from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from lab.model.fault import Fault
from lab.model.knobs import Knobs
from lab.paths import ROOT

FILES = sorted((ROOT / "faults").glob("*.yaml"))


def read(path: Path) -> Fault:
    return Fault.model_validate(YAML(typ="safe").load(path))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_file_is_a_fault_of_its_own_name_that_does_something(path: Path) -> None:
    fault = read(path)
    assert fault.fault == path.stem
    assert fault.about
    if fault.process_fault is None:
        assert fault.proxy == fault.fault.split("-")[0]
        assert fault.down != bool(fault.toxics)


@pytest.mark.parametrize(
    ("name", "speed", "toxic"),
    [
        ("gcs-latency", 1, ("gcs", "latency", "downstream", {"latency": 3500, "jitter": 1500})),
        ("gcs-latency", 5, ("gcs", "latency", "downstream", {"latency": 700, "jitter": 300})),
        ("db-distance", 1, ("db", "latency", "downstream", {"latency": 25, "jitter": 0})),
        ("db-distance", 5, ("db", "latency", "downstream", {"latency": 5, "jitter": 0})),
        ("gcs-reset", 1, ("gcs", "reset_peer", "downstream", {"timeout": 0})),
        ("gcs-slow", 1, ("gcs", "bandwidth", "upstream", {"rate": 100})),
        ("gcs-slow", 5, ("gcs", "bandwidth", "upstream", {"rate": 500})),
    ],
)
def test_file_injects_its_toxic_scaled_by_speed(
    name: str, speed: float, toxic: tuple[str, str, str, dict[str, int]]
) -> None:
    (injected,) = read(ROOT / "faults" / f"{name}.yaml").to_toxics(Knobs(speed=speed))
    assert (
        injected.proxy,
        injected.type,
        injected.stream,
        injected.attributes,
    ) == toxic


@pytest.mark.parametrize("name", ["gcs-down", "db-down"])
def test_file_takes_its_proxy_down(name: str) -> None:
    fault = read(ROOT / "faults" / f"{name}.yaml")
    assert fault.down
    assert fault.to_toxics(Knobs()) == ()


@pytest.mark.parametrize(
    ("name", "part", "action"),
    [
        ("backend-kill", "backend", "kill"),
        ("backend-pause", "backend", "pause"),
        ("db-restart", "postgres", "restart"),
        ("gcs-restart", "fake-gcs-server", "restart"),
        ("proxy-down", "nginx", "stop"),
    ],
)
def test_file_befalls_its_part_within_the_shortest_usual_window(
    name: str, part: str, action: str
) -> None:
    planned = read(ROOT / "faults" / f"{name}.yaml").process_fault
    assert planned
    assert (planned.fault, planned.part, planned.action) == (name, part, action)
    assert 0 < planned.at + planned.lasts < 20
