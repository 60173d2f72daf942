"""Step 1 of every journey: whose token is it?  A query, about 50 ms away, and its release."""

from __future__ import annotations

from contextlib import ExitStack

from sqlalchemy import select
from sqlalchemy.orm import Session

from lab.services.backend.core.problems import Problem
from lab.services.backend.core.uploads import Timing
from lab.services.backend.database import Database, Student


def authenticate(session: Session, token: str) -> int:
    """One query, about 50 ms away (BEGIN, SELECT): the id of the token's student.

    Raises:
        Problem: ``unauthorized``, no student has this token.
    """
    student = session.scalar(select(Student).where(Student.token == token))
    if student is None:
        raise Problem("unauthorized", "no student has this token")
    return student.id


def authenticate_and_release(database: Database, timing: Timing, token: str) -> int:
    """The same in a session of its own: stages pool_wait, auth and release.

    Raises:
        Problem: ``unauthorized``, no student has this token.
    """
    with ExitStack() as held:
        session = held.enter_context(database.session(timing, "pool_wait"))
        with timing.stage("auth"):
            student_id = authenticate(session, token)
        with timing.stage("release"):
            held.close()
    return student_id
