"""An ordinary user, for tests that root runs: nobody, and a Python that nobody can reach."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from functools import cache

from lab.paths import ROOT

PACKAGES = os.pathsep.join(path for path in sys.path if path.endswith("site-packages"))
"""Where the packages are that this process runs on."""

PYTHONS = (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}")
"""This one, and the system's of the same version: this one may be in a home of root's."""

UNREACHED = "another user cannot reach this Python and its packages"


@cache
def python_of_nobody() -> str | None:
    """A Python with these packages that nobody can run; None where there is none."""
    return next(filter(_usable_by_nobody, PYTHONS), None)


def _usable_by_nobody(python: str) -> bool:
    env: Mapping[str, str] = {**os.environ, "PYTHONPATH": PACKAGES}
    try:
        done = subprocess.run(
            [python, "-c", "import lab.stack.embedded"],
            user="nobody",
            extra_groups=[],
            cwd=ROOT,
            env=env,
            capture_output=True,
        )
    except OSError:
        return False
    return done.returncode == 0
