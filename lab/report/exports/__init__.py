"""A stored run in formats that other programs read.

A format is a file of `formats`, named as the format, that holds it as ``FORMAT``; to add one, add
its file. What several share is here:

    run      what is exported, and a format
    rows     samples and cells as rows of a table
    clock    the moment of each cell
    spans    an upload, its stages, and what its worker recorded
"""

from __future__ import annotations

import importlib
import pkgutil

from lab.report.exports import formats
from lab.report.exports.run import ExportedCell, ExportedRun, Format

__all__ = ["NAMES", "ExportedCell", "ExportedRun", "Format", "format_named"]

NAMES = tuple(sorted(module.name for module in pkgutil.iter_modules(formats.__path__)))
"""The formats that there are."""


def format_named(name: str) -> Format:
    """The format of a name among `NAMES`; its file is imported now."""
    found: Format = importlib.import_module(f"{formats.__name__}.{name}").FORMAT
    return found
