"""Tables, engine, pool and sessions.

The pool is SQLAlchemy's QueuePool, one *per process*: with N workers the database may see
N x (pool_size + max_overflow) connections, or any number where the overflow is unlimited; or it
is NullPool, which keeps none. Defaults that matter and are kept: LIFO off, reset on return (a
ROLLBACK, so closing a session that has read costs a round trip), and psycopg2's connect without
a timeout.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Engine,
    ForeignKey,
    NullPool,
    QueuePool,
    create_engine,
    event,
    func,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from lab.services.backend.core.evidence import Gauges
from lab.services.backend.core.uploads import Timing
from lab.services.backend.settings import BackendSettings


class Base(DeclarativeBase):
    """Base of the service's tables."""


class Student(Base):
    """A user who may upload, identified by a bearer token."""

    __tablename__ = "students"

    id: Mapped[int] = mapped_column(primary_key=True)
    token: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]


class Recording(Base):
    """An uploaded file; ``id`` is in the answer, ``object_name`` in the bucket."""

    __tablename__ = "recordings"

    id: Mapped[str] = mapped_column(primary_key=True)
    student_id: Mapped[int] = mapped_column(ForeignKey("students.id"))
    object_name: Mapped[str]
    size: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Score(Base):
    """How well a student pronounced something; ``id`` is in the assessment's answer."""

    __tablename__ = "scores"

    id: Mapped[str] = mapped_column(primary_key=True)
    student_id: Mapped[int] = mapped_column(ForeignKey("students.id"))
    score: Mapped[float]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class StudentProgress(Base):
    """How many recordings a student has handed in."""

    __tablename__ = "progress"

    student_id: Mapped[int] = mapped_column(ForeignKey("students.id"), primary_key=True)
    recordings: Mapped[int]


def pool_options(settings: BackendSettings) -> dict[str, Any]:
    """What SQLAlchemy's ``create_engine`` is told of the pool; a NullPool knows no sizes."""
    knobs = settings.knobs
    common = {
        "pool_recycle": settings.wall(knobs.pool_recycle),
        "pool_pre_ping": knobs.pool_pre_ping == "on",
    }
    if knobs.pool_class == "NullPool":
        return {**common, "poolclass": NullPool}
    return {
        **common,
        "pool_size": knobs.pool_size,
        "max_overflow": -1 if knobs.max_overflow is None else knobs.max_overflow,
        "pool_timeout": settings.wall(knobs.pool_timeout),
    }


class Lent:
    """Counts the connections that a NullPool has lent, which does not count them itself."""

    def __init__(self, engine: Engine) -> None:
        self.count = 0
        self._lock = threading.Lock()
        if isinstance(engine.pool, NullPool):
            event.listen(engine, "checkout", lambda *_: self._add(1))
            event.listen(engine, "checkin", lambda *_: self._add(-1))

    def _add(self, step: int) -> None:
        with self._lock:
            self.count += step


class Database:
    """A worker's engine, its sessions, and the state of its pool."""

    def __init__(self, settings: BackendSettings, gauges: Gauges) -> None:
        self.engine: Engine = create_engine(settings.database_url, **pool_options(settings))
        self._lent = Lent(self.engine)
        self.SessionLocal: Callable[[], Session] = sessionmaker(self.engine, autoflush=False)
        self._gauges = gauges

    @contextmanager
    def session(self, timing: Timing, wait: str) -> Iterator[Session]:
        """A session with its connection checked out; the wait for it is timed as ``wait``.

        The checkout blocks the calling thread. In the event loop it freezes the worker,
        and with it the coroutine that would return a connection.

        Raises:
            sqlalchemy.exc.TimeoutError: no connection within pool_timeout.
            sqlalchemy.exc.OperationalError: the database refused a new one.
        """
        session = self.SessionLocal()
        try:
            with timing.stage(wait), self._gauges.waiting_for_connection():
                session.connection()
            yield session
        finally:
            session.close()

    def figures(self) -> dict[str, int]:
        """The pool as ``/health`` reports it; of a NullPool, which keeps none, all is overflow."""
        pool, lent = self.engine.pool, self._lent.count
        figures = {"pool_size": 0, "checked_out": lent, "overflow": lent}
        if isinstance(pool, QueuePool):
            figures = {
                "pool_size": pool.size(),
                "checked_out": pool.checkedout(),
                "overflow": max(0, pool.overflow()),
            }
        return {**figures, "waiting": self._gauges.waiting}

    def dispose(self) -> None:
        """Close every connection."""
        self.engine.dispose()
