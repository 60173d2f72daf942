"""Earlier attempts of a cell, each kept as it was: ``attempts/1``, ``attempts/2``, in order.

    cell.json … verdict.json, logs/ ──second names──> attempts/2.new ──rename──> attempts/2

Until it has its last name an attempt is not there, and what stands in the cell's folder is as it
was; from then on it is kept, whether or not the cell's folder was cleared for the next one.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.errors import StoreError
from lab.files import Folder
from lab.model.experiment import Cell
from lab.model.verdict import Verdict
from lab.store.documents import read_document
from lab.store.trial_files import (
    CELL,
    EVIDENCE_FILE,
    FILES,
    LOGS,
    VERDICT,
    foreign_files,
    is_log,
    own_files,
)

ATTEMPTS = "attempts"

MAX_ATTEMPTS = 1000
"""That a cell keeps, and so many are read."""

_NUMBER = re.compile(r"[1-9]\d{0,8}")
_DRAFT = re.compile(r"[1-9]\d{0,8}\.new")


@dataclass(frozen=True)
class Attempts:
    """Those of the cell whose folder this is."""

    cell: Folder

    @property
    def folder(self) -> Folder:
        """Where they are; it need not be there."""
        return self.cell.below(ATTEMPTS)

    def read(self) -> Iterator[tuple[Cell, Verdict]]:
        """Each as it was measured, and its verdict, but for what still stands in the cell's folder.

        Raises:
            StoreError: something of it cannot be read, or is damaged.
        """
        numbers = self._numbers()
        for number in numbers[:-1] if self._is_current(numbers) else numbers:
            folder = self.folder.below(str(number))
            yield read_document(folder, CELL, Cell), read_document(folder, VERDICT, Verdict)

    def hold_current(self) -> bool:
        """Whether the last of them is what stands in the cell's folder still, or part of it."""
        return self._is_current(self._numbers())

    def _is_current(self, numbers: Sequence[int]) -> bool:
        folders = [self.folder.below(str(number)) for number in numbers[-1:]]
        return any(
            self.cell.is_same(name, kept) for kept in folders for name in (EVIDENCE_FILE, VERDICT)
        )

    def keep(self) -> None:
        """Keep what stands in the cell's folder, unless it is kept already.

        Raises:
            StoreError: there are too many, the file system refused, or something that the lab did
                not make is in the way; the cell's folder is as it was.
        """
        numbers = self._numbers()
        if self._is_current(numbers):
            return
        if len(numbers) == MAX_ATTEMPTS:
            raise self._too_many()
        name = str(1 + max(numbers, default=0))
        draft = self.folder.below(f"{name}.new")
        logs = self.cell.below(LOGS), draft.below(LOGS)
        for folder in logs:
            folder.make()
        for folder, is_own in ((draft, FILES.__contains__), (logs[1], is_log)):
            for left in own_files(folder, is_own):
                folder.remove(left)
        for log in own_files(logs[0], is_log):
            logs[0].link(log, logs[1])
        for file in FILES:
            self.cell.link(file, draft)
        self.folder.settle(draft.path.name, name)

    def foreign(self) -> list[Path]:
        """What is among them, or in one, and is not the lab's."""
        if not stat.S_ISDIR(self.cell.entries().get(ATTEMPTS, 0)):
            return []
        found = []
        for name, mode in self.folder.entries().items():
            if not (_NUMBER.fullmatch(name) or _DRAFT.fullmatch(name)):
                found.append(self.folder.path / name)
            elif stat.S_ISDIR(mode):
                found += foreign_files(self.folder.below(name))
        return found

    def _numbers(self) -> list[int]:
        """Of what has the name of one, in order.

        Raises:
            StoreError: there are more than the lab keeps.
        """
        if not os.path.lexists(self.cell.path) or ATTEMPTS not in self.cell.entries():
            return []
        numbers = sorted(int(name) for name in self.folder.entries() if _NUMBER.fullmatch(name))
        if len(numbers) > MAX_ATTEMPTS:
            raise self._too_many()
        return numbers

    def _too_many(self) -> StoreError:
        what = f"{self.folder.path}: a cell keeps {MAX_ATTEMPTS} attempts, and no more"
        return StoreError(what, "start a new run")
