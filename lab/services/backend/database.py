"""Tables, engine, pool and sessions.

The pool is SQLAlchemy's QueuePool, one *per process*: with N workers the database may see
N x (pool_size + max_overflow) connections. Defaults that matter and are kept:
LIFO off, no pre-ping, reset on return (a ROLLBACK, so closing a session that has read
costs a round trip), and psycopg2's connect without a timeout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy import BigInteger, Engine, ForeignKey, QueuePool, create_engine, func
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


class StudentProgress(Base):
    """How many recordings a student has handed in."""

    __tablename__ = "progress"

    student_id: Mapped[int] = mapped_column(ForeignKey("students.id"), primary_key=True)
    recordings: Mapped[int]


class Database:
    """A worker's engine, its sessions, and the state of its pool."""

    def __init__(self, settings: BackendSettings, gauges: Gauges) -> None:
        knobs = settings.knobs
        self.engine: Engine = create_engine(
            settings.database_url,
            pool_size=knobs.pool_size,
            max_overflow=knobs.max_overflow,
            pool_timeout=settings.wall(knobs.pool_timeout),
            pool_recycle=settings.wall(knobs.pool_recycle),
        )
        self.SessionLocal: Callable[[], Session] = sessionmaker(self.engine, autoflush=False)
        self._gauges = gauges

    @property
    def pool(self) -> QueuePool:
        """The pool behind the engine."""
        pool = self.engine.pool
        if not isinstance(pool, QueuePool):
            raise TypeError(f"the engine's pool is a {type(pool).__name__}, not a QueuePool")
        return pool

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
        """The pool as ``/health`` reports it."""
        return {
            "pool_size": self.pool.size(),
            "checked_out": self.pool.checkedout(),
            "overflow": max(0, self.pool.overflow()),
            "waiting": self._gauges.waiting,
        }

    def dispose(self) -> None:
        """Close every connection."""
        self.engine.dispose()
