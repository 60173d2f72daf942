"""The run folder: written in phases, each file whole or not there; resumed, listed, looked up."""

from lab.store.cells import CellFolder
from lab.store.listing import by_name, find, names, of_experiment, runs
from lab.store.runs import RunFolder, digest

__all__ = [
    "CellFolder",
    "RunFolder",
    "by_name",
    "digest",
    "find",
    "names",
    "of_experiment",
    "runs",
]
