"""The upload as HTTP: what is sent, and what an answer means.

POST /api/students/upload-recording   multipart/form-data, field ``file``, a bearer token
200 {"recording": id}                 a success
RFC 9457 problem body, member cause   a failure that the backend names
any other answer                      judged by its status: from nginx, or a defect
"""

from __future__ import annotations

import re

from lab.model.evidence import FROM_STATUS, Cause
from lab.model.problem import MEDIA_TYPE, problem_cause, text_member
from lab.model.replica import ADDRESS_HEADER, address, token

_BOUNDARY = "----replica-lab-5f0c3a91d7e24b68"

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


def headers(student: int) -> dict[str, str]:
    """The headers of a student's upload, except Host and Content-Length."""
    return {
        "Authorization": f"Bearer {token(student)}",
        ADDRESS_HEADER: address(student),
        "Content-Type": f"multipart/form-data; boundary={_BOUNDARY}",
        "Accept": "application/json",
    }


def outcome(status: int, content_type: str, body: bytes) -> tuple[Cause | None, str | None]:
    """What an answer means: a cause and nothing, or None and the recording's id.

    An answer that is neither a success nor a failure of a known kind, such as a 200 without
    a recording, is a defect of the replica: `Cause.INTERNAL_ERROR`.
    """
    if status == 200:
        recording = text_member(body, "recording")
        return (None, recording) if recording else (Cause.INTERNAL_ERROR, None)
    kind = content_type.partition(";")[0].strip().lower()
    named = problem_cause(body) if kind == MEDIA_TYPE else None
    if named in _CAUSES:
        return Cause(named), None
    if status == 500 and kind == _OF_NGINX:
        return Cause.PROXY_ERROR, None
    other = Cause.BAD_UPLOAD if 400 <= status < 500 else Cause.INTERNAL_ERROR
    return _BY_STATUS.get(status, other), None


def stages(server_timing: str, speed: float) -> dict[str, float]:
    """Real-world seconds by stage, from a Server-Timing header's milliseconds of wall time."""
    return {name: round(float(ms) / 1000 * speed, 6) for name, ms in _METRIC.findall(server_timing)}


def worker_of(header: str) -> int | None:
    """The worker that an answer names; None of one that came from no worker, as nginx's own."""
    return int(header) if _NUMBER.fullmatch(header) else None
