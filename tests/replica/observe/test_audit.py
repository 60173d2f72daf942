"""The audit finds what is missing and what is left over, made on purpose on a real replica."""

from __future__ import annotations

import json
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import psycopg2
import pytest
import requests

from lab.model.evidence import Audit, Evidence, LoadDone, PartDown, UploadRecord
from lab.model.journeys import Journey
from lab.observe.audit import StoredIds, audit, object_ids
from lab.observe.observer import Observer, answered
from lab.observe.readings import Clock
from lab.observe.retention import Retention
from lab.stack.base import Replica
from lab.stack.monitor import count_refused
from tests.live import Live, left_behind, upload, wait_until

DONE = LoadDone(t=1.0, window=(0.0, 1.0), generator_exit=0)


def recordings(replica: Replica, count: int) -> list[str]:
    """Upload that many; their ids, oldest first."""
    return [upload(replica.url, student).json()["recording"] for student in range(count)]


def object_name(replica: Replica, recording: str) -> str:
    rows = replica.query("SELECT object_name FROM recordings WHERE id = %s", recording)
    return str(rows[0][0])


def delete_object(replica: Replica, name: str) -> None:
    where = f"{replica.storage}/storage/v1/b/{replica.bucket}/o/{quote(name, safe='')}"
    requests.delete(where, timeout=5).raise_for_status()


def insert_object(replica: Replica, name: str) -> None:
    where = f"{replica.storage}/upload/storage/v1/b/{replica.bucket}/o"
    params = {"uploadType": "media", "name": name}
    requests.post(where, params=params, data=b"x", timeout=5).raise_for_status()


def samples_of(recordings: list[str], file: Path) -> Path:
    file.write_text("".join(json.dumps({"recording": name}) + "\n" for name in recordings))
    return file


def observe(live: Live, replica: Replica, samples: Path) -> list[Evidence]:
    observer = Observer(replica, live.stack.down_parts, live.knobs.speed)
    return list(observer.evidence(time.monotonic(), samples, [], DONE))


@pytest.mark.replica
def test_what_is_whole_is_neither_lost_nor_an_orphan(live: Live, tmp_path: Path) -> None:
    replica = live({})
    samples = samples_of(recordings(replica, 3), tmp_path / "samples")
    last = observe(live, replica, samples)[-1]
    assert isinstance(last, Audit)
    assert last.model_dump(exclude={"t", "kind", "shortages"}) == {
        "rows": 3,
        "objects": 3,
        "lost": [],
        "orphans": [],
        "unheard": [],
        "inflight": 0,
        "refused": 0,
        "scores": 0,
        "lost_scores": [],
    }


@pytest.mark.replica
def test_an_object_that_is_gone_a_row_that_is_gone_and_an_object_too_many_are_found(
    live: Live, tmp_path: Path
) -> None:
    replica = live({})
    whole, without_object, without_row = recordings(replica, 3)
    never = str(uuid.uuid4())
    left_over = str(uuid.uuid4())
    delete_object(replica, object_name(replica, without_object))
    replica.query("DELETE FROM recordings WHERE id = %s", without_row)
    insert_object(replica, f"recordings/0/{left_over}.wav")
    insert_object(replica, "a name of another kind")
    [unheard] = recordings(replica, 1)
    samples = samples_of([whole, without_object, without_row, never], tmp_path / "samples")
    last = observe(live, replica, samples)[-1]
    assert isinstance(last, Audit)
    assert last.lost == sorted([without_object, without_row, never])
    assert last.orphans == sorted([without_row, left_over, "a name of another kind"])
    assert last.unheard == [unheard]
    assert (last.rows, last.objects) == (3, 5)


@pytest.mark.replica
def test_the_bucket_is_read_to_its_last_page(live: Live) -> None:
    replica = live({})
    names = {f"recordings/0/{number:04d}" for number in range(1001)}
    for name in names:
        insert_object(replica, name)
    assert object_ids(replica.storage, replica.bucket) == names
    live({})
    assert object_ids(replica.storage, replica.bucket) == set()


@pytest.mark.replica
def test_connections_refused_are_counted_from_postgres_log(live: Live) -> None:
    replica = live({"db_cap": 2})
    opened = [psycopg2.connect(replica.app_dsn) for _ in range(2)]
    for _ in range(3):
        with pytest.raises(psycopg2.OperationalError):
            psycopg2.connect(replica.app_dsn)
    for connection in opened:
        connection.close()
    wait_until(lambda: replica.refused() == 3)
    assert live({"db_cap": 2}).refused() == 0


def test_a_refusal_is_counted_by_its_code_alone() -> None:
    lines = [
        b"2026-01-01 00:00:00 UTC [53300] 00000 LOG:  connection received",
        b"2026-01-01 00:00:00 UTC [5] 53300 FATAL:  sorry, too many clients already",
        b"2026-01-01 00:00:00 UTC [5] 57P01 FATAL:  terminating connection",
        b"2026-01-01 00:00:00 UTC [5] 53300 FATAL:  remaining connection slots are reserved",
    ]
    assert count_refused([]) == 0
    assert count_refused(lines) == 2


def test_the_audit_waits_for_uploads_that_are_about_to_end(live: Live) -> None:
    replica = live({})
    left = iter([2, 1, 0])
    uploading = replace(replica, inflight=lambda: next(left))
    nothing = StoredIds()
    assert audit(uploading, nothing, nothing, Clock(time.monotonic(), 1)).inflight == 0
    assert next(left, None) is None


