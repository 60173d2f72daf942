"""How the uploads of a window are distributed: by size of file, by what their time went to, by
latency. Times are real-world seconds.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from lab.model.base import Bytes, Count, Elapsed, Frozen, Stored


class SizeClass(Stored):
    """The uploads of the window whose file is above ``from``, or as large in the first class.

    Args:
        from_: bytes of file, ``from`` on disk.
        to: bytes; a file as large is still in it.
        attempts: uploads that were sent.
        failed: of these.
        causes: how many failed of which cause.
        p50: median latency of the successes, in real-world seconds; None of none.
        p95: 95th percentile, likewise.
    """

    from_: Annotated[Bytes, Field(alias="from")]
    to: Bytes
    attempts: Count
    failed: Count
    causes: dict[str, Count] = {}
    p50: Elapsed | None = None
    p95: Elapsed | None = None


class TimeSpent(Frozen):
    """Seconds for which one station kept or served uploads, those of all adding up to latency.

    Args:
        station: as `lab.judge.waiting.Station`.
        mean: of all successes of the window; None of none.
        slow: of those that took as long as p95, from the 93rd to the 97th percentile; likewise.
        failed: of the failures, until they were known; likewise.
    """

    station: str
    mean: Elapsed | None
    slow: Elapsed | None
    failed: Elapsed | None


class Latencies(Frozen):
    """How many uploads of the window took how long, in classes that grow with the latency.

    Args:
        edges: real-world seconds at which a class ends and the next begins; one more than classes.
        succeeded: successes of each class.
        failed: failures of each class, by when they were known.
    """

    edges: list[Elapsed]
    succeeded: list[Count]
    failed: list[Count]
