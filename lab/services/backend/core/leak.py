"""A deliberate leak (``leak``, off by default), to show that leaks are detected.

Every ``leak_every``-th upload leaves something behind for as long as the worker lives:

    connections   a connection beside the pool, as from code that connects by itself and forgets
                  to close
    pool          a connection of the pool, as from a session that nobody closes: it is checked out
                  and never returned, until the pool has none left and uploads end in pool_timeout
    memory        100 KB that are still referenced
    threads       a daemon thread that waits for ever
"""

from __future__ import annotations

import itertools
import threading

from sqlalchemy import Engine, NullPool, create_engine

from lab.services.backend.core.uploads import Timing
from lab.services.backend.database import Database
from lab.services.backend.settings import BackendSettings

MEMORY = 100_000
"""Bytes that an upload leaks under ``leak: memory``."""


class DeliberateLeak:
    """What a worker has leaked.

    Args:
        settings: the knobs, and where the database is.
        database: has the pool.
    """

    def __init__(self, settings: BackendSettings, database: Database) -> None:
        self._database = database
        self._kind = settings.knobs.leak
        self._every = settings.knobs.leak_every
        self._uploads = itertools.count(1)
        self._kept: list[object] = []
        self._never = threading.Event()
        self._engine: Engine = create_engine(settings.database_url, poolclass=NullPool)

    def upload(self, timing: Timing) -> None:
        """Count an upload, and leak if it is a ``leak_every``-th.

        Raises:
            sqlalchemy.exc.TimeoutError: the pool has no connection left to leak.
            sqlalchemy.exc.OperationalError: the database has no slot left to leak.
        """
        if self._kind == "off" or next(self._uploads) % self._every:
            return
        if self._kind == "connections":
            self._kept.append(self._engine.connect())
        elif self._kind == "pool":
            self._kept.append(self._database.check_out(timing, "pool_wait"))
        elif self._kind == "memory":
            self._kept.append(b"\1" * MEMORY)  # not zeros, which may stay unmapped
        else:
            threading.Thread(target=self._never.wait, name="leak", daemon=True).start()

    def close(self) -> None:
        """Release everything."""
        self._never.set()
        self._kept.clear()
        self._engine.dispose()
