"""POST /api/students/upload-recording: the upload, in the report's five steps.

1 validate and authenticate   a query               pool_wait, auth
2 close the session           a round trip          release       (db_session: release)
3 upload to the bucket        2-5 s                 gcs_queue, gcs
4 reopen a session            maybe a connection    pool_wait2    (db_session: release)
5 write progress, commit      four round trips      write
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Annotated, Any

from fastapi import APIRouter, File, Request, UploadFile
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.orm import Session

from lab.services.backend.core.problems import Problem
from lab.services.backend.core.timing import Timing
from lab.services.backend.database import Database
from lab.services.backend.models import Recording
from lab.services.backend.services.audio_upload import AudioUploader
from lab.services.backend.services.authentication import authenticate, bearer_token
from lab.services.backend.services.progress import record

UPLOAD_PATH = "/api/students/upload-recording"

router = APIRouter()

Query = Callable[..., Awaitable[Any]]


async def in_event_loop(call: Callable[..., Any], *args: Any) -> Any:
    """``db_call: blocking``: a synchronous call straight from the coroutine, as found."""
    return call(*args)


@router.post(UPLOAD_PATH)
async def upload_student_recording(
    request: Request, file: Annotated[UploadFile, File()]
) -> dict[str, Any]:
    """Take a student's recording: validate, store it, write it down.

    The answer names the recording; every error is a problem body with its cause.
    """
    app = request.app.state
    query: Query = run_in_threadpool if app.knobs.db_call == "threadpool" else in_event_loop
    upload = Upload(app.database, app.uploader, query, request.state.timing)
    content = await read_audio(file)
    token = bearer_token(request)
    await app.check_upload_limit(request)
    await query(app.leak.upload)
    if app.knobs.db_session == "hold":
        return await upload.holding_the_session(token, content, str(file.content_type))
    return await upload.releasing_the_session(token, content, str(file.content_type))


async def read_audio(file: UploadFile) -> bytes:
    """The whole file, in memory, as the report's code reads it.

    Raises:
        Problem: ``bad_upload``: not audio (415), or empty (400).
    """
    if not (file.content_type or "").startswith("audio/"):
        raise Problem("bad_upload", f"'{file.content_type}' is not audio/*; send a WAV file", 415)
    content = await file.read()
    if not content:
        raise Problem("bad_upload", "the file is empty; send a WAV file")
    return content


class Upload:
    """One upload: the steps after validation, with the session held or released."""

    def __init__(
        self, database: Database, uploader: AudioUploader, query: Query, timing: Timing
    ) -> None:
        self._database = database
        self._uploader = uploader
        self._query = query
        self._timing = timing
        self._id = str(uuid.uuid4())

    async def releasing_the_session(
        self, token: str, content: bytes, content_type: str
    ) -> dict[str, Any]:
        """After the fix: no connection is held while storage is busy."""
        student_id = await self._query(self._authenticate_and_release, token)
        url = await self._store(student_id, content, content_type)
        await self._query(self._reopen_and_record, self._row(student_id, content))
        return self._answer(student_id, content, url)

    async def holding_the_session(
        self, token: str, content: bytes, content_type: str
    ) -> dict[str, Any]:
        """Before the fix: the connection of step 1 is kept until the end of step 5."""
        with ExitStack() as held:
            session = await self._query(
                held.enter_context, self._database.session(self._timing, "pool_wait")
            )
            student_id = await self._query(self._authenticate, session, token)
            url = await self._store(student_id, content, content_type)
            await self._query(self._record, session, self._row(student_id, content))
        return self._answer(student_id, content, url)

    def _authenticate_and_release(self, token: str) -> int:
        with ExitStack() as held:
            session = held.enter_context(self._database.session(self._timing, "pool_wait"))
            student_id = self._authenticate(session, token)
            with self._timing.stage("release"):
                held.close()
        return student_id

    def _authenticate(self, session: Session, token: str) -> int:
        with self._timing.stage("auth"):
            return authenticate(session, token)

    async def _store(self, student_id: int, content: bytes, content_type: str) -> str:
        name = self._object_name(student_id)
        return await self._uploader.upload_audio(name, content, content_type, self._timing)

    def _reopen_and_record(self, row: Recording) -> None:
        with self._database.session(self._timing, "pool_wait2") as session:
            self._record(session, row)

    def _record(self, session: Session, row: Recording) -> None:
        with self._timing.stage("write"):
            record(session, row)

    def _object_name(self, student_id: int) -> str:
        return f"recordings/{student_id}/{self._id}.wav"

    def _row(self, student_id: int, content: bytes) -> Recording:
        return Recording(
            id=self._id,
            student_id=student_id,
            object_name=self._object_name(student_id),
            size=len(content),
        )

    def _answer(self, student_id: int, content: bytes, url: str) -> dict[str, Any]:
        return {
            "recording": self._id,
            "student": student_id,
            "bytes": len(content),
            "audio_url": url,
        }
