"""``python -m lab.stack.guardian FOLDER``: waits for the lab to end, then cleans up.

Its standard input is a pipe that only the lab holds. The pipe closes when the lab ends,
however it ends; no signal, no timer and no polling is needed.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

from lab.errors import LabError
from lab.stack.owner import RECORD, Owner
from lab.stack.reap import end


def main(folder: Path) -> None:
    """Wait, then end what is left of the replica in ``folder``."""
    for asked in (signal.SIGINT, signal.SIGTERM):
        signal.signal(asked, signal.SIG_IGN)
    owner = Owner(**json.loads((folder / RECORD).read_text()))
    sys.stdin.buffer.read()
    try:
        end(folder, owner)
    except LabError as error:
        sys.exit(f"lab: {error}")  # what is left, the next lab ends


if __name__ == "__main__":
    main(Path(sys.argv[1]))
