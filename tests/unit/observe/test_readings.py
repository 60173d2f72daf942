"""From raw readings to evidence: one clock, whole lines, only what is of this cell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lab.errors import PartFailed
from lab.model.clock import clock_name
from lab.model.evidence import OomKill, UploadRecord, WorkerReading
from lab.model.pooler import PoolerState
from lab.model.readings import Usage
from lab.observe.readings import Clock, from_uploads, from_watch, from_workers
from lab.observe.statements import Statements
from lab.observe.watch import Backends, MachineUsage, Seen

T0 = 1_000_000.0
READING = {
    "pid": 7,
    "pool_size": 10,
    "checked_out": 1,
    "overflow": 0,
    "waiting": 0,
    "threads_busy": 2,
    "threads_queued": 0,
    "inflight": 3,
    "loop_lag": 0.05,
    "loop_busy_s": 0.7,
    "threads": 30,
    "fds": 40,
    "anyio_busy": 2,
    "anyio_queued": 1,
    "rss": 100,
    "cpu_s": 1.5,
    "gcs_attempts": 4,
    "gcs_bytes": 5,
    "stood": {"database.py:40 connection": 0.5},
    "threads_named": {"default": 6},
    "abandoned": 1,
    "gcs_failed": 1,
    "gcs_retried": 1,
    "gcs_acknowledged_bytes": 4,
}


def line(at: float, **changed: Any) -> str:
    return json.dumps({"at": at, **READING, **changed}) + "\n"


def test_lines_of_a_lab_that_read_less_are_readings_still(tmp_path: Path) -> None:
    later = (
        *("loop_busy_s", "threads", "fds", "anyio_busy", "anyio_queued"),
        *("stood", "threads_named", "abandoned"),
        *("gcs_failed", "gcs_retried", "gcs_acknowledged_bytes"),
    )
    old = {name: value for name, value in READING.items() if name not in later}
    (tmp_path / "worker-7.jsonl").write_text(json.dumps({"at": T0 + 1, **old}) + "\n")
    [reading] = from_workers(tmp_path, Clock(T0, 1), since=0.0)
    assert [getattr(reading, name) for name in later] == [None] * len(later)


def test_the_last_record_of_an_upload_counts_in_real_world_seconds(tmp_path: Path) -> None:
    inside = {
        "worker": 7,
        "at": T0 + 2,
        "request": "3-1",
        "handed": T0 + 0.9,
        "arrived": T0 + 1,
        "status": None,
        "cause": None,
        "spans": [["auth", T0 + 1.5, 0.05], ["gcs_queue", T0 + 1.55, 0.45]],
        "journey": "upload",
    }
    answered = {**inside, "at": T0 + 4, "status": 200, "peer": 40_001}
    unnamed = {**answered, "request": "", "handed": None}
    earlier = {**answered, "request": "0-1", "arrived": T0 - 9}
    (tmp_path / "uploads-7.jsonl").write_text(
        "".join(json.dumps(record) + "\n" for record in (earlier, inside, answered, unnamed))
    )
    [record, other] = from_uploads(tmp_path, Clock(T0, 10), since=T0 - 1)
    assert isinstance(record, UploadRecord)
    assert isinstance(other, UploadRecord)
    assert (record.t, record.handed, record.arrived, record.status) == (40.0, 9.0, 10.0, 200)
    assert record.spans == [("auth", 15.0, 0.5), ("gcs_queue", 15.5, 4.5)]
    assert (other.request, other.handed) == ("", None)
    assert record.peer == 40_001
    [before] = from_uploads(tmp_path, Clock(T0, 10), since=T0 - 1, until=T0 + 3)
    assert isinstance(before, UploadRecord)
    assert (before.request, before.status, before.peer) == ("3-1", None, None)


@pytest.mark.parametrize(
    ("speed", "at", "t"), [(1, T0 + 2.5, 2.5), (10, T0 + 2.5, 25.0), (4, T0 - 1, -4.0)]
)
def test_the_clock_gives_real_world_seconds_after_the_start(
    speed: float, at: float, t: float
) -> None:
    assert Clock(T0, speed)(at) == t
    assert Clock(T0, speed).scaled(0.25) == 0.25 * speed


def test_workers_lines_become_readings_scaled_where_they_are_durations(tmp_path: Path) -> None:
    (tmp_path / "worker-7.jsonl").write_text(line(T0 + 1) + line(T0 + 2))
    (tmp_path / "worker-8.jsonl").write_text(line(T0 + 1, pid=8))
    readings = list(from_workers(tmp_path, Clock(T0, 10), since=0.0))
    assert all(isinstance(reading, WorkerReading) for reading in readings)
    first = readings[0].model_dump()
    assert first == {
        **READING,
        **dict.fromkeys(("speech_busy", "speech_queued", "audio_busy", "audio_queued", "inside")),
        "kind": "worker",
        "t": 10.0,
        "loop_lag": 0.5,
        "instance": "",
    }
    assert [(reading.t, getattr(reading, "pid", None)) for reading in readings] == [
        (10.0, 7),
        (20.0, 7),
        (10.0, 8),
    ]


def test_a_worker_of_another_clock_is_refused_not_mixed(tmp_path: Path) -> None:
    file = tmp_path / "worker-7.jsonl"
    file.write_text(line(T0 + 1, clock=clock_name()))
    assert len(list(from_workers(tmp_path, Clock(T0, 1), since=0.0))) == 1
    file.write_text(line(T0 + 1, clock="of another boot time:[7]"))
    with pytest.raises(PartFailed) as refused:
        list(from_workers(tmp_path, Clock(T0, 1), since=0.0))
    assert str(refused.value) == (
        "worker-7: its evidence is stamped by another clock than the lab's (another kernel, or a"
        " time namespace of its own) - run the backend on the lab's own kernel"
    )


def test_a_line_that_is_still_being_written_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "worker-7.jsonl").write_text(line(T0 + 1) + line(T0 + 2)[:30])
    assert len(list(from_workers(tmp_path, Clock(T0, 1), since=0.0))) == 1


def test_what_is_of_an_earlier_cell_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "worker-7.jsonl").write_text(line(T0 - 50) + line(T0 - 1) + line(T0 + 1))
    kills = [{"at": T0 - 50, "pid": 6, "rss": 10}, {"at": T0 + 2, "pid": 7, "rss": 20}]
    (tmp_path / "oom.jsonl").write_text("".join(json.dumps(kill) + "\n" for kill in kills))
    *workers, kill = from_workers(tmp_path, Clock(T0, 2), since=T0 - 2)
    assert [reading.t for reading in workers] == [-2.0, 2.0]
    assert kill == OomKill(t=4.0, pid=7, rss=20)


BACKEND = Usage(cpu_s=3.0, memory=7, throttled_s=0.5, received=900, sent=80)


def test_what_the_watch_saw_becomes_evidence() -> None:
    seen = Seen(
        connections=[Backends(T0 + 1, {"active": 3, "idle": 9}, 2)],
        statements=Statements(T0 + 3, 70, 0.5, 0.01),
        pooler=[(T0 + 1, PoolerState(9, 3, 4, 1, 0.5, 2.0, 40))],
        machine=[
            MachineUsage(
                *(T0 + 1, 55.0, 0.25, {"backend": BACKEND, "lab": Usage(cpu_s=1.0, memory=8)}),
                1.7e9,
                8,
            )
        ],
        down={"nginx": (T0 + 2, "killed by SIGKILL")},
    )
    assert [line.model_dump() for line in from_watch(seen, Clock(T0, 5))] == [
        {
            "kind": "database",
            "t": 5.0,
            "connections": 12,
            "states": {"active": 3, "idle": 9},
            "lock_waiting": 2,
        },
        {"kind": "statements", "t": 15.0, "calls": 70, "total_s": 2.5, "max_s": 0.05},
        {
            "kind": "pooler",
            "t": 5.0,
            "clients_active": 9,
            "clients_waiting": 3,
            "servers_active": 4,
            "servers_idle": 1,
            "longest_wait_s": 2.5,
            "wait_s": 10.0,
            "transactions": 40,
        },
        {
            "kind": "machine",
            "t": 5.0,
            "wall_s": 55.0,
            "cpu_share": 0.25,
            "cpu_s": {"backend": 3.0, "lab": 1.0},
            "memory": {"backend": 7, "lab": 8},
            "throttled_s": {"backend": 0.5},
            "received": {"backend": 900.0},
            "sent": {"backend": 80.0},
            "clock_offset": 1.7e9,
            "cores": 8,
        },
        {"kind": "part_down", "t": 10.0, "part": "nginx", "why": "killed by SIGKILL"},
    ]
