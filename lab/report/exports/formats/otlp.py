"""OpenTelemetry: each upload is a trace, with its stages as spans; OTLP as JSON, a request a line.

A line is what an OTLP exporter posts to ``/v1/traces``, and what the collector's
``otlpjsonfile`` receiver reads (OTLP 1.x: ids in hexadecimal, times in ns as text, enumerations as
numbers). Ids follow from run, cell and upload, so that the same run is the same traces each time.
Which moments these are says `lab.report.exports.clock`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from lab import __version__
from lab.report.exports.clock import TimedCell, timed
from lab.report.exports.run import ExportedRun, Format
from lab.report.exports.spans import SeenUpload, seen_uploads

BATCH = 500
"""Spans of a request, beyond which the next begins; an upload's are never parted."""

INTERNAL, SERVER, CLIENT = 1, 2, 3
"""Kinds of spans."""

ERROR = 2
"""The status of a span that failed."""

Span = dict[str, Any]


def batches(run: ExportedRun) -> Iterator[tuple[bytes, int]]:
    """Requests, and how many spans each has: of one cell, no more than fit."""
    for one in timed(run):
        resource = _resource(run, one)
        waiting: list[Span] = []
        for upload in seen_uploads(one.cell.observe()):
            waiting += _spans(run, one, upload)
            if len(waiting) >= BATCH:
                yield _request(resource, waiting), len(waiting)
                waiting = []
        if waiting:
            yield _request(resource, waiting), len(waiting)


def written(run: ExportedRun) -> Iterator[bytes]:
    """The file: a request a line."""
    for body, _ in batches(run):
        yield body + b"\n"


def _request(resource: dict[str, Any], spans: list[Span]) -> bytes:
    scope = {"name": "replica-lab", "version": __version__}
    request = {
        "resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": scope, "spans": spans}]}]
    }
    return json.dumps(request, separators=(",", ":")).encode()


def _resource(run: ExportedRun, one: TimedCell) -> dict[str, Any]:
    result = one.cell.result
    told = {
        "service.name": "replica-lab",
        "replica_lab.experiment": run.info.experiment.experiment,
        "replica_lab.run": run.info.name,
        "replica_lab.cell": result.id,
        "replica_lab.verdict": str(result.verdict),
        "replica_lab.stack": run.info.stack,
        "replica_lab.speed": one.cell.cell.knobs.speed,
        **{f"replica_lab.axis.{name}": value for name, value in result.axes.items()},
    }
    return {"attributes": _attributes(told)}


def _attributes(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"key": name, "value": _value(value)} for name, value in values.items() if value is not None
    ]


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}  # 64 bits are text in JSON
    return {"doubleValue": value} if isinstance(value, float) else {"stringValue": str(value)}


def _spans(run: ExportedRun, one: TimedCell, upload: SeenUpload) -> Iterator[Span]:
    """The user's span, then those of the worker below it."""
    sample, cell_id = upload.sample, one.cell.result.id
    trace = _id(16, run.info.name, cell_id, upload.number)
    root = _id(8, trace, "root")

    def span(
        name: str, kind: int, begun: float, took: float, span_id: str, parent: str = ""
    ) -> Span:
        start = one.start * 10**9 + round(begun * 10**6) * 1000
        made = {"traceId": trace, "spanId": span_id, "name": name, "kind": kind}
        made |= {"parentSpanId": parent} if parent else {}
        times = start, start + round(took * 10**6) * 1000
        names = "startTimeUnixNano", "endTimeUnixNano"
        return made | {name: str(max(0, t)) for name, t in zip(names, times, strict=True)}

    told = {
        "http.response.status_code": sample.status or None,
        "error.type": sample.error and str(sample.error),
        "replica_lab.request": sample.request,
        "replica_lab.user": sample.user,
        "replica_lab.bytes": sample.bytes,
        "replica_lab.worker": sample.worker,
        "replica_lab.load_stage": sample.stage,
        "replica_lab.late_s": sample.sent_at - sample.planned_at,
        **{f"replica_lab.stage.{name}_s": took for name, took in sample.stages.items()},
    }
    first = span(str(sample.journey), CLIENT, sample.sent_at, sample.latency_s, root)
    first["attributes"] = _attributes(told)
    if sample.error:
        first["status"] = {"code": ERROR, "message": str(sample.error)}
    yield first
    if (waited := upload.accept_wait) is not None:
        yield span(*_named(waited.stage), waited.begun, waited.took, _id(8, trace, "accept"), root)
    if upload.service is None or upload.record is None:
        return
    service, record = upload.service, upload.record
    service_id = _id(8, trace, "service")
    served = span("service", SERVER, service.begun, service.took, service_id, root)
    served["attributes"] = _attributes({"replica_lab.worker": record.worker})
    if record.cause:
        served["status"] = {"code": ERROR, "message": record.cause}
    yield served
    for number, (stage, begun, took) in enumerate(upload.stages):
        yield span(*_named(stage), begun, took, _id(8, trace, stage, number), service_id)


def _named(stage: str) -> tuple[str, int]:
    return stage, INTERNAL


def _id(size: int, *parts: object) -> str:
    """An id of so many bytes, in hexadecimal; never all zeros, which means none."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode(errors="surrogatepass")).digest()
    return (digest[: size - 1] + b"\x01").hex()


FORMAT = Format(
    "each upload as a trace with its stages, for an OpenTelemetry collector",
    {"traces.jsonl": written},
    batches,
)
