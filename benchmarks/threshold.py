"""The search for a capacity against 2,000 systems whose threshold is known.

Beside it a plain staircase, which climbs and halves the same numbers of users but takes each
trial, a window of 60 s, at its word. Of both: how often the stated interval contains the
truth, how often a number of users is falsely said to hold, and what the trials take.

Usage: python -m benchmarks.threshold [--json] [--systems N] [--seed N]
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
from dataclasses import asdict, dataclass

from validation.peers import Staircase
from validation.simulated import SimulatedSystem, search_in

SYSTEMS = 2000


@dataclass(frozen=True)
class Row:
    """One method: shares of all systems, and medians over them."""

    method: str
    contains: float
    falsely_held: float
    falsely_broke: float
    found: float
    trials: float
    load_s: float

    def __str__(self) -> str:
        return (
            f"{self.method:<10} contains the truth {self.contains:6.1%}, falsely held "
            f"{self.falsely_held:5.1%}, falsely broke {self.falsely_broke:5.1%}, found "
            f"{self.found:6.1%}, median {self.trials:.0f} trials, {self.load_s:.0f} s of load"
        )


def measure(method: str, systems: int, seed: int) -> Row:
    """All systems by one method; both methods meet the same systems."""
    answers = []
    for number in range(systems):
        rng = random.Random(f"{seed}/{number}")
        system = SimulatedSystem.draw(rng)
        halving = system.search()
        search = halving if method == "halving" else Staircase(halving)
        answer = search_in(system, search, rng)
        truth = system.threshold(halving.max_users)
        holds, breaks = answer.holds_at or 0, answer.breaks_at or halving.max_users + 1
        answers.append((answer, holds <= truth < breaks, holds > truth, breaks <= truth))
    return Row(
        method=method,
        contains=statistics.mean(true for _, true, _, _ in answers),
        falsely_held=statistics.mean(held for _, _, held, _ in answers),
        falsely_broke=statistics.mean(broke for _, _, _, broke in answers),
        found=statistics.mean(answer.outcome == "found" for answer, *_ in answers),
        trials=statistics.median(len(answer.trials) for answer, *_ in answers),
        load_s=statistics.median(sum(t.spent for t in answer.trials) for answer, *_ in answers),
    )


def main() -> None:
    """Search in every system by both methods and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--systems", type=int, default=SYSTEMS, help="how many")
    parser.add_argument("--seed", type=int, default=1, help="of the systems and their trials")
    flags = parser.parse_args()
    rows = [measure(method, flags.systems, flags.seed) for method in ("halving", "staircase")]
    if flags.json:
        result = {"benchmark": "threshold", "systems": flags.systems}
        print(json.dumps({**result, "rows": list(map(asdict, rows))}))
    else:
        print(*rows, sep="\n")


if __name__ == "__main__":
    main()
