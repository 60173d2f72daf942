"""The run folder: phased, atomic, resumable."""

from lab.store.cells import CellFolder
from lab.store.digests import digest
from lab.store.listing import find, runs
from lab.store.runs import RunFolder

__all__ = ["CellFolder", "RunFolder", "digest", "find", "runs"]
