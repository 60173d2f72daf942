"""How long a command takes before it does anything, against Python that does nothing.

Each command is started beside ``python -c pass``, turn by turn in one run; a ratio is the
median of a command's times by that of Python's. Imports are what the rest of it is.

Usage: python -m benchmarks.quick_start [--json]
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from statistics import median

TURNS = 15
NOTHING = ("-c", "pass")
COMMANDS = {
    "lab --help": ("-m", "lab", "--help"),
    "lab knobs": ("-m", "lab", "knobs"),
    "lab run --help": ("-m", "lab", "run", "--help"),
    "import lab": ("-c", "import lab"),
}


def wall_s(arguments: Sequence[str]) -> float:
    """Wall seconds of a Python process with these arguments."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def measure() -> dict[str, float]:
    """By command, its wall time divided by that of ``python -c pass``."""
    turns = [[wall_s(each) for each in (NOTHING, *COMMANDS.values())] for _ in range(TURNS)]
    nothing, *commands = (median(times) for times in zip(*turns, strict=True))
    return {name: taken / nothing for name, taken in zip(COMMANDS, commands, strict=True)}


def main() -> None:
    """Print the ratios."""
    ratios = measure()
    if "--json" in sys.argv:
        print(json.dumps(ratios))
        return
    for name, ratio in ratios.items():
        print(f"{name:15} {ratio:5.1f} x python -c pass")


if __name__ == "__main__":
    main()
