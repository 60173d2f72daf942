"""The tables: students, their recordings and their progress."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, func
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Base of the service's tables."""


class Student(Base):
    """Somebody who may upload, known by a bearer token."""

    __tablename__ = "students"

    id: Mapped[int] = mapped_column(primary_key=True)
    token: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]


class Recording(Base):
    """One uploaded file; ``id`` is what the answer names, ``object_name`` is in the bucket."""

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
