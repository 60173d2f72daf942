from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab.model.fault import Fault
from lab.model.knobs import TABLE as KNOBS
from lab.model.metrics import TABLE as METRICS
from lab.report import Style, tables
from lab.store import runs
from tests.fakes import sample_run as sample


@pytest.mark.parametrize("width", [80, 100, 160])
def test_every_knob_and_metric_is_listed_by_its_whole_name(width: int) -> None:
    style = Style(width)
    for text, names in (
        (tables.knobs_text(style), [row.name for row in KNOBS]),
        (tables.metrics_text(style), [row.name for row in METRICS]),
    ):
        first = [line.split(" ")[0] for line in text.splitlines()]
        assert [name for name in first if name in names] == names
        assert max(map(len, text.splitlines())) <= width
        assert text.isascii()


def test_where_there_is_little_room_the_meaning_has_most_of_it() -> None:
    strike = {"part": "backend", "strike": "kill", "at": "10 s", "for": "5 s"}
    fault = Fault.model_validate({"fault": "backend-kill", "about": "a crash"} | strike)
    for width, shown in (
        (80, "pool_size 10 connections that a worker's pool keeps (count: >= 1, <= 200; recommend"),
        (100, "pool_size 10 15 connections that a worker's pool keeps (count: >= 1, <= 200)"),
    ):
        assert shown in " ".join(tables.knobs_text(Style(width)).split())
    told = " ".join(tables.metrics_text(Style(80)).split())
    assert "error_rate failed / attempts (also of any journey) [share; from samples]" in told
    told = tables.faults_text({"backend-kill": fault}, Style(80)).splitlines()[2]
    assert " ".join(told.split()) == "backend-kill backend a crash [kill at 10 s, for 5 s]"


def test_knobs_as_data_hold_both_presets_as_a_spec_writes_them() -> None:
    rows = {row["name"]: row for row in tables.knobs_data()}
    assert rows["upload_rate_limit"]["default"] == "off"
    assert rows["upload_rate_limit"]["recommended"] == "10/min"
    assert rows["pool_size"]["variable"] == "LAB_POOL_SIZE"
    assert json.loads(json.dumps(rows)) == rows


def test_metrics_as_data() -> None:
    rows = tables.metrics_data()
    assert [row["name"] for row in rows] == [row.name for row in METRICS]


def test_faults_are_listed_by_name() -> None:
    down = sample.fault().model_copy(update={"fault": "db-down", "down": True, "toxics": ()})
    keys = {"part": "backend", "strike": "kill", "at": "10 s", "for": "5 s"}
    strike = Fault.model_validate({"fault": "backend-kill", "about": "a crash"} | keys)
    faults = {"gcs-latency": sample.fault(), "db-down": down, "backend-kill": strike}
    lines = tables.faults_text(faults, Style(100)).splitlines()
    assert " ".join(lines[2].split()) == "backend-kill backend kill at 10 s, for 5 s a crash"
    assert [line.split()[:3] for line in lines[3:]] == [
        ["db-down", "gcs", "down"],
        ["gcs-latency", "gcs", "latency"],
    ]
    data = tables.faults_data(faults)
    assert data[0] == {"fault": "backend-kill", "about": "a crash"} | keys
    assert data[2]["toxics"][0]["delay"] == {"knob": "gcs_latency"}


def test_runs_are_listed_with_what_came_of_them(tmp_path: Path) -> None:
    sample.stored(tmp_path, finished=6)
    bad = sample.create(tmp_path)
    (bad.path / "run.json").write_text("{")
    found = runs(tmp_path)
    text = tables.runs_text(found, Style(120))
    assert f"{found[0].name} " in text
    assert "6/12" in text
    assert "1 held, 5 broke" in text
    assert "unreadable" in text
    assert tables.runs_data(found)[0]["outcomes"] == {"held": 1, "broke": 5}


def test_no_runs_says_how_to_make_one() -> None:
    assert tables.runs_text((), Style()) == "no run is stored yet; `lab run SPEC` makes one\n"
