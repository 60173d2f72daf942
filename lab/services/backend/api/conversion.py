"""POST /api/students/convert-recording: a recording as speech recognition takes it.

1 authenticate, release       a query, a round trip   pool_wait, auth, release
2 decode, resample            CPU                     convert_queue, convert
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, File, Request, UploadFile
from fastapi.responses import Response

from lab.model.journeys import REQUESTS, Journey
from lab.services.backend.api.deps import bearer_token, queries, read_audio
from lab.services.backend.core.problems import cause_of
from lab.services.backend.core.uploads import Timing
from lab.services.backend.services.authentication import authenticate_and_release

router = APIRouter()


@router.post(REQUESTS[Journey.CONVERT].path, response_class=Response)
async def convert_recording(request: Request, file: Annotated[UploadFile, File()]) -> Response:
    """Answer with a student's recording at 16 kHz, mono, as a WAV file; nothing is stored.

    Every error is a problem body with its cause.
    """
    timing: Timing = request.state.timing
    with timing.failure(cause_of):
        app = request.app.state
        content = await read_audio(file)
        token = bearer_token(request)
        query = queries(app.knobs, timing)
        await query(authenticate_and_release, app.database, timing, token)
        return Response(await app.converter.convert(content, timing), media_type="audio/wav")
