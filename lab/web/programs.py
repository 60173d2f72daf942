"""Documents that a command of the lab makes, in a process of its own.

What a report takes (the judge, and the libraries it computes with) is not kept in the memory of a
server that is to cost next to nothing, and what becomes of it cannot end the server.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress

from fastapi.responses import HTMLResponse

from lab.errors import LabError, MachineError
from lab.web.sealed import sealed

STEP_FILES = frozenset({"GITHUB_STEP_SUMMARY"})
"""What a command adds to by itself where it is set: who looks at a page wants none of that."""

LIMIT_S = 120.0
"""Seconds after which a command is ended."""


async def document(command: Sequence[str]) -> HTMLResponse:
    """The page that a command prints, with the policy by which nothing else runs on it.

    Raises:
        LabError: as of `output`.
    """
    html, policy = sealed(await output(command))
    return HTMLResponse(html, headers={"content-security-policy": policy})


async def output(command: Sequence[str]) -> str:
    """What a command prints.

    Raises:
        LabError: it prints nothing, with the line that it says why in; or does not end.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if name not in STEP_FILES},
    )
    try:
        async with asyncio.timeout(LIMIT_S):
            out, err = await process.communicate()
    except TimeoutError:
        what = f"the page was not made within {LIMIT_S:g} s"
        raise MachineError(what, "make it with `lab report`") from None
    finally:
        with suppress(ProcessLookupError):
            process.kill()
    if not out:
        lines = err.decode(errors="replace").strip().splitlines() or ["it said nothing"]
        raise LabError(lines[-1].removeprefix("lab: "))
    return out.decode(errors="replace")
