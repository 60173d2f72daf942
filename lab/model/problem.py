"""The body of an answer that names its error: RFC 9457 problem details, with a member ``cause``.

The backend and the gateway answer so, and the load generator counts failures by ``cause``.
"""

from __future__ import annotations

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
