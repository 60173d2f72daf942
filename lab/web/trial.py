"""The trial that goes on in a cell's folder, read on a look at a time.

samples.jsonl               what users saw; half a line is left for the next look
logs/generator.plan.json    the load is about to begin
logs/generator.status.json  when it began, what was sent, whether it is over
logs/readings.json          where the workers write their readings, which are read on likewise
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lab.errors import LabError
from lab.files import logs_folder
from lab.model.experiment import Cell
from lab.model.load import end_of, shortened
from lab.model.run import Phase, phase_at
from lab.store import CellFolder
from lab.store.trial_files import CELL, EVIDENCE_FILE, PLAN, READINGS, SAMPLES, STATUS
from lab.web.growing import GATEWAY_LOG, GrowingFile, Readings
from lab.web.stored import HOSTILE, add_lines
from lab.web.track import Frame, Track

LOST_S = 3.0
"""Wall seconds after its last answer could come in which the generator says that it is over."""


class TrialReader:
    """A trial that goes on.

    Args:
        folder: the cell's.
        now: the monotonic clock that the load generator tells its start by.

    Attributes:
        cell: as it is measured.
        track: what is known of the trial.
        phase: what goes on, by which files there are.

    Raises:
        LabError: the cell cannot be read.
    """

    def __init__(self, folder: CellFolder, now: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._now = folder, now
        self._logs = logs_folder(folder.logs)
        self._declared_at = 0
        self.phase: Phase = "applying"
        self._begin(folder.read_cell())

    def _begin(self, cell: Cell) -> None:
        self.cell, self.track = cell, Track(cell)
        self._samples = GrowingFile(self._folder.folder, SAMPLES)
        self._readings: Readings | None = None
        self._status: dict[str, Any] = {}

    def look(self) -> None:
        """Read on.

        Raises:
            LabError: the cell's folder cannot be read.
        """
        states = self._folder.folder.states()
        if (told := states.get(CELL)) and told.st_mtime_ns != self._declared_at:
            self._declared_at = told.st_mtime_ns
            self._begin(self._folder.read_cell())
        if (samples := states.get(SAMPLES)) is None:
            return
        if self._samples.exchanged(samples):
            self._begin(self.cell)
            self._samples.exchanged(samples)
        logs = self._logs.states()
        self._status = self._document(STATUS) if STATUS in logs else {}
        self.phase = self._phase_by(states, logs)
        if samples.st_size > self._samples.offset:
            add_lines(self.track, self._samples.added(), self.track.add_load)
        if self._started is not None and READINGS in logs:
            self._read_replica(self._started)

    def frame(self) -> Frame | None:
        """How the trial stands; None before its load has begun. It ends with the last answer."""
        if self._started is None:
            return None
        t = max(0.0, (self._now() - self._started) * self.cell.knobs.speed)
        t = min(t, self.track.end) if self._status.get("done") else t
        sent = self._status.get("sent")
        return self.track.frame(t, sent if isinstance(sent, int) else None)

    @property
    def _started(self) -> float | None:
        told = self._status.get("t0")
        return float(told) if isinstance(told, int | float) else None

    def _phase_by(self, states: Mapping[str, object], logs: Mapping[str, object]) -> Phase:
        if EVIDENCE_FILE in states:
            return "judging"
        if self._started is None:
            return "arming" if PLAN in logs else "applying"
        ended, load, speed = self._status.get("ended_at"), self.cell.load, self.cell.knobs.speed
        load = shortened(load, float(ended)) if isinstance(ended, int | float) else load
        t = (self._now() - self._started) * speed
        over = self._status.get("done") or t > end_of(load) + load.followed_s + LOST_S * speed
        return "auditing" if over else phase_at(load, t)

    def _read_replica(self, t0: float) -> None:
        if self._readings is None:
            told = self._document(READINGS).get("readings")
            if not isinstance(told, str):
                return
            self._readings = Readings(Path(told))
        speed, track = self.cell.knobs.speed, self.track

        def add_worker(line: Mapping[str, Any]) -> None:
            track.add_worker((float(line["at"]) - t0) * speed, line)

        def add_gateway(line: Mapping[str, Any]) -> None:
            if line["event"] == "reading":
                track.add_gateway((float(line["at"]) - t0) * speed, line)

        for name, lines in self._readings.added():
            add_lines(track, lines, add_gateway if name == GATEWAY_LOG else add_worker)

    def _document(self, name: str) -> dict[str, Any]:
        """A small document among the logs; empty where it is gone, or is none."""
        with suppress(LabError, *HOSTILE):
            told = json.loads(self._logs.read(name))
            return told if isinstance(told, dict) else {}
        return {}
