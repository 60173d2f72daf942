"""A timeline to zoom, for https://ui.perfetto.dev: Chrome's JSON trace format.

A cell is two processes. The first has a track a user, with its uploads, and counters of the cell
over time; the second has the tracks of each worker, on which every upload that it had at once has a
place of its own, with its stages below it. Slices on one track never overlap but to be one within
the other, as the format asks for. Times are µs after the run's start; which moments these are says
`lab.report.exports.clock`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from lab.model.verdict import Series
from lab.report.exports.clock import TimedCell, run_start, timed
from lab.report.exports.formats.openmetrics import SERIES
from lab.report.exports.run import ExportedRun, Format
from lab.report.exports.spans import SeenUpload, seen_uploads

Event = dict[str, Any]


class Lanes:
    """Tracks of a process, by whose they are: a slice gets the first on which nothing else is."""

    def __init__(self) -> None:
        self._ends: dict[object, list[tuple[int, int]]] = defaultdict(list)
        self._count = 0

    def place(self, whose: object, start: int, end: int) -> tuple[int, int]:
        """A track for a slice; slices have to come by their start.

        Returns:
            its number, and which of its owner's it is, from 0.
        """
        lanes = self._ends[whose]
        for which, (track, free_at) in enumerate(lanes):
            if free_at <= start:
                lanes[which] = track, end
                return track, which
        self._count += 1
        lanes.append((self._count, end))
        return self._count, len(lanes) - 1


def written(run: ExportedRun) -> Iterator[bytes]:
    """The document, some events at a time."""
    yield b'{"displayTimeUnit":"ms","traceEvents":[\n'
    first = True
    for number, one in enumerate(timed(run)):
        for event in _events(run, number, one):
            yield (b"" if first else b",\n") + json.dumps(event, separators=(",", ":")).encode()
            first = False
    other = {"run": run.info.name, "experiment": run.info.experiment.experiment}
    yield b'\n],"otherData":' + json.dumps(other).encode() + b"}\n"


def _events(run: ExportedRun, number: int, one: TimedCell) -> Iterator[Event]:
    result = one.cell.result
    offset = (one.start - run_start(run)) * 10**6
    users, workers = 2 * number + 1, 2 * number + 2
    name = f"{result.id} ({result.verdict})"
    yield from _process(users, f"{name}: users")
    yield from _process(workers, f"{name}: workers")
    course = result.course
    if course and course.series:
        yield from _counters(users, offset, course.series)
    seen = list(seen_uploads(one.cell.observe()))
    yield from _of_users(users, offset, seen)
    yield from _of_workers(workers, offset, seen)


def _process(pid: int, name: str) -> Iterator[Event]:
    yield _named("process_name", pid, 0, name)
    yield {
        "ph": "M",
        "name": "process_sort_index",
        "pid": pid,
        "tid": 0,
        "args": {"sort_index": pid},
    }


def _named(what: str, pid: int, tid: int, name: str) -> Event:
    return {"ph": "M", "name": what, "pid": pid, "tid": tid, "args": {"name": name}}


def _counters(pid: int, offset: int, series: Series) -> Iterator[Event]:
    """What the cell was like over time, at the start of each bin."""
    for name in SERIES:
        for number, value in enumerate(getattr(series, name)):
            if value is not None:
                ts = offset + _us(series.start + number * series.bin_s)
                event = {"ph": "C", "name": name, "pid": pid, "tid": 0, "ts": ts}
                yield {**event, "args": {name: value}}


def _of_users(pid: int, offset: int, seen: list[SeenUpload]) -> Iterator[Event]:
    lanes, named = Lanes(), set[int]()
    for upload in sorted(seen, key=lambda each: each.sample.sent_at):
        sample = upload.sample
        start, end = _us(sample.sent_at), _us(upload.end)
        tid, which = lanes.place(sample.user, start, end)
        if tid not in named:
            named.add(tid)
            yield _named("thread_name", pid, tid, _track(f"user {sample.user}", which))
        told = {
            "status": sample.status,
            "error": sample.error and str(sample.error),
            "bytes": sample.bytes,
            "request": sample.request,
            **{f"{stage}_s": took for stage, took in sample.stages.items()},
        }
        title = f"{sample.journey}: {sample.error}" if sample.error else str(sample.journey)
        yield _slice(title, pid, tid, (offset + start, end - start), told)


def _of_workers(pid: int, offset: int, seen: list[SeenUpload]) -> Iterator[Event]:
    lanes, named = Lanes(), set[int]()
    served = [(each, each.record) for each in seen if each.record]
    for upload, record in sorted(served, key=lambda pair: pair[1].arrived):
        start, end = _us(record.arrived), max(_us(record.t), _us(record.arrived))
        tid, which = lanes.place(record.worker, start, end)
        if tid not in named:
            named.add(tid)
            yield _named("thread_name", pid, tid, _track(f"worker {record.worker}", which))
        title = f"{record.journey}: {record.cause}" if record.cause else str(record.journey)
        told = {"status": record.status, "request": record.request}
        yield _slice(title, pid, tid, (offset + start, end - start), told)
        last = start
        for stage, begun, took in upload.stages:
            # Moments are kept to the ms and durations to the µs, so that neighbours may overlap.
            begin = min(max(_us(begun), last), end)
            last = min(max(_us(begun + took), begin), end)
            yield _slice(stage, pid, tid, (offset + begin, last - begin), {"took_s": took})


def _track(owner: str, which: int) -> str:
    return f"{owner} ({which + 1})" if which else owner


def _slice(name: str, pid: int, tid: int, times: tuple[int, int], args: dict[str, Any]) -> Event:
    ts, dur = times
    told = {key: value for key, value in args.items() if value is not None}
    return {"ph": "X", "name": name, "pid": pid, "tid": tid, "ts": ts, "dur": dur, "args": told}


def _us(seconds: float) -> int:
    return round(seconds * 10**6)


FORMAT = Format("a timeline to zoom, for ui.perfetto.dev", {"trace.json": written})
