"""Parquet: ``samples.parquet`` and ``cells.parquet``, typed, with what is not there as null.

A group of rows is the samples of one cell. The names of run and spec are in the metadata.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lab.errors import MissingComponent
from lab.report.exports import rows
from lab.report.exports.rows import Kind, Rows
from lab.report.exports.run import ExportedRun, Format

PACKAGE = "pyarrow"


def needed(name: str) -> Any:
    """A module of the package that writes Parquet, which an extra installs.

    Raises:
        MissingComponent: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingComponent(
            f"Parquet takes {PACKAGE}, which is not installed ({error})",
            "install it, as `pip install replica-lab[parquet]`, or write --to csv",
        ) from None


class _Written:
    """A file in memory, of which what was written since is taken."""

    closed = False

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def write(self, data: Any) -> int:
        self._pieces.append(bytes(data))
        self._size += len(self._pieces[-1])
        return len(self._pieces[-1])

    def tell(self) -> int:
        return self._size

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        self.closed = True

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def take(self) -> bytes:
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data


def written(table: Rows, metadata: Mapping[str, str]) -> Iterator[bytes]:
    """A table as Parquet, a group of rows at a time.

    Raises:
        MissingComponent: the package is not installed.
    """
    arrow, parquet = needed(PACKAGE), needed(f"{PACKAGE}.parquet")
    types: Mapping[Kind, Any] = {
        "text": arrow.string(),
        "real": arrow.float64(),
        "whole": arrow.int64(),
        "truth": arrow.bool_(),
    }
    fields = [arrow.field(column.name, types[column.kind]) for column in table.columns]
    schema = arrow.schema(fields, metadata=dict(metadata))
    file = _Written()
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        for group in table.groups:
            if group:
                columns = zip(*group, strict=True)
                arrays = [
                    arrow.array(values, field.type)
                    for values, field in zip(columns, fields, strict=True)
                ]
                writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))
            yield file.take()
    yield file.take()


def _writer(table: Callable[[ExportedRun], Rows]) -> Callable[[ExportedRun], Iterator[bytes]]:
    def write(run: ExportedRun) -> Iterator[bytes]:
        info = run.info
        metadata = {"run": info.name, "experiment": info.experiment.experiment}
        return written(table(run), metadata)

    return write


FORMAT = Format(
    f"the same as csv, typed, for a data frame; takes {PACKAGE}",
    {"samples.parquet": _writer(rows.samples), "cells.parquet": _writer(rows.cells)},
)
