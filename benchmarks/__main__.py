"""All benchmarks, one after the other: ``python -m benchmarks [--json]``.

Each prints ratios of things measured side by side in one run; none asserts a time.
"""

from __future__ import annotations

import subprocess
import sys

ALL = (
    *("between_cells", "cells", "cold_start", "compose", "front"),
    *("generator", "lookout", "model", "page", "proxy", "quick_start", "supervision", "threshold"),
    "watcher",
)


def main() -> int:
    """Run each in a process of its own; the number of those that failed."""
    failed = 0
    for name in ALL:
        if "--json" not in sys.argv:
            print(f"\n{name}", flush=True)
        done = subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *sys.argv[1:]])
        failed += done.returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
