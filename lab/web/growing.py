"""Files that somebody else appends to, read on from where the last look ended."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from lab.errors import LabError
from lab.files import Folder

GATEWAY_LOG = "front.jsonl"
"""In which Cloud Run's gateway notes its events, among the workers' readings."""


@dataclass
class GrowingFile:
    """A file that somebody appends to, read on from where the last look ended.

    Another file of the same name is read from its beginning, which is told.
    """

    folder: Folder
    name: str
    offset: int = 0
    number: int | None = None  #: the file's, on its disk

    def exchanged(self, state: os.stat_result) -> bool:
        """Whether it is another file than at the last look, or shorter."""
        before, self.number = self.number, state.st_ino
        if before in (None, state.st_ino) and state.st_size >= self.offset:
            return False
        self.offset = 0
        return True

    def added(self) -> list[bytes]:
        """The lines that have come since the last look and are complete.

        Raises:
            StoreError: it is gone, or something else is in its place.
        """
        text = self.folder.added(self.name, self.offset)
        whole = text[: text.rfind(b"\n") + 1]
        self.offset += len(whole)
        return whole.splitlines()


@dataclass
class Readings:
    """What the replica's parts write while a trial goes on, in a folder of the replica's own."""

    folder: Path
    files: dict[str, GrowingFile] = field(default_factory=dict)

    def added(self) -> Iterator[tuple[str, list[bytes]]]:
        """The files' names, and the lines that have come; none once the replica is gone."""
        with suppress(LabError):
            here = Folder(self.folder)
            for name, state in here.states().items():
                wanted = name == GATEWAY_LOG or (
                    name.startswith("worker-") and name.endswith(".jsonl")
                )
                if wanted and stat.S_ISREG(state.st_mode):
                    file = self.files.setdefault(name, GrowingFile(here, name))
                    file.exchanged(state)
                    if state.st_size > file.offset:
                        yield name, file.added()
