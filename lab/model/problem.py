"""The body of an answer that names its error: RFC 9457 problem details, with a member ``cause``.

The backend and the gateway answer so, and the load generator counts failures by ``cause``.
"""

from __future__ import annotations

import json

MEDIA_TYPE = "application/problem+json"


def problem_body(cause: str, detail: str, status: int) -> dict[str, str | int]:
    """The members ``type``, ``title``, ``status``, ``detail`` and our own, ``cause``.

    Args:
        cause: the error, as the lab names it (`lab.model.evidence.Cause`).
        detail: what happened, for people.
        status: the HTTP status of the answer.
    """
    return {
        "type": f"urn:problem:{cause}",
        "title": cause.replace("_", " "),
        "status": status,
        "detail": detail,
        "cause": cause,
    }


def problem_cause(body: bytes) -> str | None:
    """The cause that a problem body names; None of any other body."""
    return text_member(body, "cause")


def text_member(body: bytes, name: str) -> str | None:
    """A text member of a JSON object; None if there is none."""
    try:
        document = json.loads(body)
    except ValueError:
        return None
    value = document.get(name) if isinstance(document, dict) else None
    return value if isinstance(value, str) else None
