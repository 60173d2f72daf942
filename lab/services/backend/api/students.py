"""POST /api/students/upload-recording: the upload, in the report's five steps.

1 validate and authenticate   a query               pool_wait, auth
2 close the session           a round trip          release       (db_session: release)
3 upload to the bucket        2-5 s                 gcs_queue, gcs
4 reopen a session            maybe a connection    pool_wait2    (db_session: release)
5 write progress, commit      four round trips      write
"""

from __future__ import annotations

import uuid
from contextlib import ExitStack
from typing import Annotated, Any

from fastapi import APIRouter, File, Request, UploadFile
from sqlalchemy import update
from sqlalchemy.orm import Session

from lab.model.replica import UPLOAD_PATH
from lab.services.backend.api.deps import Query, bearer_token, queries, read_audio
from lab.services.backend.core.problems import cause_of
from lab.services.backend.core.uploads import Timing
from lab.services.backend.database import Database, Recording, StudentProgress
from lab.services.backend.services.audio_upload import AudioUploader
from lab.services.backend.services.authentication import authenticate, authenticate_and_release

router = APIRouter()


@router.post(UPLOAD_PATH)
async def upload_student_recording(
    request: Request, file: Annotated[UploadFile, File()]
) -> dict[str, Any]:
    """Take a student's recording: validate, store it, write it down.

    The answer names the recording; every error is a problem body with its cause.
    """
    timing: Timing = request.state.timing
    with timing.failure(cause_of):
        return await take(request, file, timing)


async def take(request: Request, file: UploadFile, timing: Timing) -> dict[str, Any]:
    """The five steps; returns the answer, and raises what is answered as a problem."""
    app = request.app.state
    query = queries(app.knobs, timing)
    upload = Upload(app.database, app.uploader, query, timing)
    content = await read_audio(file)
    token = bearer_token(request)
    await app.check_upload_limit(request)
    await query(app.leak.upload)
    if app.knobs.db_session == "hold":
        return await upload.holding_the_session(token, content, str(file.content_type))
    return await upload.releasing_the_session(token, content, str(file.content_type))


class Upload:
    """An upload: the steps after validation, with the session held or released."""

    def __init__(
        self, database: Database, uploader: AudioUploader, query: Query, timing: Timing
    ) -> None:
        self._database = database
        self._uploader = uploader
        self._query = query
        self._timing = timing

    async def releasing_the_session(
        self, token: str, content: bytes, content_type: str
    ) -> dict[str, Any]:
        """After the fix: no connection is held while storage is busy."""
        student_id = await self._query(
            authenticate_and_release, self._database, self._timing, token
        )
        recording = new_recording(student_id, len(content))
        answer = await self._store(recording, content, content_type)
        await self._query(self._reopen_and_write, recording)
        return answer

    async def holding_the_session(
        self, token: str, content: bytes, content_type: str
    ) -> dict[str, Any]:
        """Before the fix: the connection of step 1 is kept until the end of step 5."""
        with ExitStack() as held:
            session = await self._query(
                held.enter_context, self._database.session(self._timing, "pool_wait")
            )
            student_id = await self._query(self._authenticate, session, token)
            recording = new_recording(student_id, len(content))
            answer = await self._store(recording, content, content_type)
            await self._query(self._write, session, recording)
        return answer

    def _authenticate(self, session: Session, token: str) -> int:
        with self._timing.stage("auth"):
            return authenticate(session, token)

    async def _store(
        self, recording: Recording, content: bytes, content_type: str
    ) -> dict[str, Any]:
        """Step 3; returns the upload's answer, in case the rest succeeds."""
        url = await self._uploader.upload_audio(
            recording.object_name, content, content_type, self._timing
        )
        return {
            "recording": recording.id,
            "student": recording.student_id,
            "bytes": recording.size,
            "audio_url": url,
        }

    def _reopen_and_write(self, recording: Recording) -> None:
        with self._database.session(self._timing, "pool_wait2") as session:
            self._write(session, recording)

    def _write(self, session: Session, recording: Recording) -> None:
        with self._timing.stage("write"):
            write_progress(session, recording)


def new_recording(student_id: int, size: int) -> Recording:
    """The row of a recording of ``size`` bytes, with a new id and object name."""
    number = str(uuid.uuid4())
    name = f"recordings/{student_id}/{number}.wav"
    return Recording(id=number, student_id=student_id, object_name=name, size=size)


def write_progress(session: Session, recording: Recording) -> None:
    """Step 5, about 100 ms away (BEGIN, INSERT, UPDATE, COMMIT): add a recording."""
    session.add(recording)
    session.flush()
    session.execute(
        update(StudentProgress)
        .where(StudentProgress.student_id == recording.student_id)
        .values(recordings=StudentProgress.recordings + 1)
        .execution_options(synchronize_session=False)
    )
    session.commit()
