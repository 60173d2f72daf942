"""An upload, or another journey, as HTTP: what is sent, and what an answer means.

POST /api/students/…                  multipart/form-data, field ``file``, a bearer token
GET  /api/students/progress           a bearer token
GET  /health                          nothing
200 {"recording": id}                 a success: of an assessment {"assessment": id}, of a
                                      conversion a WAV file, of the others a JSON object
RFC 9457 problem body, member cause   a failure that the backend names
any other answer                      judged by its status: from nginx, or a defect
"""

from __future__ import annotations

import json
import re

from lab.model.evidence import FROM_STATUS, Cause
from lab.model.journeys import REQUESTS, Journey
from lab.model.problem import MEDIA_TYPE, problem_cause, text_member
from lab.model.replica import ADDRESS_HEADER, address, token

_BOUNDARY = "----replica-lab-5f0c3a91d7e24b68"

WAV = "audio/wav"

_CAUSES = frozenset(Cause)
_OF_NGINX = "text/html"
"""The media type of nginx's own answers; a 500 of the application is plain text."""
_BY_STATUS = FROM_STATUS | {
    401: Cause.UNAUTHORIZED,
    429: Cause.RATE_LIMITED,
    501: Cause.BAD_UPLOAD,  # a coding, or
    505: Cause.BAD_UPLOAD,  # a version of HTTP that nobody speaks
}
_METRIC = re.compile(r'([\w-]+)(?:\s*;\s*desc=(?:"[^"]*"|[^;,]*))?\s*;\s*dur="?(\d+(?:\.\d+)?)')


_NUMBER = re.compile(r"[0-9]{1,9}")


def multipart(audio: bytes, filename: str) -> bytes:
    """The whole body of an upload of ``audio`` (RFC 7578)."""
    head = (
        f"--{_BOUNDARY}\r\n"
        f'Content-Disposition: form-data; name="file"; filename="{filename}"\r\n'
        "Content-Type: audio/wav\r\n\r\n"
    )
    return head.encode() + audio + f"\r\n--{_BOUNDARY}--\r\n".encode()


def headers(student: int, journey: Journey = Journey.UPLOAD) -> dict[str, str]:
    """The headers of a student's request, except Host and Content-Length; who asks for health
    has none of a student's."""
    accept = {"Accept": WAV if journey is Journey.CONVERT else "application/json"}
    if journey is Journey.HEALTH:
        return accept
    form = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
    return {
        "Authorization": f"Bearer {token(student)}",
        ADDRESS_HEADER: address(student),
        **(form if REQUESTS[journey].audio else {}),
        **accept,
    }


def outcome(
    status: int, content_type: str, body: bytes, journey: Journey = Journey.UPLOAD
) -> tuple[Cause | None, str | None]:
    """What an answer means: a cause and nothing, or None and the id of what was stored, if it was.

    An answer that is neither a success nor a failure of a known kind, such as a 200 without
    a recording, is a defect of the replica: `Cause.INTERNAL_ERROR`.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if status == 200:
        if member := REQUESTS[journey].names:
            stored = text_member(body, member)
            return (None, stored) if stored else (Cause.INTERNAL_ERROR, None)
        is_whole = _is_wav(kind, body) if journey is Journey.CONVERT else _is_object(body)
        return None if is_whole else Cause.INTERNAL_ERROR, None
    named = problem_cause(body) if kind == MEDIA_TYPE else None
    if named in _CAUSES:
        return Cause(named), None
    if status == 500 and kind == _OF_NGINX:
        return Cause.PROXY_ERROR, None
    other = Cause.BAD_UPLOAD if 400 <= status < 500 else Cause.INTERNAL_ERROR
    return _BY_STATUS.get(status, other), None


def _is_wav(kind: str, body: bytes) -> bool:
    """Whether an answer is a whole WAV file: as many bytes as its RIFF header says."""
    if kind != WAV or (body[:4], body[8:12]) != (b"RIFF", b"WAVE"):
        return False
    return int.from_bytes(body[4:8], "little") + 8 <= len(body)


def _is_object(body: bytes) -> bool:
    try:
        return isinstance(json.loads(body), dict)
    except (ValueError, RecursionError):
        return False


def stages(server_timing: str, speed: float) -> dict[str, float]:
    """Real-world seconds by stage, from a Server-Timing header's milliseconds of wall time."""
    return {name: round(float(ms) / 1000 * speed, 6) for name, ms in _METRIC.findall(server_timing)}


def worker_of(header: str) -> int | None:
    """The worker that an answer names; None of one that came from no worker, as nginx's own."""
    return int(header) if _NUMBER.fullmatch(header) else None
