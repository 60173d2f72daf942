"""The files of one trial, by name: those of a cell's folder, and of its logs."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable
from pathlib import Path

from lab.files import Folder, in_the_way

CELL = "cell.json"
SAMPLES = "samples.jsonl"
EVIDENCE_FILE = "evidence.jsonl"
VERDICT = "verdict.json"
LOGS = "logs"

STATUS = "generator.status.json"
"""Among the logs: how far the load generator is, written by itself."""

PLAN = "generator.plan.json"
"""Among the logs: what the load generator is to offer; there once the faults are injected."""

READINGS = "readings.json"
"""Among the logs: where the replica's own readings are while the trial goes on."""

FILES = (CELL, SAMPLES, EVIDENCE_FILE, VERDICT)
"""The lab's files in a cell's folder; each but the samples is written whole."""

_LOG = re.compile(
    r"[\w.-]+\.log|front\.jsonl|readings\.json|generator\.(plan\.json|(status|end)\.(json|draft))"
)
"""The lab's files in a cell's logs: of each part, of the generator, the gateway's events, and
where the replica's readings are."""


def is_log(name: str) -> bool:
    """Whether a file among the logs is the lab's."""
    return bool(_LOG.fullmatch(name))


def own_files(folder: Folder, is_own: Callable[[str], bool]) -> list[str]:
    """The lab's files in a folder in which is nothing but files and folders.

    Raises:
        StoreError: something else is in it, or a folder has the name of a file of the lab's.
    """
    own = []
    for name, mode in folder.entries().items():
        if is_own(name) and stat.S_ISREG(mode):
            own.append(name)
        elif is_own(name) or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise in_the_way(folder.path / name, mode, "file" if is_own(name) else "file or folder")
    return own


def foreign_files(folder: Folder, *also: str) -> list[Path]:
    """What is in a folder with a trial's files, or among its logs, and is not the lab's.

    Args:
        folder: which.
        also: what else of the lab's is in it, by name.
    """
    entries, logs = folder.entries(), folder.below(LOGS)
    found = [folder.path / name for name in entries if name not in (*FILES, LOGS, *also)]
    if stat.S_ISDIR(entries.get(LOGS, 0)):
        found += [logs.path / name for name in logs.entries() if not is_log(name)]
    return found
