"""What this process does on the signals that the command listens to: what it starts inherits it."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Any

Handlers = Mapping[signal.Signals, Any]


def handlers() -> Handlers:
    """What it does now."""
    return {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}


def restore(before: Handlers) -> None:
    """Let it do what it did before."""
    for each, handler in before.items():
        signal.signal(each, handler)
