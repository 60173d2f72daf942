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
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from lab.capacity.search import CapacitySearch, Search
from lab.capacity.state import allowed_width
from lab.model.capacity import CapacityTrial, CriterionCount, Threshold, TrialRequest
from validation.simulated import SimulatedSystem, search_in

SYSTEMS = 2000


@dataclass(frozen=True)
class Staircase:
    """One trial at each number of users, and what it seems to show is taken for the truth."""

    method: CapacitySearch
    window: float = 60.0

    def next(self, cell: str, trials: Sequence[CapacityTrial]) -> TrialRequest | Threshold:
        broke = [t.users for t in trials if any(map(_missed, t.criteria))]
        top = self.method.max_users + 1
        high = min(broke, default=top)
        low = max((t.users for t in trials if t.users < high), default=0)
        if high == top and low < self.method.max_users:
            rung = next(users for users in self.method.ladder if users > low)
            return TrialRequest(users=rung, window=self.window, why="climbing")
        if high - low > allowed_width(low) and low < self.method.max_users:
            return TrialRequest(users=(low + high) // 2, window=self.window, why="halving")
        return Threshold(
            id=cell,
            holds_at=low or None,
            breaks_at=None if high == top else high,
            crossed_first=None,
            confidence=0,
            outcome="found",
            reason="each trial was taken at its word",
            trials=tuple(trials),
        )


def _missed(count: CriterionCount) -> bool:
    return bool(count.samples) and (count.violations or 0) / (count.samples or 1) >= 0.05


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
        search: Search = halving if method == "halving" else Staircase(halving)
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
