"""How far each learner is: a file of the user's, whole or not there, and never lost.

    <data>/replica-lab/learners/
        <name>.json                     what `lab.model.lessons.LearnerProgress` says
        <name>.<why>-<UTC>.json         kept aside: broken, of a later lab, or reset
        <name>.lock                     held while the lab works for this learner
        .lock                           held while a lesson is measured: one at a time

``REPLICA_LAB_LEARNERS`` names another folder, as a class's. What cannot be read is moved aside,
which is said, and a new file is begun. The locks are the kernel's, and go with their holder.
"""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from lab.errors import StoreError, UsageError
from lab.files import Folder, storing
from lab.model.lessons import PROGRESS_SCHEMA, LearnerProgress
from lab.model.run import as_json

VARIABLE = "REPLICA_LAB_LEARNERS"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}")


def learners_folder() -> Path:
    """Where the files are: what ``REPLICA_LAB_LEARNERS`` says, else the user's own folder."""
    from platformdirs import user_data_path  # few commands need it

    named = os.environ.get(VARIABLE)
    return Path(named) if named else user_data_path("replica-lab") / "learners"


def default_learner() -> str:
    """Who learns where nobody is named: this machine's user, as far as that is a name."""
    with suppress(OSError, KeyError, ImportError):
        if NAME.fullmatch(name := getpass.getuser()):
            return name
    return "learner"


def check_learner(name: str) -> str:
    """A learner's name, which is a file's, too.

    Raises:
        UsageError: it could not be one.
    """
    if not NAME.fullmatch(name):
        raise UsageError(
            f"'{name[:40]}' is no learner's name", "use letters, digits, dashes and underscores"
        )
    return name


class ProgressFile:
    """One learner's file.

    Args:
        folder: all learners'.
        learner: whose.

    Attributes:
        notes: what was kept aside, a sentence each.
    """

    def __init__(self, folder: Path, learner: str) -> None:
        self._path, self._folder = folder, Folder(folder)
        self._name = f"{check_learner(learner)}.json"
        self.learner = learner
        self.notes: list[str] = []

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep this learner's file from every other process while the block runs.

        Raises:
            StoreError: another has it, or the folder cannot be written.
        """
        busy = f"another `lab learn` of {self.learner} is running"
        remedy = "wait until it ends, or name another learner with --learner"
        with _locked(self._path, f"{self.learner}.lock", busy, remedy):
            yield

    def read(self) -> LearnerProgress:
        """What it says; a new one where there is none, or it had to be kept aside.

        Raises:
            StoreError: the folder cannot be read, or written.
        """
        if not self._path.is_dir() or not self._folder.has(self._name):
            return LearnerProgress(learner=self.learner)
        data = self._folder.read(self._name)
        try:
            value = json.loads(data)
            version = value.get("schema_version") if isinstance(value, dict) else None
            if isinstance(version, int) and version > PROGRESS_SCHEMA:
                return self._aside("later", "was written by a later lab")
            return LearnerProgress.model_validate_json(data)
        except (ValidationError, ValueError, RecursionError):
            return self._aside("broken", "cannot be read")

    def write(self, progress: LearnerProgress) -> None:
        """Replace it, at once and whole.

        Raises:
            StoreError: the folder cannot be written.
        """
        _make(self._path)
        self._folder.write(self._name, [as_json(progress).encode()])

    def reset(self) -> Path | None:
        """Begin anew; where the old file is kept, or None where there was none.

        Raises:
            StoreError: the folder cannot be written.
        """
        if not self._path.is_dir() or not self._folder.has(self._name):
            return None
        return self._keep("reset")

    def _aside(self, why: str, what: str) -> LearnerProgress:
        kept = self._keep(why)
        self.notes.append(
            f"{self._path / self._name} {what}: it is kept as {kept.name}, and a new one is begun"
        )
        return LearnerProgress(learner=self.learner)

    def _keep(self, why: str) -> Path:
        """Move the file aside under a name that nothing has."""
        stem = f"{self.learner}.{why}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        names = (f"{stem}{'' if n == 1 else f'-{n}'}.json" for n in range(1, 1000))
        kept = next(name for name in names if not (self._path / name).exists())
        self._folder.rename(self._name, kept)
        return self._path / kept


def read_all(folder: Path) -> tuple[list[LearnerProgress], list[str]]:
    """Every learner's file of a folder, and a sentence for each that cannot be read; none is moved.

    Raises:
        StoreError: the folder cannot be read.
    """
    found, problems = [], []
    names = Folder(folder).entries() if folder.is_dir() else {}
    for name in names:
        stem, _, end = name.rpartition(".")
        if end != "json" or not NAME.fullmatch(stem):
            continue
        try:
            found.append(LearnerProgress.model_validate_json(Folder(folder).read(name)))
        except (ValidationError, StoreError):
            problems.append(f"{folder / name}: cannot be read, and is left out")
    return found, problems


@contextmanager
def measuring(folder: Path) -> Iterator[None]:
    """Measure for one learner at a time: two at once would measure each other.

    Raises:
        StoreError: another learner's lesson is being measured.
    """
    busy = "another learner's lesson is being measured on this machine"
    with _locked(folder, ".lock", busy, "wait until it ends: a lesson takes a minute and a half"):
        yield


def _make(folder: Path) -> None:
    with storing(folder, "make it"):
        folder.mkdir(parents=True, exist_ok=True)


@contextmanager
def _locked(folder: Path, name: str, busy: str, remedy: str) -> Iterator[None]:
    _make(folder)
    with storing(folder, f"lock {name}"):
        handle = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(busy, remedy) from None
        yield
    finally:
        os.close(handle)
