"""Health probes, as evidence: who asks /health, and ends what does not answer."""

from __future__ import annotations

from typing import Literal

from lab.model.base import Count, Frozen, Moment


class ProbeRecord(Frozen):
    """A health probe that failed, and what followed from it.

    Args:
        event: ``failed``; ``ended``: so many failed in a row that what was asked is ended now;
            ``back``: the VM's backend serves again. On Cloud Run another instance is started.
        instance: Cloud Run's that was asked; empty on the VM.
        why: how it failed, in a few words.
        in_row: how many had failed by then without one that was answered between.
    """

    kind: Literal["probe"] = "probe"
    t: Moment
    event: Literal["failed", "ended", "back"]
    instance: str = ""
    why: str = ""
    in_row: Count = 0
