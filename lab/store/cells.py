"""One cell's folder, written in phases.

    begin ──> cell.json ──> samples.jsonl … ──> evidence.jsonl ──> verdict.json
              (unfinished)                      observed           finished

Each arrow is atomic, so a kill at any instant leaves the cell in one of these states. A finished
cell that is invalid is begun again, once what was measured is kept (`lab.store.attempts`).
Samples are the exception: the load appends them line by line, and a killed writer may
leave half a line, which reading drops.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from urllib.parse import quote, unquote

from pydantic import BaseModel, TypeAdapter, ValidationError

from lab.errors import LabError, StoreError
from lab.files import Folder, cell_folder
from lab.model.evidence import EVIDENCE, Audit, Beat, Evidence, Observation, Sample
from lab.model.experiment import Cell
from lab.model.extent import Extent
from lab.model.run import as_json
from lab.model.verdict import Outcome, Verdict
from lab.store.attempts import ATTEMPTS, Attempts
from lab.store.documents import read_document, read_lines
from lab.store.trial_files import (
    CELL,
    EVIDENCE_FILE,
    FILES,
    LOGS,
    READINGS,
    SAMPLES,
    VERDICT,
    foreign_files,
    is_log,
    own_files,
)

_SAMPLE: TypeAdapter[Sample | Beat] = TypeAdapter(Sample)
_BEAT: TypeAdapter[Sample | Beat] = TypeAdapter(Beat)
_MAX_LENGTH = 200


def folder_name(cell_id: str) -> str:
    """The name of a cell's folder: its id, with what a file name may not hold as ``%2F``.

    A name that the file system would refuse as too long is cut and set apart by a hash.
    """
    name = quote(cell_id, safe="=,+ ()")
    if name.startswith("."):
        name = "%2E" + name[1:]
    if len(name) <= _MAX_LENGTH:
        return name
    return f"{name[:_MAX_LENGTH]}~{hashlib.sha256(cell_id.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class CellFolder:
    """``cells/<id>/`` of a run."""

    path: Path

    @property
    def id(self) -> str:
        """The cell's id as the folder's name tells it; one that is too long for that is cut."""
        return unquote(self.path.name)

    @property
    def samples(self) -> Path:
        """A `Sample` a line, and `Beat` s between them; the load writes it."""
        return self.path / SAMPLES

    @property
    def evidence(self) -> Path:
        """An `Evidence` a line; there once the trial is whole."""
        return self.path / EVIDENCE_FILE

    @property
    def logs(self) -> Path:
        """A folder for the log of each part."""
        return self.path / LOGS

    @property
    def folder(self) -> Folder:
        """What reads and writes it."""
        return cell_folder(self.path)

    @property
    def attempts(self) -> Attempts:
        """What was measured before, and was invalid."""
        return Attempts(self.folder)

    def beside(self, cell_id: str) -> CellFolder:
        """The folder of another cell of the same run."""
        return CellFolder(self.path.parent / folder_name(cell_id))

    def finished(self) -> bool:
        """Whether the cell has its verdict.

        Raises:
            StoreError: something that is no file has the verdict's name.
        """
        return self.folder.has(VERDICT)

    def settled(self) -> bool:
        """Whether the cell has its last verdict: one that is not invalid.

        One that cannot be read is left to whoever reads it to tell.

        Raises:
            StoreError: something that is no file has the verdict's name.
        """
        if not self.finished():
            return False
        try:
            return self.read_verdict().outcome is not Outcome.INVALID
        except LabError:
            return True

    def wants_load(self) -> bool:
        """Whether it has to be measured: not where it is settled, or its evidence is unjudged."""
        return not (self.settled() or (self.observed() and not self.finished()))

    def observed(self) -> bool:
        """Whether the evidence is whole, its audit included: the cell can be judged.

        Raises:
            StoreError: something that is no file has its name.
        """
        if not self.folder.has(EVIDENCE_FILE):
            return False
        try:
            return isinstance(EVIDENCE.validate_json(self.folder.last_line(EVIDENCE_FILE)), Audit)
        except ValidationError:
            return False

    def check_whole(self) -> None:
        """See that evidence that was judged is still whole.

        Raises:
            StoreError: it is there, and does not end with its audit.
        """
        if self.finished() and self.folder.has(EVIDENCE_FILE) and not self.observed():
            raise StoreError(
                f"{self.evidence}: the file is damaged: it does not end with its audit",
                "restore the file from a copy, or remove it and verdict.json and run the cell"
                " again with --resume",
            )

    def declare(self, cell: Cell) -> None:
        """Write ``cell.json``, to know the cell from another of the same id."""
        self.folder.make()
        self.folder.write(CELL, _document(cell))

    def keep_attempt(self) -> None:
        """Keep an invalid attempt among the earlier ones, so that the next can begin.

        Raises:
            StoreError: the cell is not invalid, or `Attempts.keep` refused.
        """
        if self.settled() or not self.finished():
            raise self._finished()
        self.attempts.keep()

    def begin(self, cell: Cell) -> None:
        """Clear what an unfinished trial, or an attempt that is kept, left: ready for a new one.

        What the lab did not write stays.

        Raises:
            StoreError: the cell is finished, the folder cannot be written, or something stands in
                it that is neither a file nor a folder.
        """
        if self.finished() and not self.attempts.hold_current():
            raise self._finished()
        own, logs = self.folder, self.folder.below(LOGS)
        logs.make()
        left = own_files(own, FILES[1:].__contains__), own_files(logs, is_log)
        # Without its verdict an attempt can be judged again, and without its evidence no trial
        # looks observed: so they go first, and in this order.
        own.remove(VERDICT)
        own.remove(EVIDENCE_FILE)
        self.declare(cell)
        for folder, names in zip((own, logs), left, strict=True):
            for name in names:
                folder.remove(name)
        own.create(SAMPLES)

    def _finished(self) -> StoreError:
        return StoreError(
            f"{self.path}: the cell is finished and is not measured again", "start a new run"
        )

    def foreign(self) -> list[Path]:
        """What is in the folder, among its logs or its attempts, and is not the lab's."""
        return foreign_files(self.folder, ATTEMPTS) + self.attempts.foreign()

    def write_evidence(self, lines: Iterable[Evidence]) -> None:
        """Store all evidence at once, after making the samples durable; the audit comes last.

        Raises:
            StoreError: the file system refused; the cell stays unobserved.
        """
        self.folder.sync(SAMPLES)
        data = (line.model_dump(mode="json") for line in lines)
        texts = (json.dumps(line, ensure_ascii=False, allow_nan=False) for line in data)
        self.folder.write(EVIDENCE_FILE, (f"{text}\n".encode() for text in texts))

    def read_cell(self) -> Cell:
        """The cell as it was when its trial began.

        Raises:
            StoreError: it cannot be read, is damaged, or is another cell's.
        """
        cell = read_document(self.folder, CELL, Cell)
        if folder_name(cell.id) != self.path.name:
            raise StoreError(
                f"{self.path / CELL}: the file is damaged: it is of the cell {cell.id}",
                "restore the file from a copy, or run the experiment again",
            )
        return cell

    def read_observation(self) -> Observation:
        """Samples and evidence; the half line of a killed writer is dropped from the samples.

        Raises:
            StoreError: a file is missing or damaged otherwise, which it also is where no trial of
                this cell can have written it; names file and line.
        """
        extent = Extent(self.read_cell())
        lines = list(
            read_lines(
                self.folder, SAMPLES, _line_of_load, extent.no_line_of_load(), may_be_cut=True
            )
        )
        samples = tuple(line for line in lines if isinstance(line, Sample))
        no_evidence = extent.no_evidence(len(samples))
        read = EVIDENCE.validate_json
        return Observation(
            samples=samples,
            evidence=tuple(read_lines(self.folder, EVIDENCE_FILE, read, no_evidence)),
            beats=tuple(line.beat for line in lines if isinstance(line, Beat)),
        )

    def note_replica(self, readings: Path) -> None:
        """Say in which folder the replica's parts write their readings during this trial.

        For who watches; it need not survive a crash.
        """
        text = json.dumps({"readings": str(readings.absolute())})
        self.folder.below(LOGS).keep(READINGS, BytesIO(text.encode()))

    def finish(self, verdict: Verdict) -> None:
        """Store the verdict: the cell is finished; an older verdict is replaced."""
        self.folder.write(VERDICT, _document(verdict))

    def read_verdict(self) -> Verdict:
        """The stored verdict."""
        return read_document(self.folder, VERDICT, Verdict)


def _document(model: BaseModel) -> list[bytes]:
    return [as_json(model).encode()]


def _line_of_load(raw: bytes) -> Sample | Beat:
    """What the load wrote: by its own first key, so that an error names its kind."""
    return (_BEAT if raw.startswith(b'{"beat"') else _SAMPLE).validate_json(raw)
