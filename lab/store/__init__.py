"""The run folder: written in phases, each file whole or not there; resumed, listed, looked up."""

from lab.store.cells import CellFolder
from lab.store.listing import find, of_experiment, runs
from lab.store.runs import RunFolder, digest

__all__ = ["CellFolder", "RunFolder", "digest", "find", "of_experiment", "runs"]