@pytest.mark.replica
@pytest.mark.parametrize(("delay", "status"), [("30 s", 200), ("90 s", None)])
def test_an_upload_is_followed_for_as_long_as_its_faults_are_in_force(
    live: Live, tmp_path: Path, delay: str, status: int | None
) -> None:
    """At speed 20 the lab waits 60 s; what ends then ends without the fault, and proves nothing."""
    replica = live({"gcs_call": "executor"})
    observer = Observer(replica, live.stack.down_parts, live.knobs.speed)
    with ThreadPoolExecutor(1) as pool:
        with live.slow("gcs", delay):
            pool.submit(upload, replica.url)
            wait_until(replica.inflight)
            observer.settle()
        wait_until(lambda: not replica.inflight())
        seen = list(
            observer.evidence(time.monotonic(), samples_of([], tmp_path / "none"), [], DONE)
        )
    [record] = [line for line in seen if isinstance(line, UploadRecord)]
    [audited] = [line for line in seen if isinstance(line, Audit)]
    assert (record.status, record.cause, audited.inflight) == (status, None, 0)
    assert audited.unheard
    assert seen[-1] == audited


def test_only_whole_lines_of_samples_are_answered_each_of_its_journey(tmp_path: Path) -> None:
    file = tmp_path / "samples.jsonl"
    lines: list[object] = [
        *({"recording": "a"}, {"recording": None}, {"recording": "b", "journey": "upload"}),
        *({"recording": "s", "journey": "assess"}, {"recording": "x", "journey": "convert"}),
        *([1], 7, {"journey": "assess"}),
    ]
    file.write_text("\n".join(map(json.dumps, lines)) + '\n{"recording": "c"')
    assert answered(file) == {"a", "b"}
    assert answered(file, Journey.ASSESS) == {"s"}


@pytest.mark.replica
@pytest.mark.parametrize("dead", ["postgres", "fake-gcs-server"])
def test_an_audit_that_cannot_be_made_says_which_part_is_down(
    live: Live, tmp_path: Path, dead: str
) -> None:
    replica = live({})
    samples = samples_of(recordings(replica, 1), tmp_path / "samples")
    part = next(part for part in live.stack.parts if part.name == dead)
    observer = Observer(replica, live.stack.down_parts, live.knobs.speed)
    part._process.kill()  # type: ignore[union-attr]
    with observer.watch:
        wait_until(observer.down)
    *_, done, down, last = observer.evidence(time.monotonic(), samples, [], DONE)
    assert done == DONE
    assert isinstance(down, PartDown)
    assert down.part == "audit"
    assert isinstance(last, Audit)
    assert (last.rows, last.objects) == (0, 0)
    assert dead in observer.down()


@pytest.mark.replica
def test_retention_removes_the_oldest_that_are_whole_and_the_audit_still_knows_them(
    live: Live, tmp_path: Path
) -> None:
    replica = live({})
    ids = recordings(replica, 5)
    observer = Observer(replica, live.stack.down_parts, live.knobs.speed)
    observer.retention = Retention(replica.query, replica.storage, replica.bucket, keep=2)
    assert observer.retention.remove_batch() == 3
    assert observer.retention.remove_batch() == 0
    assert observer.retention.verified.recordings == set(ids[:3])
    assert left_behind(replica) == (2, 2)
    samples = samples_of(ids[1:4], tmp_path / "samples")
    *_, last = observer.evidence(time.monotonic(), samples, [], DONE)
    assert isinstance(last, Audit)
    assert (last.rows, last.objects, last.lost, last.orphans) == (5, 5, [], [])
    assert last.unheard == sorted([ids[0], ids[4]])  # one that was removed, one that is there


@pytest.mark.replica
def test_retention_leaves_a_row_without_its_object_for_the_audit(live: Live) -> None:
    replica = live({})
    lost, *others = recordings(replica, 4)
    delete_object(replica, object_name(replica, lost))
    retention = Retention(replica.query, replica.storage, replica.bucket, keep=1)
    assert retention.remove_batch() == 2
    assert retention.verified.recordings == set(others[:2])
    assert {row[0] for row in replica.query("SELECT id FROM recordings")} == {lost, others[2]}


@pytest.mark.replica
def test_an_assessment_without_its_score_is_lost_and_one_that_was_removed_is_not(
    live: Live, tmp_path: Path
) -> None:
    replica = live({})
    ids = [str(uuid.uuid4()) for _ in range(5)]
    for number, name in enumerate(ids):
        row = "INSERT INTO scores VALUES (%s, 0, 50, now() + %s * interval '1 s')"
        replica.query(row, name, number)
    observer = Observer(replica, live.stack.down_parts, live.knobs.speed)
    observer.retention = Retention(replica.query, replica.storage, replica.bucket, keep=2)
    assert (observer.retention.remove_scores(), observer.retention.remove_scores()) == (3, 0)
    replica.query("DELETE FROM scores WHERE id = %s", ids[3])
    samples = tmp_path / "samples"
    lines = [json.dumps({"recording": name, "journey": "assess"}) for name in ids]
    samples.write_text("\n".join(lines) + "\n")
    *_, last = observer.evidence(time.monotonic(), samples, [], DONE)
    assert isinstance(last, Audit)
    assert (last.scores, last.lost_scores) == (4, [ids[3]])
    assert (last.rows, last.lost) == (0, [])


@pytest.mark.replica
def test_of_a_short_cell_everything_is_kept(live: Live) -> None:
    replica = live({})
    recordings(replica, 2)
    retention = Retention(replica.query, replica.storage, replica.bucket)
    assert retention.remove_batch() == 0
    assert left_behind(replica) == (2, 2)
