"""Replicas that ``lab up`` left up: what is known of one, stored, shown, and read again by
``lab status``, ``down`` and ``locust``."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from lab.cli.options import RESULTS
from lab.errors import MachineError
from lab.model.replica import Target
from lab.stack import cleanup, files
from lab.stack.ownership import Ownership

RECORD = "replica.json"
ADDRESSES = ("stack", "target", "url", "health", "database", "storage", "toxiproxy", "logs")


Url = Annotated[str, Field(pattern=r"^http://127\.0\.0\.1:[0-9]{1,5}(/[\w/.-]*)?$")]
Dsn = Annotated[str, Field(pattern=r"^postgresql://\w+:\w+@127\.0\.0\.1:[0-9]{1,5}/\w+$")]
"""Every part of a replica is on this machine."""


@dataclass(frozen=True)
class ReplicaRecord:
    """What is known of a replica that stays up; its fields are the keys of ``--json``.

    Args:
        stack: ``compose`` or ``embedded``.
        target: ``vm`` or ``cloudrun``.
        url: where users upload.
        upload: the whole address of an upload.
        token: of a student, for an upload by hand.
        health: the backend's own figures.
        database: a DSN of the superuser.
        storage: fake-gcs-server, not through a proxy.
        toxiproxy: Toxiproxy's API.
        logs: where each part's log is.
        faults: names of those that are injected.
        knobs: all of them, as a spec writes them.
        parts: the process of each part.
    """

    stack: str
    target: Target
    url: Url
    upload: Url
    token: str
    health: Url
    database: Dsn
    storage: Url
    toxiproxy: Url
    logs: str
    faults: Sequence[str]
    knobs: Mapping[str, Any]
    parts: Mapping[str, int]


_RECORD = TypeAdapter(ReplicaRecord)


def replica_text(record: ReplicaRecord, down: Sequence[str] | None = None) -> str:
    """Its addresses, and how to upload a file; which parts are ``down``, where that is known."""
    lines = [f"{name:<10} {getattr(record, name)}" for name in ADDRESSES]
    lines += [
        f"{'faults':<10} {', '.join(record.faults) or 'none'}",
        "",
        "upload a file:",
        f"  curl -H 'Authorization: Bearer {record.token}' "
        f"-F 'file=@recording.wav;type=audio/wav' {record.upload}",
    ]
    if down is not None:
        lines += ["", f"DOWN: {', '.join(down)}" if down else "all parts are running"]
    return "\n".join(lines) + "\n"


def standing(results: Path) -> list[tuple[Path, Ownership]]:
    """The replicas of this results folder that were asked to stay, by folder and owner."""
    absolute = str(results.resolve())
    return [
        (folder, owner)
        for folder, owner in cleanup.replicas()
        if owner.pid is None and owner.results == absolute
    ]


def elsewhere(results: Path) -> list[Ownership]:
    """The owners of replicas that were asked to stay, of other results folders."""
    absolute = str(results.resolve())
    owners = (owner for _, owner in cleanup.replicas())
    return [owner for owner in owners if owner.pid is None and owner.results != absolute]


def down_command(results: Path | str) -> str:
    """The command that ends the replicas of a results folder."""
    here = Path(results).resolve() == RESULTS.resolve()
    return "`lab down`" if here else f"`lab down --results {shlex.quote(str(results))}`"


def store_record(folder: Path, record: ReplicaRecord) -> None:
    """Store what is known of a replica in its folder, whole or not at all: now it is up.

    Nobody else may read it: it holds passwords.
    """
    unfinished = folder / f".{RECORD}"
    files.write_private(unfinished, json.dumps(asdict(record)))
    unfinished.rename(folder / RECORD)


def records(results: Path) -> list[tuple[Ownership, ReplicaRecord]]:
    """The replicas that are up, of this results folder.

    Raises:
        MachineError: there is none, `up` is not done with one, or it is not what `up` stored.
    """
    replicas = standing(results)
    if not replicas:
        raise MachineError("no replica is up", "`lab up` brings one up")
    return [(owner, _record(folder, down_command(results))) for folder, owner in replicas]


def _record(folder: Path, ends: str) -> ReplicaRecord:
    try:
        return _RECORD.validate_json(files.read_own(folder, RECORD), strict=True)
    except FileNotFoundError:
        raise MachineError(
            "a replica is being brought up, or `lab up` was killed at it", f"{ends} ends it"
        ) from None
    except (OSError, ValueError) as error:
        raise MachineError(
            f"{folder / RECORD} is not what `lab up` stored ({_why(error)})", f"{ends} ends it"
        ) from None


def _why(error: OSError | ValueError) -> str:
    """What is wrong with a record, in a few words."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc'])) or 'all of it'}: {first['msg']}"
    return (isinstance(error, OSError) and error.strerror) or str(error)
