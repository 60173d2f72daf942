"""The run folder: phased, atomic, resumable."""

from lab.store.cells import CellFolder
from lab.store.listing import find, runs
from lab.store.runs import RunFolder, digest

__all__ = ["CellFolder", "RunFolder", "digest", "find", "runs"]
