"""Where the backend runs: on the VM behind nginx, or on Cloud Run behind its front.

The test students: who may upload, and from which address each one comes.
"""

from __future__ import annotations

from typing import Literal, get_args

from lab.model.knobs import Knobs

Target = Literal["vm", "cloudrun"]

TARGETS: tuple[Target, ...] = get_args(Target)

_SHARED = ("postgres", "fake-gcs-server", "toxiproxy")

PARTS: dict[Target, tuple[str, ...]] = {
    "vm": (*_SHARED, "backend", "nginx"),
    "cloudrun": (*_SHARED, "front"),
}
"""The parts of a replica, in the order in which they need each other.

Instances are no parts: they come and go, and that one dies is a result.
"""

UPLOAD_PATH = "/api/students/upload-recording"


def contradiction(target: Target, knobs: Knobs) -> tuple[str, str] | None:
    """What these knobs cannot be *together* on this target, and the remedy; None if nothing is."""
    if target == "vm":
        return None
    if knobs.speed != 1:
        return (
            f"speed {knobs.speed:g} with target cloudrun: no speed shortens the start of an "
            "instance",
            "leave speed out, or use target vm",
        )
    return knobs.contradiction()


STUDENTS = 5000
"""How many there are; a load may have no more users."""

ADDRESS_HEADER = "X-Lab-Client-Address"
"""The header in which the generator names a user's address.

All users of a replica share one loopback address. nginx takes this header, from loopback
only, for the client's address (realip), and does not pass it on.
"""


def token(number: int) -> str:
    """The bearer token of student ``number``, counted from 0; the database holds the same."""
    return f"student-token-{number:05d}"


def address(number: int) -> str:
    """An IPv4 address of its own for each student, from the range for benchmarks (RFC 2544)."""
    return f"198.18.{number // 250}.{number % 250 + 1}"
