"""The folder of a run: made whole, resumed only with the same cells, summed up from its cells.

results/<UTC>-<experiment>-<digest>/
    run.json            decided before the first cell; a folder without it is not a run
    cells/<cell id>/    see `lab.store.cells`; cell.json of every cell is there from the start
    summary.json        rewritten after each cell; rebuilt from the cells, never trusted
    threshold.json      in its place where thresholds are searched; the trials are cells, too
    why.json            in its place where limits are diagnosed; so are its trials
    refused.json        the trials of a diagnosis that the stack cannot make
    report.html, report.md
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from lab.errors import LabError, StoreError, UsageError
from lab.files import LOCK, RUN_DEPTH, Folder, storing
from lab.model.capacity import Thresholds
from lab.model.diagnosis import Diagnoses, Refusals
from lab.model.experiment import Cell
from lab.model.run import (
    AttemptResult,
    CellResult,
    DamagedCell,
    RunInfo,
    RunRequest,
    Summary,
    as_json,
)
from lab.model.speed import AUTO
from lab.store.cells import CellFolder, folder_name
from lab.store.documents import read_document
from lab.store.trial_files import FILES

LATEST = "latest"
INFO = "run.json"
SUMMARY = "summary.json"
THRESHOLDS = "threshold.json"
CELLS = "cells"
PAGES = ("report.html", "report.md")

DIAGNOSES, REFUSALS = "why.json", "refused.json"

DOCUMENTS = (INFO, SUMMARY, THRESHOLDS, DIAGNOSES, REFUSALS, *PAGES)
"""The lab's files in a run folder, beside its lock."""

MAX_PHRASES = 3
"""That a message about differences holds."""


Item = TypeVar("Item")


class Walk(NamedTuple, Generic[Item]):
    """What is told of a run's cells, the ids of those of which nothing is yet, and the damaged."""

    told: tuple[Item, ...]
    missing: tuple[str, ...]
    damaged: tuple[DamagedCell, ...]


