"""A run as it is while a lab measures it, step by step, without a replica: for who looks on."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from lab.files import logs_folder
from lab.model.experiment import Cell
from lab.model.verdict import Verdict
from lab.store import CellFolder, RunFolder
from lab.store.trial_files import PLAN, STATUS
from tests.fakes import sample_run

STOOD = "services/audio_upload.py:96 upload_from_string"


class LiveTrial:
    """A cell that is measured: each method is a step of the lab's, or of one of the parts.

    Args:
        run: of which it is.
        cell: which.
        replica: a folder for the workers' readings.
    """

    def __init__(self, run: RunFolder, cell: Cell, replica: Path) -> None:
        self.cell, self.replica = cell, replica
        self.t0 = 0.0
        self.folder: CellFolder = run.begin(cell)
        replica.mkdir(parents=True, exist_ok=True)
        self.folder.note_replica(replica)

    def inject(self) -> None:
        """Faults are injected, and the generator is told what to offer."""
        self._log(PLAN, {})

    def start(self, at: float = 0.0) -> None:
        """The load began ``at`` real-world seconds ago."""
        self.t0 = time.monotonic() - at / self.cell.knobs.speed
        self.status()

    def status(self, sent: int = 0, *, done: bool = False, ended_at: float | None = None) -> None:
        """What the generator says of itself."""
        told = {"t0": self.t0, "sent": sent, "done": done, "ended_at": ended_at}
        self._log(STATUS, told)

    def answer(
        self, sent_at: float, latency_s: float = 3.7, error: str | None = None, worker: int = 7
    ) -> None:
        """An upload has ended."""
        sample = sample_run.samples(1)[0].model_dump(mode="json")
        told = {"sent_at": sent_at, "latency_s": latency_s, "error": error, "worker": worker}
        self.write(json.dumps({**sample, **told, "planned_at": sent_at}) + "\n")

    def write(self, text: str) -> None:
        """Append to the samples, whatever it is."""
        with self.folder.samples.open("a") as file:
            file.write(text)

    def reading(self, at: float, pid: int = 7, **more: Any) -> None:
        """A worker's reading at ``at`` real-world seconds."""
        moment = self.t0 + at / self.cell.knobs.speed
        told = {"at": moment, "pid": pid, **more}
        with (self.replica / f"worker-{pid}.jsonl").open("a") as file:
            file.write(json.dumps(told) + "\n")

    def observe(self) -> None:
        """The evidence is on disk."""
        self.folder.write_evidence(sample_run.evidence())

    def judge(self, verdict: Verdict | None = None) -> None:
        """The verdict is, too."""
        self.folder.finish(verdict or sample_run.verdict(self.cell))

    def _log(self, name: str, told: dict[str, Any]) -> None:
        logs_folder(self.folder.logs).keep(name, BytesIO(json.dumps(told).encode()))


@contextmanager
def going_on(results: Path) -> Iterator[RunFolder]:
    """A run of twelve cells that this process writes."""
    run = sample_run.create(results)
    with run.lock():
        yield run
