"""What parts ran out of while a cell was measured: by their own logs, and by the kernel.

    nginx                           1024 worker_connections are not enough
    PgBouncer                       pooler error: query_wait_timeout
    nginx, uvicorn, Toxiproxy …     Too many open files (EMFILE)
    nginx, Postgres, storage …      No space left on device (ENOSPC)
    the kernel                      ListenOverflows, of its network namespace

Users see only that they were cut off; who did it, and for want of what, stands here.
"""

from __future__ import annotations

import re
import resource
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from lab.model.evidence import Shortage

SIGNS: tuple[tuple[str, re.Pattern[bytes]], ...] = (
    (
        "connections",
        re.compile(rb"\S+ \S+ \[\w+\] \d+#\d+: (\*\d+ )?\d+ worker_connections are not enough"),
    ),
    (
        "connections",
        re.compile(rb"\S+ \S+ \w+ \[\d+\] WARNING \S+ \S+ pooler error: query_wait_timeout"),
    ),
    ("files", re.compile(rb".*(\(24: Too many open files\)|\[Errno 24\]|: too many open files$)")),
    (
        "space",
        re.compile(
            rb".*(\(28: No space left on device\)|\[Errno 28\]|: [Nn]o space left on device$)"
        ),
    ),
)
"""What a line of a log says that there was none left of: nginx's text and PgBouncer's in their own
places, where no request can put it, and those of EMFILE and ENOSPC as nginx, Postgres, Python and
Go write them."""

FILES = 65536
"""File descriptors that each part may have, if this machine allows them; a shell allows 1,024."""

NETSTAT = Path("/proc/self/net/netstat")

MACHINE = "machine"
"""The part that overflows an accept queue: the kernel does not say whose it was."""


def allow_files() -> None:
    """Let this process, and so all that it starts, open as many files as it may ask for itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = FILES if hard == resource.RLIM_INFINITY else min(hard, FILES)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


class Shortages:
    """Counts from when it was made.

    Args:
        lines: the logs' lines since the cell began, each with its part.
        overflows: running total of connections that the kernel dropped before they were accepted;
            0 where the parts have a network namespace of their own, whose kernel nobody asks.
    """

    def __init__(
        self, lines: Callable[[], Iterable[tuple[str, bytes]]], overflows: Callable[[], int] = int
    ) -> None:
        self._lines = lines
        self._overflows = overflows
        self._before = overflows()

    def __call__(self) -> list[Shortage]:
        counts = count(self._lines())
        counts[MACHINE, "accept_queue"] = self._overflows() - self._before
        return [
            Shortage.model_validate({"part": part, "of": of, "count": number})
            for (part, of), number in counts.items()
            if number > 0
        ]


def count(lines: Iterable[tuple[str, bytes]]) -> Counter[tuple[str, str]]:
    """How often each part says of what it has none left."""
    return Counter((part, of) for part, line in lines for of, sign in SIGNS if sign.match(line))


def overflows(netstat: Path = NETSTAT) -> int:
    """``ListenOverflows`` of a network namespace, since it was made; 0 where no /proc tells.

    The file has a line of names and one of values for each group of counters (proc(5)).
    """
    try:
        lines = netstat.read_text().splitlines()
    except OSError:
        return 0
    named = [line.split() for line in lines if line.startswith("TcpExt:")]
    counters = dict(zip(*named[:2], strict=False)) if len(named) >= 2 else {}
    return int(counters.get("ListenOverflows", 0))
