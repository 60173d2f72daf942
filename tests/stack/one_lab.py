"""``python -m tests.stack.one_lab RESULTS``: a lab with a replica, for tests to end as they like.

Prints one line of JSON about the replica and closes it when a line is sent.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from lab.stack.embedded import EmbeddedStack
from lab.testing import make_cell


def main(results: Path) -> None:
    stack = EmbeddedStack(results)
    try:
        replica = stack.apply(make_cell({"speed": 20}))
        parts = {name: pids() for name, pids in replica.parts.items()}
        about = {"id": stack.owner.id, "folder": str(stack.folder), "parts": parts}
        sys.stdout.write(json.dumps({**about, "url": replica.url}) + "\n")
        sys.stdout.flush()
        sys.stdin.readline()
    finally:
        stack.close()
        stack.close()  # safe to call twice


if __name__ == "__main__":
    main(Path(sys.argv[1]))