@dataclass(frozen=True)
class RunFolder:
    """A run on disk: where it is, and what was decided before its first cell."""

    path: Path
    info: RunInfo

    @classmethod
    def create(cls, results: Path, cells: Sequence[Cell], request: RunRequest) -> RunFolder:
        """Make a new run of these cells under ``results`` and point ``latest`` to it.

        A folder that could not be made whole is removed.

        Raises:
            StoreError: the results folder cannot be written, or holds a ``latest`` that the lab
                did not make.
        """
        started, key = re.sub("[-:]", "", request.started), digest(cells)
        path = _claim(results, f"{started}-{request.experiment.experiment}-{key[:8]}")
        ids = tuple(cell.id for cell in cells)
        run = cls(path, RunInfo(**dict(request), name=path.name, digest=key, cells=ids))
        try:
            for cell in cells:
                run.cell(cell.id).declare(cell)
            run.write_text(INFO, as_json(run.info))
        except BaseException:
            with suppress(OSError):
                shutil.rmtree(path)
            raise
        Folder(results).point_link(LATEST, path.name)
        return run

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """A stored run.

        Raises:
            UsageError: the folder is not a run folder, or a later lab wrote it.
            StoreError: it cannot be read, or is damaged.
        """
        with storing(path, "open it"):
            is_run = path.is_dir() and Folder(path).has(INFO)
        if not is_run:
            raise UsageError(
                f"{path} is not a run folder (it holds no {INFO})", "`lab runs` lists the runs"
            )
        if path.is_symlink() or path.name in ("", ".."):
            path = path.resolve()  # from here on its name is the lab's, and no link may be there
        return cls(path, read_document(Folder(path, RUN_DEPTH), INFO, RunInfo))

    def allowing(self, max_load: float | None, within: float | None) -> RunFolder:
        """The run with other limits of each cell's search; stored.

        Args:
            max_load: real-world seconds of load; None: as before.
            within: how wide an answer may be, as a share of the users; None: as before.

        Raises:
            StoreError: it cannot be written.
        """
        limits = {"max_load": max_load, "within": within}
        given = {name: limit for name, limit in limits.items() if limit is not None}
        info = self.info.model_copy(update=given)
        self.write_text(INFO, as_json(info))
        return RunFolder(self.path, info)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for writing while the block runs, and clear what killed writers left.

        Raises:
            StoreError: another process is writing it, or a link or the like is in place of its
                lock or its cells.
        """
        with self.folder.locked():
            self.folder.clear_temporaries(DOCUMENTS)
            for cell in self.cell_folders():
                cell.folder.clear_temporaries(FILES)
            yield

    def check_idle(self) -> None:
        """See that nobody is measuring or judging the run.

        Raises:
            StoreError: somebody is.
        """
        with storing(self.path, "look for its writer"), suppress(FileNotFoundError):
            handle = os.open(self.path / LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                what = f"{self.path}: another process is writing this run"
                raise StoreError(what, "wait until it ends, or stop it") from None
            finally:
                os.close(handle)

    @property
    def folder(self) -> Folder:
        """What reads and writes the run's own files."""
        return Folder(self.path, RUN_DEPTH)

    def cell_folders(self) -> list[CellFolder]:
        """The folders of all cells and trials, by name; what else is beside them is not told.

        Raises:
            StoreError: something that is no folder is in place of them all.
        """
        if CELLS not in self.folder.entries():
            return []
        entries = self.folder.below(CELLS).entries()
        return [
            CellFolder(self.path / CELLS / name)
            for name, mode in entries.items()
            if stat.S_ISDIR(mode)
        ]

    def undeclared(self) -> list[CellFolder]:
        """The folders of the trials that a search or a diagnosis made beside its cells, by name.

        Raises:
            StoreError: as `cell_folders`.
        """
        declared = {self.cell(cell_id).path for cell_id in self.info.cells}
        return [folder for folder in self.cell_folders() if folder.path not in declared]

    def foreign(self) -> list[Path]:
        """What is in the folder and is not the lab's: the lab leaves it as it is.

        Raises:
            StoreError: a folder cannot be read.
        """
        names = {*DOCUMENTS, LOCK, CELLS}
        found = [self.path / name for name in self.folder.entries() if name not in names]
        cells = self.cell_folders()
        for cell in cells:
            found += cell.foreign()
        own = {cell.path.name for cell in cells}
        beside = self.folder.below(CELLS).entries() if cells else ()
        return found + [self.path / CELLS / name for name in beside if name not in own]

    def cell(self, cell_id: str) -> CellFolder:
        """The folder of a cell."""
        return CellFolder(self.path / CELLS / folder_name(cell_id))

    def begin(self, cell: Cell) -> CellFolder:
        """The folder of a cell, ready for a new trial: see `CellFolder.begin`.

        Raises:
            StoreError: the cell is finished, or the folder cannot be written.
        """
        folder = self.cell(cell.id)
        folder.begin(cell)
        return folder

    def cells(self) -> tuple[Cell, ...]:
        """All cells of the run, finished or not, in order; enough to resume without the spec."""
        return tuple(self.cell(cell_id).read_cell() for cell_id in self.info.cells)

    def check_same(self, cells: Sequence[Cell]) -> None:
        """Hold the cells that are asked for against those of the run, before it is resumed.

        Raises:
            UsageError: they differ; the message names the differences.
        """
        if digest(cells) == self.info.digest:
            return
        raise UsageError(
            f"{self.info.name} was made of other cells: {differences(self.cells(), cells)}",
            "resume it with the spec and options it began with, or start a new run",
        )

    def summary(self, damaged: Sequence[DamagedCell] = ()) -> Summary:
        """The finished cells in the run's order, the damaged ones, and the ids of the others.

        Args:
            damaged: cells that are known to be damaged, whatever their verdicts say.
        """

        def read(cell_id: str) -> CellResult | None:
            return self.result(cell_id) if self.cell(cell_id).finished() else None

        found = self.walk(read, damaged)
        return Summary(
            **self.info.header, cells=found.told, missing=found.missing, damaged=found.damaged
        )

    def walk(
        self, read: Callable[[str], Item | None], damaged: Sequence[DamagedCell] = ()
    ) -> Walk[Item]:
        """What is read of each cell, in the run's order; a damaged one keeps no other from it.

        Args:
            read: what is to be told of a cell, by its id; None where there is nothing yet.
            damaged: cells, and trials of cells, that are known to be damaged; they are not read.
        """
        apart = {cell.id: cell for cell in damaged}
        told, missing = list[Item](), list[str]()
        for cell_id in self.info.cells:
            if any(known == cell_id or known.startswith(f"{cell_id},") for known in apart):
                continue
            try:
                item = read(cell_id)
            except LabError as error:
                apart[cell_id] = DamagedCell(id=cell_id, problem=str(error))
                continue
            if item is None:
                missing.append(cell_id)
            else:
                told.append(item)
        return Walk(tuple(told), tuple(missing), tuple(apart.values()))

    def result(self, cell_id: str) -> CellResult:
        """A finished cell."""
        folder = self.cell(cell_id)
        earlier = (AttemptResult.of(*attempt) for attempt in folder.attempts.read())
        return CellResult.of(folder.read_cell(), folder.read_verdict(), tuple(earlier))

    def write_summary(self, damaged: Sequence[DamagedCell] = ()) -> Summary:
        """Rebuild ``summary.json`` from the cells, store it, and return it; as `summary`."""
        summary = self.summary(damaged)
        self.write_text(SUMMARY, as_json(summary))
        return summary

    def write_thresholds(self, thresholds: Thresholds) -> None:
        """Store ``threshold.json``, atomically."""
        self.write_text(THRESHOLDS, as_json(thresholds))

    def read_thresholds(self) -> Thresholds | None:
        """``threshold.json`` as it was last written; None: no search has begun."""
        if not self.folder.has(THRESHOLDS):
            return None
        return read_document(self.folder, THRESHOLDS, Thresholds)

    def write_diagnoses(self, diagnoses: Diagnoses) -> None:
        """Store ``why.json``, atomically."""
        self.write_text(DIAGNOSES, as_json(diagnoses))

    def read_diagnoses(self) -> Diagnoses | None:
        """``why.json`` as it was last written; None: no diagnosis has begun."""
        if not self.folder.has(DIAGNOSES):
            return None
        return read_document(self.folder, DIAGNOSES, Diagnoses)

    def write_refusals(self, refusals: Mapping[str, str]) -> None:
        """Store which trials of a diagnosis the stack cannot make, by id, and why; atomically."""
        self.write_text(REFUSALS, as_json(Refusals(trials=dict(refusals))))

    def read_refusals(self) -> dict[str, str]:
        """Which trials the stack could not make, and why; none before the first.

        Raises:
            StoreError: what is stored of them is damaged.
        """
        if not self.folder.has(REFUSALS):
            return {}
        return read_document(self.folder, REFUSALS, Refusals).trials

    def write_text(self, name: str, text: str) -> Path:
        """Store a file in the run folder, atomically; its path."""
        self.folder.write(name, [text.encode()])
        return self.path / name


