"""``python -m tests.one_lab RESULTS [STACK] [TARGET]``: a lab, to be ended as tests like.

Prints one line of JSON about the replica and closes it when a line is sent.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from lab.stack.compose.stack import ComposeStack
from lab.stack.embedded import EmbeddedStack
from tests.fakes import make_cell

CELLS = {
    "vm": make_cell({"speed": 20}),
    "cloudrun": make_cell({"cloudrun_min_instances": 1}, target="cloudrun"),
}
"""On Cloud Run an instance is kept warm, and so is frozen."""


def main(results: Path, kind: str = "embedded", target: str = "vm") -> None:
    stack = EmbeddedStack(results) if kind == "embedded" else ComposeStack(results)
    try:
        replica = stack.apply(CELLS[target])
        parts = {name: pids() for name, pids in replica.parts.items()}
        about = {"id": stack.ownership.id, "folder": str(stack.folder), "parts": parts}
        sys.stdout.write(json.dumps({**about, "url": replica.url}) + "\n")
        sys.stdout.flush()
        sys.stdin.readline()
    finally:
        stack.close()
        stack.close()  # safe to call twice


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
