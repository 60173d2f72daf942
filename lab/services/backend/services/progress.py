"""Step 5: one more recording, about 100 ms away (BEGIN, INSERT, UPDATE, COMMIT)."""

from __future__ import annotations

from sqlalchemy import update
from sqlalchemy.orm import Session

from lab.services.backend.models import Recording, StudentProgress


def record(session: Session, recording: Recording) -> None:
    """Store the recording's row, count it towards its student's progress, and commit."""
    session.add(recording)
    session.flush()
    session.execute(
        update(StudentProgress)
        .where(StudentProgress.student_id == recording.student_id)
        .values(recordings=StudentProgress.recordings + 1)
        .execution_options(synchronize_session=False)
    )
    session.commit()