def _claim(results: Path, name: str) -> Path:
    """Make the run's folder; where another lab has the name, the next: ``…-2``, ``…-3``."""
    with storing(results, f"make the run folder {name}"):
        results.mkdir(parents=True, exist_ok=True)
        Folder(results).check_link(LATEST)
        number = 1
        while True:
            path = results / (name if number == 1 else f"{name}-{number}")
            try:
                path.mkdir()
            except FileExistsError:
                number += 1
            else:
                return path


def digest(cells: Sequence[Cell]) -> str:
    """SHA-256, in hex, over the canonical JSON of the cells: sorted keys, no spaces.

    It does not depend on what speed was chosen where one is, nor on what a model said.
    """
    data = [_asked(cell) for cell in cells]
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _asked(cell: Cell) -> dict[str, Any]:
    """What is asked for, as JSON: a speed that is chosen is ``auto``, as a spec says it."""
    data = cell.model_dump(mode="json", exclude={"auto_speed", "speed_reason", "split"})
    if cell.auto_speed:
        data["knobs"]["speed"] = AUTO
    if not cell.baseline:  # as where a lab stored it that knew of none
        del data["baseline"], data["relative"]
    return data


def differences(old: Sequence[Cell], new: Sequence[Cell]) -> str:
    """In what two sets of cells differ: the first phrases, and how many more there are."""
    phrases = _phrases(old, new) or ["the order of the cells"]
    more = f" and {len(phrases) - MAX_PHRASES} more" if len(phrases) > MAX_PHRASES else ""
    return "; ".join(phrases[:MAX_PHRASES]) + more


def _phrases(old: Sequence[Cell], new: Sequence[Cell]) -> list[str]:
    before = {cell.id: _flat(_asked(cell)) for cell in old}
    after = {cell.id: _flat(_asked(cell)) for cell in new}
    phrases = [f"cell {name} is new" for name in after if name not in before]
    phrases += [f"cell {name} is gone" for name in before if name not in after]
    for name in (name for name in before if name in after):
        left, right = before[name], after[name]
        phrases += [
            f"{name}: {key} was {left.get(key, 'absent')}, is {right.get(key, 'absent')}"
            for key in sorted(left | right)
            if left.get(key) != right.get(key)
        ]
    return phrases


def _flat(data: Any, prefix: str = "") -> dict[str, Any]:
    items = data.items() if isinstance(data, dict) else enumerate(data)
    flat: dict[str, Any] = {}
    for key, value in items:
        if isinstance(value, dict | list) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
