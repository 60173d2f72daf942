"""POST /api/students/assess-pronunciation: how well was it pronounced?

1 authenticate, release       a query, a round trip   pool_wait, auth, release
2 ask the speech service      1-3 s                   speech_queue, speech
3 write the score, commit     three round trips       pool_wait2, write
"""

from __future__ import annotations

import uuid
from typing import Annotated, Any

from fastapi import APIRouter, File, Request, UploadFile

from lab.model.journeys import REQUESTS, Journey
from lab.services.backend.api.deps import bearer_token, queries, read_audio
from lab.services.backend.core.problems import cause_of
from lab.services.backend.core.uploads import Timing
from lab.services.backend.database import Database, Score
from lab.services.backend.services.authentication import authenticate_and_release

router = APIRouter()


@router.post(REQUESTS[Journey.ASSESS].path)
async def assess_pronunciation(
    request: Request, file: Annotated[UploadFile, File()]
) -> dict[str, Any]:
    """Have a student's recording assessed, and write the score down.

    The answer names the assessment; every error is a problem body with its cause.
    """
    timing: Timing = request.state.timing
    with timing.failure(cause_of):
        return await assess(request, file, timing)


async def assess(request: Request, file: UploadFile, timing: Timing) -> dict[str, Any]:
    """The three steps; no connection is held while the speech service is busy."""
    app = request.app.state
    query = queries(app.knobs, timing)
    content = await read_audio(file)
    token = bearer_token(request)
    student_id = await query(authenticate_and_release, app.database, timing, token)
    points = await app.speech.score(content, str(file.content_type), timing)
    assessment = str(uuid.uuid4())
    score = Score(id=assessment, student_id=student_id, score=points)
    await query(write_score, app.database, timing, score)
    return {"assessment": assessment, "student": student_id, "score": points}


def write_score(database: Database, timing: Timing, score: Score) -> None:
    """Step 3, about 75 ms away (BEGIN, INSERT, COMMIT)."""
    with database.session(timing, "pool_wait2") as session, timing.stage("write"):
        session.add(score)
        session.commit()
