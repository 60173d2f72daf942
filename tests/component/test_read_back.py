"""Exports, read back by what they are for, against the samples and verdicts on disk."""

from __future__ import annotations

import base64
import csv
import importlib
import json
import tarfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from lab.archives import unpack
from lab.model.evidence import Sample, UploadRecord
from lab.model.metrics import BY_NAME, plain
from lab.model.run import CellResult
from lab.model.verdict import Outcome
from lab.paths import ROOT
from lab.report.exports.formats.openmetrics import VERDICT, family_of, names
from lab.report.exports.formats.otlp import BATCH
from lab.report.exports.rows import TIMINGS
from lab.store import RunFolder
from tests.cli_fixture import run_main
from tests.fakes import sample_run
from validation.fresh_run import make_fresh

MOMENT = 1.1e-6
"""Seconds by which a time may be off that is written in µs."""


def archived(folder: Path, name: str) -> RunFolder:
    """A run that a replica was measured for, as an earlier lab stored it."""
    with tarfile.open(ROOT / "tests" / "fixtures" / "stored_runs" / f"{name}.tar.xz") as tar:
        unpack(tar, folder)
        return RunFolder.open(folder / tar.getnames()[0].split("/")[0])


@pytest.fixture(scope="module", params=["fresh", "every outcome", "stages", "Cloud Run"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Runs of several loads and targets."""
    folder = tmp_path_factory.mktemp("results")
    match request.param:
        case "fresh":
            return make_fresh(folder)
        case "every outcome":
            return sample_run.stored(folder, finished=12)
        case "stages":
            return archived(folder, "phase-5-stress")
        case _:
            return archived(folder, "scenario-3-cold-start")


@pytest.fixture
def results(run: RunFolder) -> dict[str, CellResult]:
    return {cell.id: cell for cell in run.summary().cells}


def samples_of(run: RunFolder, cell_id: str) -> tuple[Sample, ...]:
    return run.cell(cell_id).read_observation().samples


def exported(run: RunFolder, name: str, folder: Path) -> Path:
    """Where a run was exported to, by the command itself."""
    place = folder / f"exported-{name}"
    assert run_main("export", run.path, "--to", name, "-o", place) == 0
    return place


# Tables.


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def test_csv_has_every_sample_and_every_metric(
    run: RunFolder, results: Mapping[str, CellResult], tmp_path: Path
) -> None:
    place = exported(run, "csv", tmp_path)
    rows = rows_of(place / "samples.csv")
    seen = [(cell, sample) for cell in results for sample in samples_of(run, cell)]
    assert len(rows) == len(seen) > 0
    for row, (cell, sample) in zip(rows, seen, strict=True):
        assert row["cell"] == cell
        assert float(row["sent_at"]) == sample.sent_at
        assert float(row["latency_s"]) == sample.latency_s
        assert row["error"] == (sample.error or "")
        assert {stage for stage in TIMINGS if row[f"stage.{stage}"]} == set(sample.stages)
    for row, result in zip(rows_of(place / "cells.csv"), results.values(), strict=True):
        assert (row["cell"], row["verdict"]) == (result.id, result.verdict)
        found = {name: float(row[name]) for name in row if plain(name) in BY_NAME and row[name]}
        assert found == result.metrics


def test_what_counts_is_what_the_judge_counted(
    run: RunFolder, results: Mapping[str, CellResult], tmp_path: Path
) -> None:
    rows = rows_of(exported(run, "csv", tmp_path) / "samples.csv")
    for cell in results.values():
        uploads = [r for r in rows if r["cell"] == cell.id and r["journey"] == "upload"]
        counted = sum(row["in_window"] == "true" for row in uploads)
        if cell.course:  # of a cell that was judged, not written by hand
            assert counted == cell.metrics["attempts"]


def test_parquet_is_csv_with_types(run: RunFolder, tmp_path: Path) -> None:
    parquet = importlib.import_module("pyarrow.parquet")
    place, plain_text = exported(run, "parquet", tmp_path), exported(run, "csv", tmp_path)
    for name in ("samples", "cells"):
        read = parquet.ParquetFile(place / f"{name}.parquet")
        table, rows = read.read(), rows_of(plain_text / f"{name}.csv")
        assert table.column_names == list(rows[0])
        assert table.num_rows == len(rows)
        for column in table.column_names:
            for value, row in zip(table[column].to_pylist(), rows, strict=True):
                assert _same(value, row[column]), column
        assert read.schema_arrow.metadata[b"run"].decode() == run.info.name
    assert str(table.schema.field("speed").type) == "double"
    samples = parquet.read_schema(place / "samples.parquet")
    types = [str(samples.field(name).type) for name in ("latency_s", "status", "in_window")]
    assert types == ["double", "int64", "bool"]


def _same(value: Any, text: str) -> bool:
    if value is None:
        return text == ""
    if isinstance(value, bool):
        return text == str(value).lower()
    return float(text) == value if isinstance(value, int | float) else text == value


# JUnit.

ATTRIBUTES = {
    "testsuites": {"name", "time", "tests", "failures", "errors"},
    "testsuite": {"name", "time", "tests", "failures", "errors", "skipped", "timestamp"},
    "properties": set[str](),
    "property": {"name", "value"},
    "testcase": {"classname", "name", "time"},
    "failure": {"message", "type"},
    "error": {"message", "type"},
    "skipped": {"message", "type"},
    "system-out": set[str](),
}
"""The attributes that an element may have, of those that Jenkins' schema knows."""

WITHIN = {
    "testsuites": ["testsuite"],
    "testsuite": ["properties", "testcase"],
    "properties": ["property"],
    "testcase": ["failure", "error", "skipped", "system-out"],
}
"""What may stand in it, in this order."""

NEEDED = {
    "testsuite": {"name", "tests", "failures", "errors"},
    "testcase": {"name"},
    "property": {"name", "value"},
}

AS = {Outcome.BROKE: "failure", Outcome.INVALID: "error", Outcome.UNDECIDED: "skipped"}


def test_junit_is_of_the_form_that_servers_read(
    run: RunFolder, results: Mapping[str, CellResult], tmp_path: Path
) -> None:
    root = ElementTree.parse(exported(run, "junit", tmp_path)).getroot()  # noqa: S314 - our own
    assert root.tag == "testsuites"
    for element in root.iter():
        assert set(element.attrib) <= ATTRIBUTES[element.tag]
        assert set(element.attrib) >= NEEDED.get(element.tag, set())
        order = [WITHIN.get(element.tag, []).index(child.tag) for child in element]
        assert order == sorted(order)
    [suite] = root
    cases = suite.findall("testcase")
    assert [case.attrib["name"] for case in cases] == list(results)
    for case, result in zip(cases, results.values(), strict=True):
        told = [child for child in case if child.tag != "system-out"]
        as_told = [AS[result.verdict]] if result.verdict in AS else []
        assert [child.tag for child in told] == as_told
        for child in told:
            assert child.attrib["message"] == " ".join(result.reasons[0].split())
    counts = {tag: len(list(suite.iter(tag))) for tag in ("failure", "error", "skipped")}
    assert (suite.attrib["failures"], suite.attrib["errors"], suite.attrib["skipped"]) == tuple(
        str(counts[tag]) for tag in ("failure", "error", "skipped")
    )
    assert int(suite.attrib["tests"]) == len(cases)


def test_junit_is_read_by_a_reader_of_junit(
    run: RunFolder, results: Mapping[str, CellResult], tmp_path: Path
) -> None:
    junitparser = importlib.import_module("junitparser")
    read = junitparser.JUnitXml.fromfile(str(exported(run, "junit", tmp_path)))
    outcomes = [result.verdict for result in results.values()]
    assert (read.tests, read.failures, read.errors) == (
        len(outcomes),
        outcomes.count(Outcome.BROKE),
        outcomes.count(Outcome.INVALID),
    )
    kinds = {"failure": "Failure", "error": "Error", "skipped": "Skipped"}
    for case, outcome in zip((case for suite in read for case in suite), outcomes, strict=True):
        told = [type(one).__name__ for one in case.result]
        assert told == ([kinds[AS[outcome]]] if outcome in AS else [])


# OpenMetrics.


def families(text: str) -> list[Any]:
    parser = importlib.import_module("prometheus_client.openmetrics.parser")
    return list(parser.text_string_to_metric_families(text))


def test_openmetrics_has_every_figure_under_the_name_of_the_table(
    run: RunFolder, results: Mapping[str, CellResult], tmp_path: Path
) -> None:
    read = families(exported(run, "openmetrics", tmp_path).read_text("utf-8"))
    assert {family.name for family in read} <= names()
    assert len({family.name for family in read}) == len(read)
    points = {
        (sample.name, frozenset(sample.labels.items())): sample
        for family in read
        for sample in family.samples
        if not family.name.startswith("replica_lab_over_time_")
    }
    common = {"experiment": run.info.experiment.experiment, "run": run.info.name}
    for cell, result in results.items():
        labels = {**common, "cell": cell}
        moments = set()
        for metric, value in result.metrics.items():
            family, own = family_of(metric)
            point = points[family.name, frozenset({**labels, **dict(own)}.items())]
            assert point.value == value
            moments.add(float(point.timestamp))
        assert len(moments) == 1
        for outcome in Outcome:
            state = {**labels, VERDICT: str(outcome)}
            assert points[VERDICT, frozenset(state.items())].value == (result.verdict is outcome)
    assert len(points) == sum(len(r.metrics) + len(Outcome) + 1 for r in results.values())


def test_time_goes_forward_and_what_a_cell_was_like_lies_before_its_end(
    run: RunFolder, results: Mapping[str, CellResult], tmp_path: Path
) -> None:
    read = families(exported(run, "openmetrics", tmp_path).read_text("utf-8"))
    ends = {
        sample.labels["cell"]: float(sample.timestamp)
        for family in read
        if family.name == "replica_lab_speed"
        for sample in family.samples
    }
    assert list(ends) == list(results)
    assert all(a < b for a, b in pairwise(ends.values()))
    series: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for family in read:
        if family.name.startswith("replica_lab_over_time_"):
            for sample in family.samples:
                series[family.name, sample.labels["cell"]].append(sample)
    for (name, cell), points in series.items():
        moments = [float(point.timestamp) for point in points]
        assert all(a < b for a, b in pairwise(moments))
        assert moments[-1] <= ends[cell] + 1e-3
        if name == "replica_lab_over_time_users":
            course = results[cell].course
            assert course
            assert course.series
            assert [point.value for point in points] == course.series.users


# OTLP.

KEYS = ("traceId", "spanId", "parentSpanId")


def in_base64(value: Any) -> Any:
    """OTLP's JSON has ids in hexadecimal, where protobuf's own has them in base64."""
    if isinstance(value, dict):
        return {
            key: _id(inner) if key in KEYS else in_base64(inner) for key, inner in value.items()
        }
    return [in_base64(inner) for inner in value] if isinstance(value, list) else value


def _id(text: str) -> str:
    return base64.b64encode(bytes.fromhex(text)).decode()


def requests_of(file: Path) -> Iterator[Any]:
    """Each line as the message that OpenTelemetry's own protocol has."""
    service = "opentelemetry.proto.collector.trace.v1.trace_service_pb2"
    request = importlib.import_module(service).ExportTraceServiceRequest
    parse = importlib.import_module("google.protobuf.json_format").ParseDict
    for line in file.read_text("ascii").splitlines():
        yield parse(in_base64(json.loads(line)), request())


def attributes(of: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in of.attributes}


def test_every_upload_is_a_trace_with_its_stages(
    run: RunFolder, results: Mapping[str, CellResult], tmp_path: Path
) -> None:
    spans: dict[str, list[Any]] = defaultdict(list)
    for request in requests_of(exported(run, "otlp", tmp_path)):
        [resource] = request.resource_spans
        [scope] = resource.scope_spans
        assert scope.scope.name == "replica-lab"
        told = attributes(resource.resource)
        assert told["service.name"] == "replica-lab"
        assert told["replica_lab.run"] == run.info.name
        assert 0 < len(scope.spans) < BATCH + 30
        spans[told["replica_lab.cell"]] += scope.spans
    seen = {cell: run.cell(cell).read_observation() for cell in results}
    assert list(spans) == [cell for cell in seen if seen[cell].samples]
    for cell, found in spans.items():
        assert all(len(span.trace_id) == 16 and len(span.span_id) == 8 for span in found)
        ids = {(span.trace_id, span.span_id) for span in found}
        assert len(ids) == len(found)
        assert all(
            (span.trace_id, span.parent_span_id) in ids for span in found if span.parent_span_id
        )
        roots = [span for span in found if not span.parent_span_id]
        _check_roots(roots, seen[cell].samples)
        _check_stages(found, roots, seen[cell].evidence)


def _check_roots(roots: list[Any], samples: tuple[Sample, ...]) -> None:
    assert len(roots) == len({span.trace_id for span in roots}) == len(samples)
    start = roots[0].start_time_unix_nano / 1e9 - samples[0].sent_at
    for span, sample in zip(roots, samples, strict=True):
        assert span.name == sample.journey
        begun = span.start_time_unix_nano - round(start) * 10**9
        assert begun / 1e9 == pytest.approx(sample.sent_at, abs=MOMENT)
        took = span.end_time_unix_nano - span.start_time_unix_nano
        assert took / 1e9 == pytest.approx(sample.latency_s, abs=MOMENT)
        assert (span.status.code == 2) is (sample.error is not None)
        assert span.status.message == (sample.error or "")
        told = attributes(span)
        assert told.get("http.response.status_code", 0) == sample.status
        stages = {f"replica_lab.stage.{name}_s": took for name, took in sample.stages.items()}
        assert {name: told[name] for name in stages} == stages


def _check_stages(found: list[Any], roots: list[Any], evidence: tuple[Any, ...]) -> None:
    records = {line.request: line for line in evidence if isinstance(line, UploadRecord)}
    requests = {span.trace_id: attributes(span).get("replica_lab.request") for span in roots}
    stages = defaultdict(list)
    services = {span.span_id: span.trace_id for span in found if span.name == "service"}
    for span in found:
        if span.parent_span_id in services:
            stages[requests[span.trace_id]].append(span)
    for request, record in records.items():
        told = stages[request]
        assert [span.name for span in told] == [span.stage for span in record.spans]
        for span, stage in zip(told, record.spans, strict=True):
            took = span.end_time_unix_nano - span.start_time_unix_nano
            assert took / 1e9 == pytest.approx(stage.took, abs=MOMENT)
    assert len(services) == len(records)


# The timeline.


def test_slices_of_a_track_lie_within_one_another_or_apart(
    run: RunFolder, results: Mapping[str, CellResult], tmp_path: Path
) -> None:
    data = json.loads(exported(run, "perfetto", tmp_path).read_text("ascii"))
    assert data["otherData"]["run"] == run.info.name
    events = data["traceEvents"]
    assert {event["ph"] for event in events} <= {"M", "X", "C"}
    tracks = defaultdict(list)
    for event in events:
        assert isinstance(event["name"], str)
        assert event["pid"] > 0
        if event["ph"] == "X":
            assert isinstance(event["ts"], int)
            assert event["dur"] >= 0
            tracks[event["pid"], event["tid"]].append(event)
        if event["ph"] == "C":
            assert all(isinstance(value, int | float) for value in event["args"].values())
    named = {(event["pid"], event["tid"]) for event in events if event["name"] == "thread_name"}
    assert named == set(tracks)
    for slices in tracks.values():
        open_until: list[int] = []
        for event in sorted(slices, key=lambda each: (each["ts"], -each["dur"])):
            while open_until and open_until[-1] <= event["ts"]:
                open_until.pop()
            assert not open_until or event["ts"] + event["dur"] <= open_until[-1]
            open_until.append(event["ts"] + event["dur"])
    _check_processes(events, results, run)


def _check_processes(
    events: list[dict[str, Any]], results: Mapping[str, CellResult], run: RunFolder
) -> None:
    processes = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    assert list(processes.values()) == [
        f"{cell} ({result.verdict}): {part}"
        for cell, result in results.items()
        for part in ("users", "workers")
    ]
    for number, cell in enumerate(results):
        seen = run.cell(cell).read_observation()
        of_users = [e for e in events if e["ph"] == "X" and e["pid"] == 2 * number + 1]
        assert len(of_users) == len(seen.samples)
        assert sum(e["dur"] for e in of_users) / 1e6 == pytest.approx(
            sum(sample.latency_s for sample in seen.samples), abs=len(of_users) * 2 * MOMENT
        )
        records = {r.request: r for r in seen.evidence if isinstance(r, UploadRecord)}
        of_workers = [e for e in events if e["ph"] == "X" and e["pid"] == 2 * number + 2]
        stages = sum(len(record.spans) for record in records.values())
        assert len(of_workers) == len(records) + stages


@pytest.mark.parametrize("name", ["junit", "openmetrics", "otlp", "perfetto"])
def test_the_same_run_is_exported_to_the_byte(run: RunFolder, tmp_path: Path, name: str) -> None:
    once = exported(run, name, tmp_path).read_bytes()
    assert exported(run, name, tmp_path).read_bytes() == once
