"""The summary of a step in CI: Markdown that GitHub Actions shows on the page of the workflow.

The runner names a file in ``GITHUB_STEP_SUMMARY``, to which every command of the step may append.
What cannot be written there costs a message: a summary is not what a command is for.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from lab.cli.options import print_message

SUMMARY = "GITHUB_STEP_SUMMARY"

MAX_BYTES = 1024**2
"""GitHub shows no summary of a step that is larger."""


def append_summary(markdown: str) -> None:
    """Append to the step's summary, where there is one."""
    if not (name := os.environ.get(SUMMARY)):
        return
    try:
        problem = _append(Path(name), f"\n{markdown}".encode(errors="replace"))
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or str(error)
    if problem:
        print_message(f"{SUMMARY}: {name} is not written: {problem}")


def _append(file: Path, data: bytes) -> str:
    """Append whole or not at all; why not, or nothing."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC
    with os.fdopen(os.open(file, flags, 0o666), "ab") as out:
        status = os.fstat(out.fileno())
        if not stat.S_ISREG(status.st_mode):
            return "it is no file"
        if status.st_size + len(data) > MAX_BYTES:
            return "it would be larger than 1 MiB, of which GitHub shows nothing"
        out.write(data)
    return ""
