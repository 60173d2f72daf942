"""Cloud Run's limits, injected and measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from lab.judge import checks, measure
from lab.model.evidence import Evidence, GatewayServing
from lab.model.verdict import Check
from tests.unit.judge.observations import (
    MIB,
    STAGES,
    armed,
    at_rest,
    burst,
    cell,
    front,
    observation,
    on_cloudrun,
    one_instance,
    request,
    sample,
    usage,
)


def quotas(lines: Sequence[Evidence], **settings: Any) -> dict[str, Check]:
    of, seen = on_cloudrun(**settings), observation(burst(), lines)
    return {check.name: check for check in checks(of, seen, measure(of, seen))}


def test_a_sound_front_keeps_every_limit() -> None:
    found = quotas([*at_rest(), *one_instance()])
    assert {name: check.measured for name, check in found.items()} == {
        "connections": 10,
        "instance CPU": 0.2,
        "instance memory": 90 * MIB,
        "temporary files": None,
        "instances": 1,
        "concurrency": 1,
        "pending queue": 10.0,
    }
    assert all(check.ok for check in found.values())


@pytest.mark.parametrize(
    ("name", "lines", "reason"),
    [
        (
            "instance CPU",
            [usage(float(t), cores=0.6) for t in range(8)],
            "an instance used 0.600 cores at most, over 5 s; 0.5 are its quota",
        ),
        (
            "instance memory",
            [usage(1.0, peak=257)],
            "an instance held 257.0 MiB at most, of 256 MiB",
        ),
        (
            "instances",
            [front(1.0, starting=1, ready=1)],
            "2 instances started or served at once, 1 are allowed",
        ),
        (
            "concurrency",
            [request(1.0, "request_start", waited=0.0), request(1.1, "request_start", waited=0.0)],
            "an instance had 2 requests at once, 1 are its places",
        ),
        (
            "pending queue",
            [request(9.0, "refused", took=8.5, cause="no_instance", status=429)],
            "1 requests were refused, none before it had waited 8.50 s",
        ),
    ],
)
def test_a_limit_that_was_not_kept_is_said(
    name: str, lines: Sequence[Evidence], reason: str
) -> None:
    found = quotas(lines)[name]
    assert (found.ok, found.reason) == (False, reason)


@pytest.mark.parametrize(
    ("name", "lines", "settings"),
    [
        ("instance CPU", [usage(float(t)) for t in range(5)], {}),
        ("instance CPU", [usage(float(t)) for t in range(9)], {"cloudrun_boost": "on"}),
        ("pending queue", [request(1.0, "refused", took=0.1, cause="no_instance", status=503)], {}),
        ("pending queue", [request(1.0, "refused", took=0.1, cause="too_large", status=413)], {}),
    ],
)
def test_nothing_is_said_where_nothing_can_be_told(
    name: str, lines: Sequence[Evidence], settings: dict[str, Any]
) -> None:
    assert name not in quotas(lines, **settings)


def test_cpu_is_taken_over_seconds_so_that_a_burst_of_readings_does_not_count() -> None:
    steady = [usage(float(t)) for t in range(8)]
    late = usage(7.2, cpu_s=steady[-1].cpu_s + 0.6 if steady[-1].cpu_s else 0)
    assert quotas([*steady, late])["instance CPU"].ok


def test_files_that_are_no_memory_leave_the_check_open() -> None:
    found = quotas([GatewayServing(t=-1, driver="process", files_are_memory=False)])
    assert found["temporary files"].ok is None


def test_requests_of_several_instances_are_counted_apart() -> None:
    lines = [
        request(1.0, "request_start", waited=0.0),
        request(1.0, "request_start", waited=0.0, instance="instance-2"),
    ]
    assert quotas(lines)["concurrency"].measured == 1


def test_a_vm_has_no_such_limits() -> None:
    of, seen = cell(), observation([], [*at_rest(), *one_instance()])
    assert [check.name for check in checks(of, seen, measure(of, seen))] == ["connections"]


@pytest.mark.parametrize(
    ("target", "factor", "ok"),
    [
        ("vm", 1.6, False),
        ("cloudrun", 1.6, True),
        ("cloudrun", 20, True),
        ("vm", 0.5, False),
        ("cloudrun", 0.5, False),
    ],
)
def test_an_instance_that_waits_for_cpu_may_take_longer_but_nothing_is_faster_than_injected(
    target: str, factor: float, ok: bool
) -> None:
    of = cell(faults=["gcs-latency", "db-distance"], load={"burst": 30}, target=target)
    stages = {name: seconds * factor for name, seconds in STAGES.items()}
    seen = observation([sample(0.0, 4.0, stages=stages)] * 30, [*at_rest(), *armed(of)])
    found = {check.name: check.ok for check in checks(of, seen, measure(of, seen))}
    assert {found[name] for name in ("gcs latency", "auth", "write")} == {ok}
