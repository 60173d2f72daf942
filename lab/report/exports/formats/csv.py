"""CSV: ``samples.csv`` and ``cells.csv``, with a header, in UTF-8 (RFC 4180, lines end in LF).

A spreadsheet takes a text that begins as a formula does for one and carries it out. So such a text
gets an apostrophe before it, which a spreadsheet does not show; numbers are as they are. What
cannot be seen, as the escapes that a terminal obeys, is written out.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator

from lab.model.text import clean_line
from lab.report.exports import rows
from lab.report.exports.rows import Rows, Scalar
from lab.report.exports.run import Format

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""How a text begins that a spreadsheet may take for a formula, in full width too."""


def safe(value: Scalar) -> Scalar:
    """What is written for a value."""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return value
    text = clean_line(value)
    begins = value.lstrip(" ").startswith(FORMULA) or text.lstrip(" ").startswith(FORMULA)
    return f"'{text}" if begins else text


def lines(table: Rows) -> Iterator[bytes]:
    """The table's lines, a group of rows at a time."""
    yield _written([[column.name for column in table.columns]])
    for group in table.groups:
        yield _written(group)


def _written(group: Iterable[Iterable[Scalar]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([safe(value) for value in row] for row in group)
    return text.getvalue().encode()


FORMAT = Format(
    "a table of samples and one of cells, for a spreadsheet",
    {
        "samples.csv": lambda run: lines(rows.samples(run)),
        "cells.csv": lambda run: lines(rows.cells(run)),
    },
)
