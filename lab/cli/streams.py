"""Standard output and error, as the lab writes to them.

What is written is cleaned, unless it is `Styled`: a terminal obeys nobody but the lab. A reader
who leaves, or a disk that is full, ends nothing: what comes after is dropped, and `lost_output`
says at the end what became of it.

    code of the command        nothing lost   its reader left   it cannot be written
    an answer (0, 1, 4), or an error  kept          kept          kept, and a line says so
    none: it only prints               0             0             3, and a line says so

Standard error carries messages; where it cannot, they are lost, and no code changes.
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from typing import Any, TextIO, cast

from lab.errors import MachineError
from lab.model.text import Styled, clean


def hold_low_descriptors() -> None:
    """Open what is closed of descriptors 0, 1 and 2, so that no other file gets such a number.

    Whoever starts the lab may close them (``lab run … 2>&-``); what is printed would then be
    written into a socket or a result. Standard output is opened for reading alone: a write still
    fails, as it does on a descriptor that is closed.
    """
    for number, mode in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # the lowest number that is free: this one


class Stream:
    """A text stream that cleans what it is given, and that never raises for its reader."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.problem: OSError | None = None

    def write(self, text: str) -> int:
        """Write a text, cleaned; or drop it, once a write has failed."""
        fit = text if isinstance(text, Styled) else clean(text)
        encoding = self._stream.encoding or "utf-8"
        if not fit.isascii():  # a locale may hold fewer characters than a text has
            fit = fit.encode(encoding, "backslashreplace").decode(encoding)
        if not self.problem:
            try:
                self._stream.write(fit)
            except OSError as error:
                self._give_up(error)
        return len(text)

    def flush(self) -> None:
        """Hand on what is buffered; or drop it."""
        if not self.problem:
            try:
                self._stream.flush()
            except OSError as error:
                self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """From now on the descriptor leads nowhere: the interpreter flushes it once more."""
        self.problem = error
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def install() -> tuple[Stream, Stream]:
    """Put both streams in the place of Python's own; returns output and error."""
    hold_low_descriptors()
    out = Stream(sys.stdout or os.fdopen(1, "w", encoding="utf-8", closefd=False))
    err = Stream(sys.stderr or os.fdopen(2, "w", encoding="utf-8", closefd=False))
    sys.stdout, sys.stderr = cast(TextIO, out), cast(TextIO, err)
    return out, err


def lost_output(out: Stream) -> MachineError | None:
    """What became of the output, if it could not be written; a reader who has left wants none."""
    out.flush()
    problem = out.problem
    if problem is None or problem.errno == errno.EPIPE:
        return None
    why = "it is closed" if problem.errno == errno.EBADF else problem.strerror
    return MachineError(
        f"standard output cannot be written: {why}", "free some space, or send it elsewhere"
    )
