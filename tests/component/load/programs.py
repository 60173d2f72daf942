"""Programs that a test has in the generator's place, or forks as such; `lab.warm` calls them."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

calls = 0


def have_no_spoon() -> None:
    """End with a message."""
    sys.exit("no such spoon\n")


def sleep() -> None:
    """Never get ready."""
    time.sleep(60)


def tell() -> None:
    """Write what this process was given, and that it has done nothing else."""
    global calls
    calls += 1
    given = {
        "arguments": sys.argv[1:],
        "env": dict(os.environ),
        "folder": str(Path.cwd()),
        "umask": os.umask(0),
        "cores": sorted(os.sched_getaffinity(0)),
        "input": sys.stdin.read(),
        "leader": os.getsid(0) == os.getpgid(0) == os.getpid(),
        "files": len([*Path("/proc/self/fd").iterdir()]),
        "calls": calls,
    }
    sys.stdout.write(json.dumps(given))
