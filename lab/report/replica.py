"""A replica that is kept up by hand, as ``lab up`` and ``lab status`` show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lab.model.replica import Target


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
    url: str
    upload: str
    token: str
    health: str
    database: str
    storage: str
    toxiproxy: str
    logs: str
    faults: Sequence[str]
    knobs: Mapping[str, Any]
    parts: Mapping[str, int]


ADDRESSES = ("stack", "target", "url", "health", "database", "storage", "toxiproxy", "logs")


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
