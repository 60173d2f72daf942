"""Replicas that ``lab up`` left up, as ``lab status``, ``down`` and ``locust`` find them again."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from lab.errors import MachineError
from lab.report.replica import ReplicaRecord
from lab.stack import cleanup
from lab.stack.ownership import Ownership

RECORD = "replica.json"


def standing(results: Path) -> list[tuple[Path, Ownership]]:
    """The replicas of this results folder that were asked to stay, by folder and owner."""
    here = str(results.resolve())
    return [
        (folder, owner)
        for folder, owner in cleanup.replicas()
        if owner.pid is None and owner.results == here
    ]


def store_record(folder: Path, record: ReplicaRecord) -> None:
    """Store what is known of a replica in its folder, whole or not at all: now it is up."""
    unfinished = folder / f".{RECORD}"
    unfinished.write_text(json.dumps(asdict(record)))
    unfinished.chmod(0o600)  # it holds passwords
    unfinished.rename(folder / RECORD)


def records(results: Path) -> list[tuple[Ownership, ReplicaRecord]]:
    """The replicas that are up, of this results folder.

    Raises:
        MachineError: there is none, or `up` is not done with one.
    """
    replicas = standing(results)
    if not replicas:
        raise MachineError("no replica is up", "`lab up` brings one up")
    try:
        return [
            (owner, ReplicaRecord(**json.loads((folder / RECORD).read_text())))
            for folder, owner in replicas
        ]
    except FileNotFoundError:
        raise MachineError(
            "a replica is being brought up, or `lab up` was killed at it", "`lab down` ends it"
        ) from None
