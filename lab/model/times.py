"""What a trial's uploads took, stored with its verdict: all that a search by a model reads of it.

    samples, records, readings ─> TrialTimes (verdict.json) ─> the search for a capacity

It is worked out once, where the evidence is judged, so that a search never reads the evidence
again, and two searches of the same verdicts come to the same answer.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from lab.model.base import Elapsed, Frozen, Moment, Total

STAGES = ("auth", "release", "write")
"""The stages of an upload beside storage's, as ``Server-Timing`` calls them."""

MAX_UPLOADS = 60_000
"""Of a trial with more, no times are stored: its counts alone say enough, and a verdict stays
below the size that is read of one."""


class TrialTimes(Frozen):
    """The successes of a window one by one, and the means of its stages.

    Three arrays of one length, in the order of sending, an item a success:

    Args:
        sent: real-world seconds after the window's begin.
        latency: seconds from sending to the answer.
        storage: of these, the seconds of the call to storage.
        failed: when each upload that failed was sent, likewise.
        stages: the mean seconds of each stage but storage's, over the successes.
        halves: the same of those sent in the first half of the window, and in the second.
        halves_error: the standard error of what all stages together differ by between them.
        cpu: seconds of CPU of an upload in its worker; None where that was not read.
        loop: the busiest event loop's share of time in which it did not wait; None likewise.
        inside: the mean number of uploads inside each worker, the most first; empty where not
            all workers were read, or one was replaced.
        drain: seconds from the window's end to the last answer.
        speed: of the trial, at which its own work took so many real-world seconds more.
    """

    sent: tuple[Moment, ...] = ()
    latency: tuple[Elapsed, ...] = ()
    storage: tuple[Elapsed, ...] = ()
    failed: tuple[Moment, ...] = ()
    stages: dict[str, Elapsed] = {}
    halves: dict[str, tuple[Elapsed, Elapsed]] = {}
    halves_error: Elapsed = 0.0
    cpu: Total | None = None
    loop: Total | None = None
    inside: tuple[Total, ...] = ()
    drain: Elapsed = 0.0
    speed: Annotated[float, Field(gt=0, le=1000)] = 1.0

    @model_validator(mode="after")
    def _of_one_length(self) -> Self:
        if not len(self.sent) == len(self.latency) == len(self.storage):
            raise ValueError("sent, latency and storage are not of one length")
        return self
