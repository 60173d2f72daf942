"""The test students: who may upload, and from which address each one comes."""

from __future__ import annotations

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
