"""What the live page calls things, for who has not seen the code."""

from __future__ import annotations

from collections.abc import Mapping

from lab.model.run import Phase

PHASES: Mapping[Phase, str] = {
    "applying": "settings are applied",
    "arming": "faults are injected",
    "ramp": "users come",
    "warm-up": "warm-up",
    "window": "window",
    "drain": "last answers",
    "auditing": "audit for lost uploads",
    "judging": "verdict",
    "waiting": "wait for a quiet machine",
}
"""What goes on in a phase."""

STAGES: Mapping[str, str] = {
    "": "event loop, proxy and network",
    "queue": "queue for an instance",
    "cold": "instance starts",
    "anyio_queue": "wait for anyio's thread",
    "pool_wait": "wait for a connection",
    "auth": "who is it (database)",
    "release": "session closed (database)",
    "gcs_queue": "wait for a storage thread",
    "gcs": "storage call",
    "speech_queue": "wait for a speech thread",
    "speech": "speech service",
    "convert_queue": "wait for an audio thread",
    "convert": "conversion",
    "pool_wait2": "wait for a connection again",
    "read": "progress read (database)",
    "write": "progress written (database)",
}
"""The stages of an upload, and of what else users ask for."""

WAITS = frozenset(
    {"", "queue", "cold", "anyio_queue", "pool_wait", "gcs_queue", "speech_queue"}
    | {"convert_queue", "pool_wait2"}
)
"""The stages in which it waits; in the others something is done for it."""
