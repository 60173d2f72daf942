"""How full the replica's parts are, by a frame of a trial."""

from __future__ import annotations

from typing import Any

import pytest

from lab.web.drawing import HIGH, curves, drawn
from lab.web.parts import PartLevel, parts
from lab.web.track import Track
from tests.fakes.cells import make_cell

POOL = {"pool_size": 5, "max_overflow": 5, "gcs_call": "executor", "gcs_threads": 8}


def at(
    settings: dict[str, Any], readings: list[dict[str, Any]], **more: Any
) -> dict[str, PartLevel]:
    track = Track(make_cell(settings, **more))
    for t in (1.0, 2.0, 3.0):
        for pid, told in enumerate(readings):
            track.add_worker(t, {"pid": pid, "loop_busy_s": t * told.get("busy", 0.0), **told})
    frame = track.frame(3.5, sent=30)
    return {part.key: part for part in parts(track.cell, frame)}


def test_a_full_pool_with_a_queue_is_marked_and_a_free_one_is_not() -> None:
    full = at(POOL, [{"checked_out": 10, "waiting": 4, "inside": 20}])
    assert (full["pool"].used, full["pool"].slots, full["pool"].waiting) == (10, 10, 4)
    assert full["pool"].limiting
    assert not at(POOL, [{"checked_out": 10, "waiting": 0}])["pool"].limiting
    assert not at(POOL, [{"checked_out": 6, "waiting": 4}])["pool"].limiting


def test_slots_are_those_of_all_workers_together() -> None:
    two = [{"checked_out": 4, "threads_busy": 8, "threads_queued": 2}] * 2
    told = at({**POOL, "workers": 2}, two)
    assert (told["pool"].used, told["pool"].slots) == (8, 20)
    assert (told["threads"].used, told["threads"].slots) == (16, 16)
    assert told["threads"].limiting
    assert told["database"].used == 8  # of what is lent, where Postgres itself is not read
    assert told["database"].slots == 25


def test_a_busy_loop_limits_where_more_than_one_is_inside() -> None:
    assert at(POOL, [{"busy": 1.0, "inside": 5}])["loops"].limiting
    assert not at(POOL, [{"busy": 1.0, "inside": 1}])["loops"].limiting
    assert at(POOL, [{"busy": 0.4, "inside": 5}])["loops"].used == pytest.approx(0.4)


def test_what_no_worker_has_yet_is_nginx() -> None:
    assert at(POOL, [{"inside": 22}])["entrance"].used == 8


def test_nothing_is_said_of_what_nothing_tells() -> None:
    told = at(POOL, [])
    assert {key for key, part in told.items() if part.used is None} == {
        *("entrance", "loops", "pool", "threads", "database", "storage")
    }
    assert not any(part.limiting for part in told.values())


def test_a_pooler_stands_before_postgres_only_where_there_is_one() -> None:
    assert "pooler" not in at(POOL, [{}])
    assert list(at({**POOL, "pooler": "transaction"}, [{}]))[-3:] == [
        *("pooler", "database", "storage")
    ]


def test_on_cloud_run_the_gateway_has_the_queue() -> None:
    track = Track(make_cell({}, target="cloudrun"))
    told = {"queue": 6, "in_flight": 1, "starting": 0, "ready": 1, "stopping": 0}
    track.add_gateway(1.0, told)
    gateway = parts(track.cell, track.frame(2.0, sent=7))[1]
    assert (gateway.name, gateway.used, gateway.slots, gateway.waiting) == ("gateway", 1, 1, 6)
    assert gateway.limiting


def test_a_box_is_filled_as_far_as_its_part_is() -> None:
    boxes = {
        box.part.key: box for box in drawn(list(at(POOL, [{"checked_out": 5}]).values())).boxes
    }
    assert boxes["pool"].fill == HIGH / 2
    assert boxes["pool"].figure == "5 of 10 connections"
    assert boxes["users"].fill == 0


def test_no_two_boxes_lie_on_each_other_and_all_are_inside() -> None:
    told = drawn(list(at({**POOL, "pooler": "transaction"}, [{}]).values()))
    places = [(box.x, box.y) for box in told.boxes]
    assert len(set(places)) == len(places)
    assert all(x + 150 < told.width and y + HIGH < told.height for x, y in places)


def test_curves_end_where_the_trial_is() -> None:
    track = Track(make_cell({}))
    for t in range(20):
        track.add_load({"sent_at": t, "latency_s": 1.0, "error": None})
    made = curves(track.frame(20.0).history, until=70.0)
    assert [curve.name for curve in made] == ["users", "answered/s", "errors/s"]
    assert made[1].path.rpartition("L")[2].split()[0] == f"{560 * 21 / 70:.1f}"
    assert curves((), 1.0)[0].path == ""
