"""The program of an instance that is calibrated: it uses CPU and memory on request.

    spin SECONDS    runs a busy loop; answers the cores that it got, as a share of time
    take MIB        takes so much memory and keeps it; answers the MiB that it has taken

It reads a line per connection, on $HOST:$PORT. It imports only a little of the standard
library: memory that it needs itself is missing from the memory that is tested.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable

MIB = 1024**2
PAGE = 4096
_kept: list[bytearray] = []


def spin(seconds: float) -> float:
    """The cores that a busy loop of this many seconds got."""
    began, used = time.monotonic(), time.process_time()
    while time.monotonic() - began < seconds:
        pass
    return (time.process_time() - used) / (time.monotonic() - began)


def take(mib: float) -> float:
    """Take memory, page by page, and keep it; returns what it has taken so far, in MiB."""
    block = bytearray(int(mib * MIB))
    block[::PAGE] = b"x" * len(block[::PAGE])
    _kept.append(block)
    return sum(map(len, _kept)) / MIB


ACTS: dict[str, Callable[[float], float]] = {"spin": spin, "take": take}


def main() -> None:
    """Serve until killed."""
    with socket.create_server((os.environ["HOST"], int(os.environ["PORT"]))) as listener:
        while True:
            connection, _ = listener.accept()
            with connection, connection.makefile("rw") as line:
                if command := line.readline().split():  # empty if it is only probed
                    line.write(f"{ACTS[command[0]](float(command[1]))}\n")


if __name__ == "__main__":
    main()
