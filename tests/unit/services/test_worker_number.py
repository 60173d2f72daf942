"""The number that names a worker's evidence: no two that write into one folder share it."""

from __future__ import annotations

import os
from itertools import product

import pytest

from lab.model.knobs import Knobs
from lab.model.replica import INSTANCE_VARIABLE, PORTS_VARIABLE
from lab.services.backend.settings import instance_name, listening_ports, worker_number


def test_on_one_machine_it_is_the_process_id() -> None:
    assert worker_number({}) == worker_number({"LAB_INSTANCE": ""}) == os.getpid()


def test_an_instance_is_told_its_name_and_the_vm_has_none() -> None:
    assert instance_name({}) == ""
    assert instance_name({INSTANCE_VARIABLE: "instance-3"}) == "instance-3"


@pytest.mark.knob("cloudrun_workers")
def test_no_two_processes_of_any_instances_have_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = []
    for instance, pid in product(range(4), (1, 7, 8, 2**22)):
        monkeypatch.setattr(os, "getpid", lambda pid=pid: pid)
        numbers.append(worker_number({"LAB_INSTANCE": str(instance)} if instance else {}))
    assert len(set(numbers)) == 16
    assert numbers[5] == 10000007


@pytest.mark.knob("balance")
@pytest.mark.parametrize(
    ("balance", "workers", "env", "ports"),
    [
        ("shared_socket", 3, {}, [8080]),
        ("shared_socket", 3, {"PORT": "81", PORTS_VARIABLE: "91 92 93"}, [81]),
        ("least_conn", 1, {"PORT": "81"}, [81]),
        ("least_conn", 3, {"PORT": "81", PORTS_VARIABLE: "91 92 93 94"}, [91, 92, 93]),
    ],
)
def test_workers_have_one_port_or_each_its_own(
    balance: str, workers: int, env: dict[str, str], ports: list[int]
) -> None:
    knobs = Knobs().with_settings({"balance": balance, "workers": workers})
    assert listening_ports(knobs, env) == ports


@pytest.mark.parametrize(("given", "count"), [("", 0), ("91", 1)])
def test_too_few_ports_are_refused(given: str, count: int) -> None:
    knobs = Knobs().with_settings({"balance": "round_robin", "workers": 2})
    said = f"LAB_BACKEND_PORTS has {count} ports for 2 workers - name one for each, or set LAB_"
    with pytest.raises(ValueError, match=said):
        listening_ports(knobs, {PORTS_VARIABLE: given})
