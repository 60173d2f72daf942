"""The platform's rules: figures, texts and formulas; docs/cloudrun.md has their sources."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from lab.model.problem import problem_body
from lab.model.replica import PLATFORM_BODY

MAX_BODY = PLATFORM_BODY
MAX_HEAD = 64 * 1024
"""Bytes of a request's line and fields; the lab's own, so that no client fills the gateway's memory
with a head that does not end. The platform's is not published for Cloud Run."""
STARTUP_PROBE_S = 240.0
"""Seconds within which an instance must listen ("Container runtime contract")."""
TERM_GRACE_S = 10.0
"""Seconds from SIGTERM to SIGKILL ("Container runtime contract")."""
BOOST_AFTER_S = 10.0
"""Seconds that the boost outlasts the start-up ("Configure CPU limits for services")."""
PENDING_FACTOR = 3.5
"""Mean start-ups that a request waits at most ("About instance autoscaling")."""

PROBE_EVERY_S = 0.02
"""Seconds between two probes of whether an instance listens; the lab's own."""
BACKOFF_S, MAX_BACKOFF_S = 1.0, 10.0
"""Pause after a failed start-up, doubled by each further one; the platform's is not published."""
KILL_WITHIN_S = 10.0
"""Seconds in which SIGKILL must end an instance before the lab gives up; the lab's own."""


@dataclass(frozen=True)
class Refusal:
    """An answer that the platform gives instead of an instance.

    Args:
        status: of HTTP.
        cause: as the lab names it, in the problem body.
        detail: the platform's own text.
    """

    status: int
    cause: str
    detail: str

    @property
    def body(self) -> bytes:
        """The problem body, as JSON."""
        return json.dumps(problem_body(self.cause, self.detail, self.status)).encode()


NO_INSTANCE = Refusal(
    429, "no_instance", "The request was aborted because there was no available instance."
)
TOO_LARGE = Refusal(413, "too_large", "The request body is larger than 32 MiB.")
HEAD_TOO_LARGE = Refusal(431, "bad_upload", "The request's header fields are larger than 64 KiB.")
NOT_HTTP = Refusal(400, "bad_upload", "The request is not well-formed HTTP.")
REQUEST_TIMEOUT = Refusal(
    504,
    "request_timeout",
    "The request has been terminated because it has reached the maximum request timeout.",
)
_BROKEN = (
    "The request failed because either the HTTP response was malformed or connection to the "
    "instance had an error."
)
INSTANCE_DIED = Refusal(503, "instance_died", _BROKEN)
MALFORMED = Refusal(503, "bad_gateway", _BROKEN)
WILL_NOT_START = Refusal(
    503,
    "instance_died",
    "The user-provided container failed to start and listen on the port defined by the PORT "
    "environment variable.",
)
CLOSING = Refusal(503, "no_instance", "The service is being stopped.")


def longest_wait(pending: float, starts: Sequence[float], ongoing: Sequence[float]) -> float:
    """Seconds that a request waits for an instance before it is given up.

    max(``pending``, 3.5 × mean start-up). Before any start-up has ended, those under way count
    with the time that they have taken so far: the platform knows a mean from the start at
    deployment, which the lab does not make.

    Args:
        pending: the knob, in seconds.
        starts: how long start-ups have taken, in seconds.
        ongoing: how long those under way have taken so far.
    """
    known = starts or ongoing
    mean = sum(known) / len(known) if known else 0.0
    return max(pending, PENDING_FACTOR * mean)


def backoff(failures: int) -> float:
    """Seconds before the next start after this many failed starts in a row; 0 after none."""
    return min(MAX_BACKOFF_S, BACKOFF_S * 2 ** (failures - 1)) if failures else 0.0


def boosted(cpus: float) -> float:
    """CPUs of a boosted instance: 2 for up to 1 CPU, 4 for up to 2, 8 above that.

    The table in "Configure CPU limits for services", Startup CPU boost.
    """
    return 2.0 if cpus <= 1 else 4.0 if cpus <= 2 else 8.0
