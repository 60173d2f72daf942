"""One cell's observation: watch while the load runs, then collect and audit.

with observer.watch(replica) ──> load … t0 known ──> observer.evidence(…) ──> [Evidence]
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from lab.errors import PartFailed
from lab.model.evidence import (
    Audit,
    Evidence,
    Injected,
    LoadDone,
    PartDown,
    ProcessFaultRecord,
    Usage,
)
from lab.observe.audit import audit
from lab.observe.readings import Clock, from_front, from_watch, from_workers
from lab.observe.retention import Retention
from lab.observe.watch import Watch

APP_ROLE = "app"


class Observed(Protocol):
    """What the observer needs to know of a replica; `lab.stack`'s ``Replica`` is one."""

    @property
    def storage(self) -> str: ...
    @property
    def bucket(self) -> str: ...
    @property
    def evidence(self) -> Path: ...
    @property
    def usage(self) -> Callable[[], Mapping[str, Usage]]: ...
    @property
    def refused(self) -> Callable[[], int]: ...
    @property
    def query(self) -> Callable[..., list[tuple[Any, ...]]]: ...
    @property
    def inflight(self) -> Callable[[], int]: ...


class Observer:
    """Observes one cell's trial.

    Args:
        replica: the replica that is up.
        down_parts: the parts that are down now, with a diagnosis each.
        speed: of the cell.
    """

    def __init__(
        self, replica: Observed, down_parts: Callable[[], dict[str, str]], speed: float
    ) -> None:
        self._replica = replica
        self._speed = speed
        self._since = time.time()
        self.watch = Watch(replica.query, APP_ROLE, replica.usage, down_parts)
        self.trim = Retention(replica.query, replica.storage, replica.bucket)

    def down(self) -> dict[str, str]:
        """The parts that were seen down since the watch began."""
        return {part: why for part, (_, why) in self.watch.seen.down.items()}

    def evidence(
        self,
        t0: float,
        samples: Path,
        injected: Iterable[Injected | ProcessFaultRecord],
        load: LoadDone,
    ) -> Iterator[Evidence]:
        """All evidence, the audit last; `t0` is the load's start, in seconds since 1970.

        A part that is down makes the cell invalid, and may make an audit impossible; then
        the audit is of nothing, and the `PartDown` before it says why.
        """
        clock = Clock(t0, self._speed)
        yield from injected
        yield from from_workers(self._replica.evidence, clock, self._since)
        yield from from_front(self._replica.evidence, clock, self._since)
        yield from from_watch(self.watch.seen, clock)
        yield load
        try:
            yield self._audit(clock, samples)
        except PartFailed as error:
            yield PartDown(t=clock(time.time()), part="audit", why=str(error))
            yield Audit(t=clock(time.time()), rows=0, objects=0, lost=[], orphans=[], refused=0)

    def _audit(self, clock: Clock, samples: Path) -> Audit:
        found = audit(
            answered(samples) - self.trim.verified,
            self._replica.query,
            self._replica.storage,
            self._replica.bucket,
            self._replica.inflight,
            self._replica.refused,
        )
        return Audit(
            t=clock(time.time()),
            rows=found.rows + len(self.trim.verified),
            objects=found.objects + len(self.trim.verified),
            lost=list(found.lost),
            orphans=list(found.orphans),
            inflight=found.inflight,
            refused=found.refused,
        )


def answered(samples: Path) -> set[str]:
    """The recording ids of all samples that were answered 200; whole lines only."""
    names = set()
    for line in samples.read_bytes().split(b"\n")[:-1]:
        recording = json.loads(line)["recording"]
        if recording:
            names.add(recording)
    return names
