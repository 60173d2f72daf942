"""The settings of the service: the knobs, and the addresses of its neighbours."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from sqlalchemy import make_url

from lab.model.knobs import Knobs
from lab.model.replica import INSTANCE_VARIABLE

PIDS = 10**7
"""More than any process id: Linux counts to 2^22."""


def worker_number(env: Mapping[str, str] = os.environ) -> int:
    """The number by which evidence tells this process from the others that write beside it.

    Its process id; on Cloud Run in containers, which all have the same few, with the number of
    its instance (``LAB_INSTANCE``, from 1) before it: process 7 of instance 3 is 30000007.
    """
    return int(env.get("LAB_INSTANCE") or 0) * PIDS + os.getpid()


def instance_name(env: Mapping[str, str] = os.environ) -> str:
    """What Cloud Run's gateway calls the instance that this process is of; empty on the VM."""
    return env.get(INSTANCE_VARIABLE, "")


@dataclass(frozen=True)
class BackendSettings:
    """The service's settings, from its environment.

    Args:
        knobs: the table of knobs; durations in real-world seconds.
        database_url: SQLAlchemy URL of the application's plain role.
        storage_url: where the storage API answers (``STORAGE_EMULATOR_HOST``).
        speech_url: where the speech service does.
        bucket: the bucket that recordings go to.
        evidence: folder for this worker's readings; None writes none.
    """

    knobs: Knobs
    database_url: str
    storage_url: str
    speech_url: str
    bucket: str
    evidence: Path | None

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> Self:
        """Read the environment.

        Raises:
            KeyError: DATABASE_URL, STORAGE_EMULATOR_HOST, SPEECH_URL or AUDIO_BUCKET is not set.
            OSError: the file that DATABASE_PASSWORD_FILE names cannot be read.
            pydantic.ValidationError: a knob has a value that the table does not allow.
        """
        evidence = env.get("LAB_EVIDENCE_DIR")
        return cls(
            knobs=Knobs.from_env(env),
            database_url=_database_url(env["DATABASE_URL"], env.get("DATABASE_PASSWORD_FILE")),
            storage_url=env["STORAGE_EMULATOR_HOST"],
            speech_url=env["SPEECH_URL"],
            bucket=env["AUDIO_BUCKET"],
            evidence=Path(evidence) if evidence else None,
        )

    def wall(self, seconds: float) -> float:
        """Wall-clock seconds of a real-world duration: divided by ``speed``."""
        return seconds / self.knobs.speed


def _database_url(url: str, password_file: str | None) -> str:
    """A database's URL, with the password that a file holds, if there is one."""
    if not password_file:
        return url
    password = Path(password_file).read_text(encoding="utf-8").strip()
    return make_url(url).set(password=password).render_as_string(hide_password=False)
