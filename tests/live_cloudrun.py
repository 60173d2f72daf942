"""What a replica on Cloud Run does, told once and played on both stacks.

No fault is injected unless a story injects one, and instances start at the pace of this machine.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

from lab.faults.network import Toxiproxy
from lab.stack.base import Replica
from lab.stack.compose.stack import ComposeStack
from lab.stack.embedded import EmbeddedStack
from tests.fakes import make_cell
from tests.live import causes, left_behind, make_fault, upload, uploads, wait_until

AnyStack = EmbeddedStack | ComposeStack


class Service:
    """A stack, brought to Cloud Run with the settings of one story."""

    def __init__(self, stack: AnyStack) -> None:
        self.stack = stack

    def __call__(self, settings: Mapping[str, Any]) -> Replica:
        self.cell = make_cell(settings, target="cloudrun")
        return self.stack.apply(self.cell)

    def slow_storage(self, replica: Replica, delay: str) -> AbstractContextManager[object]:
        """Storage answers so much later."""
        fault = make_fault("gcs", delay=delay)
        return Toxiproxy(replica.toxiproxy).injected([fault], self.cell.knobs)

    def events(self, *kinds: str) -> list[dict[str, Any]]:
        """What the front has noted of these kinds."""
        lines = self.stack.gateway.events.read_text().split("\n")[:-1]
        return [event for event in map(json.loads, lines) if event["event"] in kinds]

    def ready(self) -> int:
        return self.stack.gateway.instances.ready()

    def kill_instances(self) -> None:
        """End every instance as the kernel would, out of memory."""
        if isinstance(self.stack, ComposeStack):
            for container in self.stack.project.instances().values():
                container.kill()
        else:
            for file in self.stack.gateway.events.parent.glob("worker-*.jsonl"):
                os.kill(int(file.stem.removeprefix("worker-")), signal.SIGKILL)


def the_first_upload_from_zero_is_cold_and_the_second_warm(service: Service) -> None:
    replica = service({})
    assert (service.ready(), service.events("starting")) == (0, [])
    assert causes([upload(replica.url), upload(replica.url)]) == {"ok": 2}
    [ready] = service.events("ready")
    cold, warm = service.events("request_start")
    assert 0 < cold["cold"] <= ready["start_s"]
    assert (warm["cold"], warm["instance"]) == (0, ready["instance"])
    assert left_behind(replica) == (2, 2)
    [worker] = replica.evidence.glob("worker-*.jsonl")
    assert json.loads(worker.read_text().partition("\n")[0])["instance"] == ready["instance"]
    wait_until(lambda: replica.usage()["backend"].cpu_s > 0)
    wait_until(lambda: replica.inflight() == 0)
    assert service.stack.down_parts() == {}
    assert set(replica.usage()) == {
        *("postgres", "fake-gcs-server", "speech", "toxiproxy", "front", "backend")
    }


def ten_at_once_are_served_one_at_a_time(service: Service) -> None:
    replica = service({})
    answered = causes(uploads(replica.url, 10))
    assert answered["ok"] + answered.get("no_instance", 0) == sum(answered.values()) == 10
    wait_until(lambda: replica.inflight() == 0)
    inside = [event["event"] for event in service.events("request_start", "request_end")]
    assert inside == ["request_start", "request_end"] * answered["ok"]
    assert len(service.events("starting")) == 1
    assert left_behind(replica) == (answered["ok"],) * 2


def who_waits_longer_than_the_limit_is_answered_429(service: Service) -> None:
    replica = service({"cloudrun_pending": "100 ms", "cloudrun_min_instances": 1})
    [ready] = service.events("ready")
    limit = 3.5 * ready["start_s"]
    with service.slow_storage(replica, f"{limit + 1:.1f} s"):
        answers = uploads(replica.url, 3)
    assert causes(answers) == {"ok": 1, "no_instance": 2}
    assert [refused["status"] for refused in service.events("refused")] == [429, 429]
    assert all(refused["took"] >= limit for refused in service.events("refused"))


def an_idle_instance_ends_in_good_order_and_the_next_upload_is_cold(service: Service) -> None:
    replica = service({"cloudrun_idle": "200 ms"})
    assert upload(replica.url).status_code == 200
    wait_until(lambda: service.events("removed"))
    life = [event["event"] for event in service.events("ready", "idle", "sigterm", "stopped")]
    assert life == ["ready", "idle", "sigterm", "stopped"]
    said = (service.stack.gateway.logs / "instance-1.log").read_text()
    assert "Application shutdown complete" in said, "the application saw its SIGTERM"
    assert service.ready() == 0
    assert upload(replica.url).status_code == 200
    assert [start["cold"] > 0 for start in service.events("request_start")] == [True, True]
    assert service.stack.down_parts() == {}


def what_a_killed_instance_was_doing_is_answered_503(service: Service) -> None:
    replica = service({})
    assert upload(replica.url).status_code == 200
    with service.slow_storage(replica, "20 s"), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(upload, replica.url)
        wait_until(lambda: len(service.events("request_start")) == 2)
        service.kill_instances()
        answer = waiting.result()
    assert (answer.status_code, causes([answer])) == (503, {"instance_died": 1})
    assert service.stack.down_parts() == {}, "that an instance dies is a result"
    assert upload(replica.url).status_code == 200
    assert len(service.events("ready")) == 2


def connections_are_refused_exactly_when_the_pools_together_pass_the_cap(service: Service) -> None:
    settings = {
        "db_cap": 5,
        "pool_size": 2,
        "max_overflow": 0,
        "db_session": "hold",
        "gcs_call": "executor",
        "cloudrun_cpus": 1,
        "cloudrun_concurrency": 2,
        "cloudrun_max_instances": 3,
    }
    for instances, refused in ((2, 0), (3, 1)):
        replica = service(settings | {"cloudrun_min_instances": instances})
        assert service.ready() == instances
        with service.slow_storage(replica, "2 s"):
            answers = causes(uploads(replica.url, 2 * instances))
        assert answers.get("db_refused", 0) == refused
        assert answers["ok"] == 2 * instances - refused
        assert (replica.refused() > 0) == (refused > 0)
        kept = replica.query("SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'")
        assert kept == [(2 * instances - refused,)]


def an_instance_runs_as_many_processes_as_it_is_to_have(service: Service) -> None:
    settings = {
        "cloudrun_workers": 2,
        "cloudrun_cpus": 1,
        "cloudrun_memory": "512 MiB",
        "cloudrun_concurrency": 4,
        "cloudrun_min_instances": 2,
        "cloudrun_max_instances": 2,
        "gcs_call": "executor",
    }
    replica = service(settings)

    def writers() -> list[str]:
        return [file.stem for file in replica.evidence.glob("worker-*.jsonl")]

    def all_serve() -> bool:
        """An instance is ready with its first process, and has no CPU for others until it is
        given requests."""
        assert causes(uploads(replica.url, 8)) == {"ok": 8}
        return len(writers()) == 4

    with service.slow_storage(replica, "2 s"):
        wait_until(all_serve)
    starts = service.events("request_start")
    assert {start["instance"] for start in starts} == {"instance-1", "instance-2"}
    assert left_behind(replica) == (len(starts), len(starts))
    wait_until(lambda: replica.inflight() == 0)


def each_target_has_its_parts_and_a_cell_begins_at_zero(service: Service) -> None:
    stack = service.stack
    replica = service({})
    assert upload(replica.url).status_code == 200
    shared = {"postgres", "fake-gcs-server", "speech", "toxiproxy"}
    on_vm = stack.apply(make_cell({}))
    assert set(stack.restarted) == {"backend", "nginx"}
    assert on_vm.url == replica.url
    assert upload(on_vm.url).status_code == 200
    wait_until(lambda: set(on_vm.usage()) == shared | {"backend", "nginx"})
    for _ in range(2):
        service({})
        assert stack.restarted == ["front"]
        assert service.events("starting") == []
        assert stack.down_parts() == {}


STORIES: list[Callable[[Service], None]] = [
    the_first_upload_from_zero_is_cold_and_the_second_warm,
    ten_at_once_are_served_one_at_a_time,
    who_waits_longer_than_the_limit_is_answered_429,
    an_idle_instance_ends_in_good_order_and_the_next_upload_is_cold,
    what_a_killed_instance_was_doing_is_answered_503,
    connections_are_refused_exactly_when_the_pools_together_pass_the_cap,
    an_instance_runs_as_many_processes_as_it_is_to_have,
    each_target_has_its_parts_and_a_cell_begins_at_zero,
]
