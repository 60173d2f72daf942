"""A trial as it is stored, as a track: what a replay, and the page of a finished cell, show."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lab.store import CellFolder
from lab.store.documents import HOSTILE as DAMAGE
from lab.store.trial_files import EVIDENCE_FILE, SAMPLES
from lab.web.track import Track

HOSTILE = (*DAMAGE, KeyError, TypeError, AttributeError)
"""What Python raises of a line that is not what it should be."""

Add = Callable[[Mapping[str, Any]], None]


def add_lines(track: Track, lines: Iterable[bytes], add: Add) -> None:
    """Add each line; one that is damaged is counted, and the next goes on."""
    for raw in lines:
        try:
            add(json.loads(raw))
        except HOSTILE:
            track.unread += 1


def stored_track(folder: CellFolder) -> Track:
    """All that is stored of a cell's trial.

    Raises:
        StoreError: its cell, or a file, cannot be read.
        UsageError: a later lab wrote it.
    """
    track = Track(folder.read_cell())
    has = folder.folder.has
    if has(SAMPLES):
        add_lines(track, _whole(folder.folder.lines(SAMPLES)), track.add_load)
    if has(EVIDENCE_FILE):
        kinds = _kinds(track)
        for raw in folder.folder.lines(EVIDENCE_FILE):
            if add := kinds.get(raw.partition(b",")[0]):
                add_lines(track, (raw,), add)
    return track


def last_moment(raw: bytes) -> float:
    """When what a line of the load's tells of was over; 0 of half a line."""
    try:
        line = json.loads(raw)
    except ValueError:
        return 0.0
    return float(line["beat"] if "beat" in line else line["sent_at"] + line["latency_s"])


def _whole(lines: Iterable[bytes]) -> Iterable[bytes]:
    """Without the half line of a killed writer, which is no damage."""
    return (raw for raw in lines if raw.endswith(b"\n"))


def _kinds(track: Track) -> dict[bytes, Add]:
    """What is read of the evidence, by how its lines begin: the kind is their first key."""
    return {
        b'{"kind": "worker"': lambda line: track.add_worker(float(line["t"]), line),
        b'{"kind": "database"': lambda line: track.add_connections(
            float(line["t"]), line["connections"]
        ),
        b'{"kind": "front"': lambda line: track.add_gateway(float(line["t"]), line),
    }
