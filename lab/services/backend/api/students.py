"""POST /api/students/upload-recording: the upload, in the report's five steps.

1 validate and authenticate   a query               pool_wait, auth
2 close the session           a round trip          release       (db_session: release)
3 upload to the bucket        2-5 s                 gcs_queue, gcs
4 reopen a session            maybe a connection    pool_wait2    (db_session: release)
5 write progress, commit      four round trips      write
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Annotated, Any

from fastapi import APIRouter, File, Request, UploadFile
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from lab.model.replica import UPLOAD_PATH
from lab.services.backend.core.problems import Problem, cause_of
from lab.services.backend.core.uploads import Timing
from lab.services.backend.database import Database, Recording, Student, StudentProgress
from lab.services.backend.services.audio_upload import AudioUploader

router = APIRouter()

LONGEST_TYPE = 255
"""Characters of a media type and its parameters; its two names have 127 at most (RFC 6838, 4.2)."""

SHOWN = 80
"""Characters of a wrong media type that its answer repeats."""

_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = r'"(?:[\t !#-\[\]-~]|\\[\t -~])*"'
_PARAMETER = rf"[ \t]*+;[ \t]*+(?:{_NAME}=(?:{_NAME}|{_QUOTED}))?+"
MEDIA_TYPE = re.compile(rf"audio/{_NAME}(?:{_PARAMETER})*+[ \t]*+", re.IGNORECASE)
"""``audio/subtype`` with parameters, as RFC 9110, 5.6.6 and 8.3.1, write it; ASCII alone.

Nothing is tried twice (``*+``): blanks between semicolons could else be split in endless ways.
"""

Query = Callable[..., Awaitable[Any]]


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
    query = in_anyio_thread(timing) if app.knobs.db_call == "threadpool" else in_event_loop
    upload = Upload(app.database, app.uploader, query, timing)
    content = await read_audio(file)
    token = bearer_token(request)
    await app.check_upload_limit(request)
    await query(app.leak.upload, timing)
    if app.knobs.db_session == "hold":
        return await upload.holding_the_session(token, content, str(file.content_type))
    return await upload.releasing_the_session(token, content, str(file.content_type))


async def in_event_loop(call: Callable[..., Any], *args: Any) -> Any:
    """``db_call: blocking``: a synchronous call directly from the coroutine, as found."""
    return call(*args)


def in_anyio_thread(timing: Timing) -> Query:
    """``db_call: threadpool``: a call in one of anyio's threads; the wait for one is a stage."""

    async def query(call: Callable[..., Any], *args: Any) -> Any:
        def in_thread() -> Any:
            timing.end()
            return call(*args)

        timing.begin("anyio_queue")
        return await run_in_threadpool(in_thread)

    return query


async def read_audio(file: UploadFile) -> bytes:
    """The whole file, in memory, as the report's code reads it.

    Raises:
        Problem: ``bad_upload``: no content type or not audio (415), or empty (400).
    """
    if not file.content_type:
        raise Problem("bad_upload", "the file has no content type; send it as audio/wav", 415)
    if not is_audio(file.content_type):
        shown = file.content_type[:SHOWN]
        raise Problem("bad_upload", f"{shown!r} is not audio/*; send a WAV file", 415)
    content = await file.read()
    if not content:
        raise Problem("bad_upload", "the file is empty; send a WAV file")
    return content


def is_audio(content_type: str) -> bool:
    """Whether a media type is well-formed, and audio, in any case (RFC 9110, 8.3.1).

    Storage gets it as it is, in a header of its own: what is not well-formed, it would fail of.
    """
    return len(content_type) <= LONGEST_TYPE and MEDIA_TYPE.fullmatch(content_type) is not None


def bearer_token(request: Request) -> str:
    """The token of the Authorization header.

    Raises:
        Problem: ``unauthorized``, without a query being made.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Problem("unauthorized", "send a header 'Authorization: Bearer <token>'")
    return token


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
        student_id = await self._query(self._authenticate_and_release, token)
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


def authenticate(session: Session, token: str) -> int:
    """Step 1, one query, about 50 ms away (BEGIN, SELECT): the id of the token's student.

    Raises:
        Problem: ``unauthorized``, no student has this token.
    """
    student = session.scalar(select(Student).where(Student.token == token))
    if student is None:
        raise Problem("unauthorized", "no student has this token")
    return student.id


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
