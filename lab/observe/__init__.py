"""Readings of a replica: from its workers and the watch during a load, then from the audit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from lab.model.evidence import Shortage
from lab.model.pooler import PoolerState
from lab.model.readings import Usage

Query = Callable[..., list[tuple[Any, ...]]]
"""Runs SQL with its values as superuser, over a connection that is kept open for it."""


class Observed(Protocol):
    """What can be observed of a replica; ``lab.stack.base.Replica`` describes the attributes."""

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
    def shortages(self) -> Callable[[], list[Shortage]]: ...
    @property
    def query(self) -> Query: ...
    @property
    def inflight(self) -> Callable[[], int]: ...
    @property
    def pooler(self) -> Callable[[], PoolerState] | None: ...
