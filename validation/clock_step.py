"""A wall clock that can be set, for one process and its children; the machine's own stays as it is.

    with SteppedClock(folder) as clock:
        process = subprocess.Popen(command, env={**os.environ, **clock.environment})
        clock.step(-2.0)

A library of a page (``clock_step.c``), compiled with ``cc``, stands before libc's. A program that
is linked statically keeps the machine's clock: those in Go, and the wheel's nginx, so that what
nginx stamps (``X-Request-Start``) is off by the step, as it is not where the machine's own clock is
set.
(libfaketime 0.9.10 does as much, but answers Python's `time.sleep` EINVAL.)
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")
_NS = 1e9


def compiler() -> str | None:
    """The C compiler; None where there is none, and then no clock can be stepped."""
    return shutil.which("cc")


class SteppedClock:
    """A wall clock that can be set; a context manager.

    Args:
        folder: for its library and its state; must stay as long as any process uses it.

    Attributes:
        environment: the variables by which a process, and its children, get this clock.

    Raises:
        FileNotFoundError: there is no C compiler; see `compiler`.
        subprocess.CalledProcessError: it does not compile here.
    """

    def __init__(self, folder: Path) -> None:
        self._moved = 0
        self._file = (folder / "clock-step").open("w+b", buffering=0)
        self.step(0.0)
        library = folder / "clock-step.so"
        subprocess.run(
            [compiler() or "cc", "-O2", "-shared", "-fPIC", "-o", library, SOURCE], check=True
        )
        self.environment = {"LD_PRELOAD": str(library), "CLOCK_STEP_FILE": self._file.name}

    def __enter__(self) -> SteppedClock:
        """Itself."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Set nothing any more."""
        self._file.close()

    def step(self, seconds: float) -> None:
        """Set the clock by so many seconds, backwards where negative, at once."""
        self._moved += round(seconds * _NS)
        self._file.seek(0)
        self._file.write(struct.pack("=q", self._moved))
