"""A cell's observation: watch during the load, then read what was written, and audit.

with observer.watch, observer.retention ──> load … t0 known, settle ──> observer.evidence(…)
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from math import inf
from pathlib import Path

from lab.errors import PartFailed
from lab.files import cell_folder
from lab.model.evidence import (
    AUDIT,
    Audit,
    Evidence,
    Injected,
    LoadDone,
    PartDown,
    ProcessFaultRecord,
)
from lab.model.journeys import Journey
from lab.observe import Observed
from lab.observe.audit import StoredIds, audit, wait_for_quiet
from lab.observe.readings import (
    Clock,
    complete_lines,
    from_gateway,
    from_health,
    from_uploads,
    from_watch,
    from_workers,
)
from lab.observe.retention import Retention
from lab.observe.watch import Watch


class Observer:
    """Observes a cell's trial.

    Args:
        replica: the replica that is up.
        down_parts: returns the parts that are down now, with their diagnosis.
        speed: of the cell.

    Attributes:
        watch: a context to be entered during the load.
        retention: likewise.
    """

    def __init__(
        self, replica: Observed, down_parts: Callable[[], dict[str, str]], speed: float
    ) -> None:
        self._replica = replica
        self._speed = speed
        self._since = time.monotonic()
        self._until = inf
        self.watch = Watch(replica.query, replica.usage, down_parts, replica.pooler)
        self.retention = Retention(replica.query, replica.storage, replica.bucket)

    def down(self) -> dict[str, str]:
        """The parts that were seen down since the watch began, with the reason."""
        return {part: why for part, (_, why) in self.watch.seen.down.items()}

    def settle(self) -> None:
        """After the load, and before its faults are removed: wait for uploads about to end.

        Those that end later end on a replica without these faults, so what their workers record
        from then on is no evidence.
        """
        wait_for_quiet(self._replica)
        self._until = time.monotonic()

    def evidence(
        self,
        t0: float,
        samples: Path,
        faults: Iterable[Injected | ProcessFaultRecord],
        load: LoadDone,
    ) -> Iterator[Evidence]:
        """All evidence, the audit last.

        A part that is down makes the cell invalid, and may make an audit
        impossible; then an empty audit follows a `PartDown` that says why.

        Args:
            t0: when the load started, on the monotonic clock.
            samples: the load's file of samples.
            faults: what was injected.
            load: how the load ended.

        Raises:
            PartFailed: something has removed or closed a file of the replica's.
            StoreError: the samples, or such a file, cannot be read.
        """
        clock = Clock(t0, self._speed)
        try:
            yield from self._read(clock, samples, faults, load)
        except OSError as error:
            what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
            raise PartFailed(
                f"a file of the running replica cannot be read: {what}",
                "keep cleaners of temporary files from it, and run the cell again with --resume",
            ) from error

    def _read(
        self,
        clock: Clock,
        samples: Path,
        faults: Iterable[Injected | ProcessFaultRecord],
        load: LoadDone,
    ) -> Iterator[Evidence]:
        yield from faults
        yield from from_workers(self._replica.evidence, clock, self._since)
        yield from from_health(self._replica.evidence, clock, self._since)
        yield from from_gateway(self._replica.evidence, clock, self._since)
        yield from from_watch(self.watch.seen, clock)
        audited = list(self._audit(samples, clock))
        yield from from_uploads(self._replica.evidence, clock, self._since, self._until)
        yield load
        yield from audited

    def _audit(self, samples: Path, clock: Clock) -> Iterator[PartDown | Audit]:
        try:
            told = StoredIds(answered(samples), answered(samples, Journey.ASSESS))
            yield audit(self._replica, told, self.retention.verified, clock)
        except PartFailed as error:
            t = clock(time.monotonic())
            yield PartDown(t=t, part=AUDIT, why=str(error))
            yield Audit(t=t, rows=0, objects=0, lost=[], orphans=[], refused=0)


def answered(samples: Path, journey: Journey = Journey.UPLOAD) -> set[str]:
    """The ids of what was stored by all samples of a journey that were answered 200.

    An unfinished line is ignored, and one that is not the load's: it is told when the cell is
    judged.

    Raises:
        StoreError: they cannot be read, or are no regular file.
    """
    found = set()
    for line in complete_lines(cell_folder(samples.parent), samples.name):
        with suppress(ValueError, RecursionError, TypeError):
            match {"journey": Journey.UPLOAD, **json.loads(line)}:
                case {"recording": str(stored), "journey": of} if stored and of == journey:
                    found.add(stored)
    return found
