"""From the gateway's log to evidence: every event it writes, and what stood when a trial began."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, get_args

import pytest

from lab.model.evidence import (
    EVIDENCE,
    GatewayBeat,
    GatewayReading,
    GatewayRequest,
    GatewayServing,
    InstanceEvent,
)
from lab.model.probe import ProbeRecord
from lab.observe.readings import Clock, from_gateway
from lab.paths import ROOT
from lab.services.cloudrun.gateway import EventFile, keep_usage
from tests.component.cloudrun.virtual import run

T0 = 1_000_000.0
SERVING = {"port": 1, "driver": "process", "files_are_memory": True}
STANDING = {"queue": 1, "in_flight": 0, "starting": 1, "ready": 0, "stopping": 0}


def log(folder: Path, *lines: tuple[float, str, dict[str, Any]]) -> None:
    noted = ({"at": T0 + at, "event": event, **fields} for at, event, fields in lines)
    (folder / "front.jsonl").write_text("".join(json.dumps(line) + "\n" for line in noted))


def evidence(folder: Path, since: float = -1000.0) -> list[Any]:
    return list(from_gateway(folder, Clock(T0, 1), T0 + since))


def of(instance: str = "instance-1", **fields: Any) -> dict[str, Any]:
    return {"instance": instance, **fields}


def test_its_signs_of_life_are_evidence_but_none_from_before(tmp_path: Path) -> None:
    log(tmp_path, (-2, "beat", {}), (-1, "serving", SERVING), (0, "beat", {}), (0.1, "beat", {}))
    [serving, *beats] = evidence(tmp_path, since=-0.5)
    assert serving.kind == "serving"
    assert beats == [GatewayBeat(t=0.0), GatewayBeat(t=0.1)]


def test_on_a_vm_there_is_nothing(tmp_path: Path) -> None:
    assert evidence(tmp_path) == []


def test_each_kind_of_event_becomes_its_kind_of_line(tmp_path: Path) -> None:
    totals: dict[str, Any] = {"cpu_s": 1.5, "throttled_s": 0.5, "peak_bytes": 9.0}
    log(
        tmp_path,
        (-1, "serving", SERVING),
        (0, "reading", STANDING),
        (0, "starting", of()),
        (2, "ready", of(start_s=2.0)),
        (2, "request_start", of(waited=2.0, cold=2.0)),
        (3, "usage", of(**totals)),
        (4, "request_end", of(how="broken", took=2.0)),
        (4, "oom", of(why="out of memory", during="ready", **totals)),
        (9, "refused", {"cause": "no_instance", "status": 429, "took": 10.0}),
        (9, "left", {"waited": 1.0}),
        (12, "probe_failed", of(why="no answer within 1 s", in_row=3)),
        (12, "probe_ended", of(why="no answer within 1 s", in_row=3)),
        (19, "closed", {"stuck": []}),
    )
    assert evidence(tmp_path) == [
        GatewayServing(t=-1, driver="process", files_are_memory=True),
        GatewayReading(t=0, **STANDING),
        InstanceEvent(t=0, event="starting", instance="instance-1"),
        InstanceEvent(t=2, event="ready", instance="instance-1", start_s=2.0),
        GatewayRequest(t=2, event="request_start", instance="instance-1", waited=2.0, cold=2.0),
        InstanceEvent(t=3, event="usage", instance="instance-1", **totals),
        GatewayRequest(t=4, event="request_end", instance="instance-1", how="broken", took=2.0),
        InstanceEvent(
            t=4, event="oom", instance="instance-1", why="out of memory", during="ready", **totals
        ),
        GatewayRequest(t=9, event="refused", cause="no_instance", status=429, took=10.0),
        GatewayRequest(t=9, event="left", waited=1.0),
        *(
            ProbeRecord(
                t=12, event=event, instance="instance-1", why="no answer within 1 s", in_row=3
            )
            for event in ("failed", "ended")
        ),
    ]


def test_a_line_reads_back_from_disk_as_it_was(tmp_path: Path) -> None:
    log(tmp_path, (-1, "serving", SERVING), (0, "reading", STANDING), (2, "ready", of(start_s=2)))
    for line in evidence(tmp_path):
        assert EVIDENCE.validate_json(line.model_dump_json()) == line


def test_of_what_was_before_the_trial_only_what_still_stands_is_kept(tmp_path: Path) -> None:
    log(
        tmp_path,
        (-90, "serving", SERVING),
        (-80, "starting", of("old")),
        (-70, "serving", SERVING),
        (-60, "reading", STANDING),
        (-60, "starting", of("gone")),
        (-58, "ready", of("gone", start_s=2.0)),
        (-50, "removed", of("gone")),
        (-40, "request_start", of("gone", waited=0.0)),
        (-30, "starting", of("warm")),
        (-28, "ready", of("warm", start_s=2.0)),
        (-27, "reading", {**STANDING, "ready": 1}),
        (1, "paused", of("warm")),
    )
    assert [
        (line.t, line.kind, getattr(line, "event", "")) for line in evidence(tmp_path, -10)
    ] == [
        (-70, "serving", ""),
        (-30, "instance", "starting"),
        (-28, "instance", "ready"),
        (-27, "front", ""),
        (1, "instance", "paused"),
    ]


def test_a_line_that_is_still_being_written_is_left_out(tmp_path: Path) -> None:
    log(tmp_path, (0, "starting", of()))
    with (tmp_path / "front.jsonl").open("a") as file:
        file.write('{"at": 1000')
    assert len(evidence(tmp_path)) == 1


@pytest.mark.parametrize("kind", [InstanceEvent, GatewayRequest])
def test_the_gateway_documents_every_event_that_is_read(kind: type[InstanceEvent]) -> None:
    documented = (ROOT / "docs" / "cloudrun.md").read_text()
    events = get_args(kind.model_fields["event"].annotation)
    assert [event for event in events if f"`{event}`" not in documented] == []


def test_usage_is_noted_where_it_has_changed(tmp_path: Path) -> None:
    used = {"a": {"cpu_s": 1.0}, "b": {"cpu_s": 1.0}}

    async def story() -> None:
        with (tmp_path / "front.jsonl").open("w") as file:
            log = EventFile(file, clock=lambda: T0 + asyncio.get_running_loop().time())
            noting = asyncio.create_task(keep_usage(log, lambda: used))
            await asyncio.sleep(0.7)
            used["b"] = {"cpu_s": 2.0}
            await asyncio.sleep(0.7)
            noting.cancel()

    run(story())
    assert [(line.t, line.instance, line.cpu_s) for line in evidence(tmp_path)] == [
        (0.0, "a", 1.0),
        (0.0, "b", 1.0),
        (1.0, "b", 2.0),
    ]
