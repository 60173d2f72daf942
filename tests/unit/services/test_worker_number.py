"""The number that names a worker's evidence: no two that write into one folder share it."""

from __future__ import annotations

import os
from itertools import product

import pytest

from lab.model.replica import INSTANCE_VARIABLE
from lab.services.backend.settings import instance_name, worker_number


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
