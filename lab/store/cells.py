"""One cell's folder, written in phases.

    begin ──> cell.json ──> samples.jsonl … ──> evidence.jsonl ──> verdict.json
              (unfinished)                      observed           finished

Each arrow is atomic, so a kill at any instant leaves the cell in one of these states.
Samples are the exception: the load appends them line by line, and a killed writer may
leave half a line, which reading drops.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from pydantic import BaseModel, TypeAdapter, ValidationError

from lab.errors import StoreError
from lab.model.evidence import EVIDENCE, Audit, Beat, Evidence, Observation, Sample
from lab.model.experiment import Cell
from lab.model.run import as_json
from lab.model.verdict import Verdict
from lab.store.files import (
    problem_of,
    read_bytes,
    read_document,
    storing,
    sync_folder,
    write_atomic,
)

T = TypeVar("T")

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
    def samples(self) -> Path:
        """A `Sample` a line, and `Beat` s between them; the load writes it."""
        return self.path / "samples.jsonl"

    @property
    def evidence(self) -> Path:
        """An `Evidence` a line; there once the trial is whole."""
        return self.path / "evidence.jsonl"

    @property
    def logs(self) -> Path:
        """A folder for the log of each part."""
        return self.path / "logs"

    @property
    def _verdict(self) -> Path:
        return self.path / "verdict.json"

    def finished(self) -> bool:
        """Whether the cell has its verdict."""
        return self._verdict.is_file()

    def observed(self) -> bool:
        """Whether the evidence is whole, its audit included: the cell can be judged."""
        if not self.evidence.is_file():
            return False
        last = read_bytes(self.evidence).rstrip(b"\n").rpartition(b"\n")[2]
        try:
            return isinstance(EVIDENCE.validate_json(last), Audit)
        except ValidationError:
            return False

    def declare(self, cell: Cell) -> None:
        """Write ``cell.json``, to know the cell from another of the same id."""
        with storing(self.path.parent, f"make {self.path.name}"):
            self.path.mkdir(parents=True, exist_ok=True)
        write_atomic(self.path / "cell.json", _document(cell))

    def begin(self, cell: Cell) -> None:
        """Clear what an unfinished trial left and make ready for a new one.

        Raises:
            StoreError: the cell is finished, or the folder cannot be written.
        """
        if self.finished():
            raise StoreError(
                f"{self.path}: the cell is finished and is not measured again", "start a new run"
            )
        self.declare(cell)
        with storing(self.path, "clear what an unfinished trial left"):
            # The evidence goes first: without it, a half-removed trial cannot look observed.
            self.evidence.unlink(missing_ok=True)
            sync_folder(self.path)
            for entry in sorted(self.path.iterdir()):
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                elif entry.name != "cell.json":
                    entry.unlink()
            self.samples.touch()
            self.logs.mkdir()

    def write_evidence(self, lines: Iterable[Evidence]) -> None:
        """Store all evidence at once, after making the samples durable; the audit comes last.

        Raises:
            StoreError: the file system refused; the cell stays unobserved.
        """
        with storing(self.path, "make samples.jsonl durable"), self.samples.open("rb") as file:
            os.fsync(file.fileno())
        data = (line.model_dump(mode="json") for line in lines)
        texts = (json.dumps(line, ensure_ascii=False, allow_nan=False) for line in data)
        write_atomic(self.evidence, (f"{text}\n".encode() for text in texts))

    def read_cell(self) -> Cell:
        """The cell as it was when its trial began."""
        return read_document(self.path / "cell.json", Cell)

    def read_observation(self) -> Observation:
        """Samples and evidence; the half line of a killed writer is dropped from the samples.

        Raises:
            StoreError: a file is missing or damaged otherwise; names file and line.
        """
        lines = list(_lines(self.samples, _of_the_load, may_be_cut=True))
        return Observation(
            samples=tuple(line for line in lines if isinstance(line, Sample)),
            evidence=tuple(_lines(self.evidence, lambda _: EVIDENCE, may_be_cut=False)),
            beats=tuple(line.beat for line in lines if isinstance(line, Beat)),
        )

    def finish(self, verdict: Verdict) -> None:
        """Store the verdict: the cell is finished; an older verdict is replaced."""
        write_atomic(self._verdict, _document(verdict))

    def read_verdict(self) -> Verdict:
        """The stored verdict."""
        return read_document(self._verdict, Verdict)


def _document(model: BaseModel) -> list[bytes]:
    return [as_json(model).encode()]


def _of_the_load(line: bytes) -> TypeAdapter[Sample | Beat]:
    """What a line of the load's must be: by its own first key, so that an error names its kind."""
    return _BEAT if line.startswith(b'{"beat"') else _SAMPLE


def _lines(
    path: Path, adapter: Callable[[bytes], TypeAdapter[T]], *, may_be_cut: bool
) -> Iterator[T]:
    *whole, rest = read_bytes(path).split(b"\n")
    for number, raw in enumerate([*whole, rest] if rest else whole, start=1):
        try:
            yield adapter(raw).validate_json(raw)
        except ValidationError as error:
            if may_be_cut and number > len(whole):
                return
            raise StoreError(
                f"{path}:{number}: the line is damaged: {problem_of(error)}",
                "remove the cell's evidence.jsonl and verdict.json and run it again with --resume",
            ) from error
