"""Networks made by hand, of which something is known in closed form."""

from __future__ import annotations

from typing import Any

from lab.capacity.network import Connections, Network

INSTANT: dict[str, Any] = {
    "auth": 0.0,
    "release": 0.0,
    "write": 0.0,
    "held": False,
    "threads": 0,
    "pool_size": 20.0,
    "max_overflow": 0.0,
    "pool_timeout": 10.0,
    "checkout": 0.0,
    "connect": 0.0,
    "slots": 100,
}
"""A database that takes no time."""


def network(database: dict[str, Any] | None = None, **more: Any) -> Network:
    """One worker of four threads, whose storage takes 3 s and whose loop takes no time."""
    known: dict[str, Any] = {
        "workers": 1,
        "threads": 4,
        "blocks_loop": False,
        "lead": 0.0,
        "balance": "shared_socket",
        "cpu_before": 0.0,
        "cpu_after": 0.0,
        "storage": (3.0, 3.0),
        "network": 0.0,
        "ramp": 0.0,
    }
    return Network(database=Connections(**{**INSTANT, **(database or {})}), **{**known, **more})


BLOCKING = {"auth": 0.05, "release": 0.025, "write": 0.1}
"""The report's queries."""
