"""A trial over time: by stage, by second, where each limit was crossed, and what failed when.

Times are real-world seconds after the load started. An upload belongs to the moment at
which it was *sent*, and to the number of users there were then; it is followed to its end.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from lab.model.outcome import Outcome

POINTS = 300
"""The most points that a series has."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StageResult(_Part):
    """One stage of a load in stages, judged as a cell is: its metrics, and what it missed.

    ``users`` is what the stage goes to, ``start`` and ``end`` are its ramp's begin and its
    hold's end.
    """

    index: int
    users: int
    start: float
    end: float
    outcome: Outcome
    reasons: tuple[str, ...]
    metrics: dict[str, float]


class Series(_Part):
    """Figures over time, each a list with a value a bin; None where nothing was measured.

    Bin i runs from ``start + i * bin_s`` for ``bin_s`` seconds. By bin: ``users`` at its end,
    ``sent``, ``answered`` (successes, when their answer came) and ``errors`` (failures, when
    they came) a second, ``p95`` of the successes sent in the ``window_s`` seconds up to the
    bin's end, and the peaks of ``pg_connections``, ``pool_checked_out`` and ``uploads_inflight``.
    """

    start: float
    bin_s: float
    window_s: float
    users: list[int]
    sent: list[float]
    answered: list[float]
    errors: list[float]
    p95: list[float | None]
    pg_connections: list[int | None]
    pool_checked_out: list[int | None]
    uploads_inflight: list[int | None]


class Crossing(_Part):
    """Where a criterion's bound was crossed first.

    Args:
        criterion: as the spec writes it.
        t: when the evidence sufficed to say so: the last upload of the stretch that shows it
            was sent, and the bad ones were known to be; or one reading shows it.
        users: how many there were when the last upload of the stretch was sent, or then.
        since: when the first bad upload of the stretch was sent; equal to ``t`` where one
            reading shows it.
        since_users: how many users there were then.
        value: the metric of that stretch, in its own unit.
        samples: how many uploads the stretch holds; None where a reading shows it.
    """

    criterion: str
    t: float
    users: int
    since: float
    since_users: int
    value: float
    samples: int | None = None


class Failure(_Part):
    """A way to fail, and when it first showed.

    Args:
        cause: the uploads' cause, ``oom_kill``, or the part that went down.
        t: when the first such failure came.
        users: how many users there were when that upload was sent.
        count: how many there were in all.
    """

    cause: str
    t: float
    users: int
    count: int


class Course(_Part):
    """All that is said of a trial over time; ``failures`` are in the order in which they came."""

    stages: tuple[StageResult, ...] = ()
    series: Series | None = None
    crossings: tuple[Crossing, ...] = ()
    failures: tuple[Failure, ...] = ()
