"""The number that names a worker's evidence: no two that write into one folder share it."""

from __future__ import annotations

import os
from itertools import product

import pytest

from lab.services.backend.settings import worker_number


def test_on_one_machine_it_is_the_process_id() -> None:
    assert worker_number({}) == worker_number({"LAB_INSTANCE": ""}) == os.getpid()


@pytest.mark.knob("cloudrun_workers")
def test_no_two_processes_of_any_instances_have_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = []
    for instance, pid in product(range(4), (1, 7, 8, 2**22)):
        monkeypatch.setattr(os, "getpid", lambda pid=pid: pid)
        numbers.append(worker_number({"LAB_INSTANCE": str(instance)} if instance else {}))
    assert len(set(numbers)) == 16
    assert numbers[5] == 10000007
