"""GET /api/students/progress: how many recordings a student has, and the last ten of them.

1 authenticate, release       a query, a round trip   pool_wait, auth, release
2 read                        four round trips        pool_wait2, read
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from sqlalchemy import select

from lab.model.journeys import REQUESTS, Journey
from lab.services.backend.api.deps import bearer_token, queries
from lab.services.backend.core.problems import cause_of
from lab.services.backend.core.uploads import Timing
from lab.services.backend.database import Database, Recording, StudentProgress
from lab.services.backend.services.authentication import authenticate_and_release

router = APIRouter()

SHOWN = 10
"""Recordings of which a student is told, the newest first."""


@router.get(REQUESTS[Journey.PROGRESS].path)
async def progress(request: Request) -> dict[str, Any]:
    """Tell a student of its recordings; every error is a problem body with its cause."""
    timing: Timing = request.state.timing
    with timing.failure(cause_of):
        database = request.app.state.database
        query = queries(request.app.state.knobs, timing)
        token = bearer_token(request)
        student_id = await query(authenticate_and_release, database, timing, token)
        told: dict[str, Any] = await query(read_progress, database, timing, student_id)
        return told


def read_progress(database: Database, timing: Timing, student_id: int) -> dict[str, Any]:
    """Step 2, about 100 ms away (BEGIN, SELECT, SELECT, ROLLBACK)."""
    newest = (
        select(Recording.id, Recording.size, Recording.created_at)
        .where(Recording.student_id == student_id)
        .order_by(Recording.created_at.desc())
        .limit(SHOWN)
    )
    count = select(StudentProgress.recordings).where(StudentProgress.student_id == student_id)
    with database.session(timing, "pool_wait2") as session, timing.stage("read"):
        recordings = session.scalar(count)
        latest = [dict(row._mapping) for row in session.execute(newest)]
        session.close()
    return {"student": student_id, "recordings": recordings or 0, "latest": latest}
