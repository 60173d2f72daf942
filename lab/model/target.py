"""Where the backend runs: on the VM behind nginx, or on Cloud Run behind its front."""

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
