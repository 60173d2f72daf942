"""What work costs this machine, kept from run to run in the user's cache folder.

<cache>/replica-lab/costs/<stack>-<digest>.json     one for each machine, stack and version

What changes any of these has another file, so what is no longer so is never read. A file that is
damaged, or not what its name says, is ignored, which is said, and written anew.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from platformdirs import user_cache_path
from pydantic import AwareDatetime, Field

from lab.errors import LabError
from lab.files import Folder, storing
from lab.model.base import Frozen
from lab.model.costs import TrialCost
from lab.model.run import as_json
from lab.store.documents import read_document

MAX_TRIALS = 40
"""The newest that are kept."""

MAX_FILES = 20
"""The newest that are kept, of whatever machine, stack or version."""

_FILE = re.compile(r"[a-z]+-[0-9a-f]{16}\.json")


class CostKey(Frozen):
    """What costs depend on.

    Args:
        machine: its processor, cores, kernel and architecture.
        stack: ``embedded`` or ``compose``.
        versions: of the lab and of every part.
    """

    machine: dict[str, str]
    stack: str
    versions: dict[str, str]

    def is_of(self, machine: Mapping[str, str], stack: str, versions: Mapping[str, str]) -> bool:
        """Whether it is of this machine and stack, and of these versions among others."""
        same = self.machine == dict(machine) and self.stack == stack
        return same and versions.items() <= self.versions.items()

    @property
    def name(self) -> str:
        """Of its file."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return f"{self.stack}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"


class KnownCosts(Frozen):
    """A file of them; ``newest`` is when the last trial was added."""

    schema_version: int = 1
    key: CostKey
    newest: AwareDatetime
    trials: Annotated[tuple[TrialCost, ...], Field(max_length=MAX_TRIALS)]

    @property
    def age_s(self) -> float:
        """Seconds since the last trial was added; 0 where this machine's clock was before it."""
        return max(0.0, (datetime.now(UTC) - self.newest).total_seconds())


def cache_folder() -> Path:
    """Where the files are: below ``XDG_CACHE_HOME``, or what this system has in its place."""
    return user_cache_path("replica-lab") / "costs"


@dataclass(frozen=True)
class CostStore:
    """The costs of one machine, stack and version.

    Args:
        key: which.
        folder: where all are kept.
        say: told, in a line and once, what is wrong with a file, and that it could not be written.
    """

    key: CostKey
    folder: Path
    say: Callable[[str], None]
    _said: set[str] = field(default_factory=set)

    def _tell(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            self.say(line)

    def read(self) -> tuple[TrialCost, ...]:
        """The trials that are kept, the newest last; none where nothing is known."""
        try:
            known = _read(self.folder, self.key.name)
        except LabError as error:
            self._tell(f"{error.what} - it is ignored, and written anew")
            return ()
        if known is None or known.key == self.key:
            return known.trials if known else ()
        what = f"{self.folder / self.key.name}: the file is of another machine, stack or version"
        self._tell(f"{what} - it is ignored, and written anew")
        return ()

    def add(self, trials: Sequence[TrialCost]) -> None:
        """Keep these too; the oldest go where there are too many."""
        kept = (*self.read(), *trials)[-MAX_TRIALS:]
        known = KnownCosts(key=self.key, newest=datetime.now(UTC), trials=kept)
        try:
            with storing(self.folder, "make it"):
                self.folder.mkdir(parents=True, exist_ok=True)
            Folder(self.folder).write(self.key.name, [as_json(known).encode()])
            _prune(self.folder)
        except LabError as error:
            self._tell(f"what an upload costs this machine is not kept: {error.what}")


def _read(folder: Path, name: str) -> KnownCosts | None:
    """A file of costs; None: there is none.

    Raises:
        LabError: it is damaged, or cannot be read.
    """
    files = Folder(folder)
    return read_document(files, name, KnownCosts) if files.has(name) else None


def kept(folder: Path) -> dict[str, KnownCosts | LabError]:
    """Every file of costs by its name, or what is wrong with it; the newest first."""
    found: dict[str, KnownCosts | LabError] = {}
    for path in _files(folder):
        try:
            known = _read(folder, path.name)
        except LabError as error:
            found[path.name] = error
        else:
            found |= {path.name: known} if known else {}
    return found


def newest(
    folder: Path, machine: Mapping[str, str], stack: str, versions: Mapping[str, str]
) -> KnownCosts | None:
    """What was last learned of this stack here, by a lab of these versions; None: nothing.

    Of what a stack alone can tell (its images) nothing is asked: so it can be told without one.
    """
    for known in kept(folder).values():
        if isinstance(known, KnownCosts) and known.key.is_of(machine, stack, versions):
            return known
    return None


def _files(folder: Path) -> list[Path]:
    with suppress(OSError):
        files = [path for path in folder.iterdir() if _FILE.fullmatch(path.name)]
        return sorted(files, key=lambda path: path.lstat().st_mtime, reverse=True)
    return []


def _prune(folder: Path) -> None:
    for path in _files(folder)[MAX_FILES:]:
        Folder(folder).remove(path.name)
