"""Searches for thresholds in systems that are drawn by chance, beside other ways to search.

For each number of workers, and each family of systems: how often the interval that is stated
contains the truth, with the interval of that share (Clopper and Pearson), how often it is as narrow
as is asked for, and the median and the 90th percentile of the load that its trials took, in
seconds, with every ramp, warm-up and drain.

A system's truth is found by long simulations (`validation.systems`). Of blocking calls with several
workers it depends on the window: two users may share a worker for hours, and then change.

Exit code: 0 the intervals of the method ``aimed`` contain the truth as often as they claim, as far
as so many systems can tell; 1 they do not; 2 a wrong argument.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from statistics import median

from lab.capacity import AimedSearch, aimed_for, search_for
from lab.capacity.state import SearchSettings, allowed_width
from lab.judge.statistics import share_bounds
from lab.model.capacity import CapacityTrial, TrialRequest
from lab.model.physics import quantile
from lab.model.units import percent
from validation.command import exit_code, parser, positive, whole
from validation.peers import Method, Staircase, has_mlrsearch, mlrsearch
from validation.systems import FAMILIES, WORKERS, Drawn, Family

MAX_USERS = 200
MOST_LOAD = 400.0
MAX_TRIALS = 400
CLAIMED = 0.95
OF_LAB = ("aimed", "aimed, 400 s", "aimed by the bound")
"""The method as it is, stopped after so much load, and without a simulation of the cell."""

OF_PEERS = ("halving", "staircase", "staircase, 8 x 60 s", "staircase, 20 x 300 s", "MLRsearch")
"""The lab's halving with e-values; and others' ways."""


@dataclass(frozen=True)
class Searched:
    """What one method made of one system; ``narrow``: an interval as narrow as is asked for."""

    method: str
    family: Family
    workers: int
    seed: str
    truth: int
    holds: int
    breaks: int
    narrow: bool
    load: float
    trials: int
    seconds: float

    @property
    def contains(self) -> bool:
        """Whether the interval contains the truth."""
        return self.holds <= self.truth < self.breaks


@dataclass(frozen=True)
class Row:
    """One method in one kind of system; shares from 0 to 1, load in real-world seconds."""

    method: str
    family: Family
    workers: int
    systems: int
    contains: float
    low: float
    high: float
    found: float
    load_median: float
    load_p90: float

    @classmethod
    def of(cls, searched: Sequence[Searched]) -> Row:
        """Of searches of one kind."""
        first, number = searched[0], len(searched)
        right = sum(one.contains for one in searched)
        low, high = share_bounds(right, number)
        loads = sorted(one.load for one in searched)
        return cls(
            first.method,
            first.family,
            first.workers,
            number,
            right / number,
            low or 0.0,
            1.0 if high is None else high,
            sum(one.narrow for one in searched) / number,
            median(loads),
            quantile(loads, 0.9),
        )

    @property
    def disproved(self) -> bool:
        """Whether so many systems show that it contains the truth less often than it claims."""
        return self.high < CLAIMED


def search(drawn: Drawn, method: str) -> Searched:
    """One method in one system; each meets loads of its own chance."""
    began = time.perf_counter()
    truth = drawn.truth
    if method == "MLRsearch":
        found = _by_mlrsearch(drawn)
    else:
        found = _by(drawn, method, SEARCHES[method](drawn))
    return Searched(
        method,
        drawn.family,
        drawn.system.workers,
        drawn.seed,
        truth,
        *found,
        time.perf_counter() - began,
    )


Found = tuple[int, int, bool, float, int]
"""Users at whom it holds and breaks, whether that is narrow, load in seconds, and trials."""


def _by(drawn: Drawn, method: str, steps: Method) -> Found:
    made: list[CapacityTrial] = []
    while isinstance(step := steps.next("a", made), TrialRequest):
        if len(made) >= MAX_TRIALS:
            raise AssertionError(f"{method}: {len(made)} trials and no answer: {drawn.seed}")
        made.append(drawn.trial(step, len(made), method))
    breaks = MAX_USERS + 1 if step.breaks_at is None else step.breaks_at
    holds = step.holds_at or 0
    narrow = breaks - holds <= allowed_width(holds)
    if step.estimate:
        narrow = step.estimate.is_narrow
    return holds, breaks, narrow, sum(trial.spent for trial in made), len(made)


def _by_mlrsearch(drawn: Drawn) -> Found:
    spent: list[float] = []

    def measure(users: int, window: float) -> CapacityTrial:
        request = TrialRequest(users=users, window=window, why="MLRsearch")
        trial = drawn.trial(request, len(spent), "MLRsearch")
        spent.append(trial.spent)
        return trial

    holds, breaks = mlrsearch(measure, MAX_USERS)
    return holds, breaks, breaks - holds <= allowed_width(holds), sum(spent), len(spent)


def _staircase(window: float = 60.0, at_ends: int = 1) -> Callable[[Drawn], Staircase]:
    settings = SearchSettings(max_users=MAX_USERS)
    return lambda _drawn: Staircase(settings, window, at_ends)


def _aimed(drawn: Drawn, max_load: float | None = None, by_model: bool = True) -> AimedSearch:
    return replace(aimed_for(drawn.cell, MAX_USERS, max_load), by_model=by_model)


SEARCHES: dict[str, Callable[[Drawn], Method]] = {
    "aimed": _aimed,
    "aimed, 400 s": lambda drawn: _aimed(drawn, MOST_LOAD),
    "aimed by the bound": lambda drawn: _aimed(drawn, by_model=False),
    "halving": lambda drawn: search_for(drawn.cell, MAX_USERS),
    "staircase": _staircase(),
    "staircase, 8 x 60 s": _staircase(at_ends=8),
    "staircase, 20 x 300 s": _staircase(300.0, 20),
}


def search_all(task: tuple[str, int, Family, tuple[str, ...]]) -> list[Searched]:
    """All methods in one system, by its seed, its workers and its family."""
    seed, workers, family, methods = task
    drawn = Drawn.of(seed, workers, family)
    return [search(drawn, method) for method in methods]


def searched(
    tasks: Sequence[tuple[str, int, Family, tuple[str, ...]]], jobs: int
) -> Iterator[Searched]:
    """The searches of all systems as they end, in processes; how far it is, on standard error."""
    if jobs == 1:
        found = map(search_all, tasks)
        yield from _told(found, len(tasks))
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from _told(pool.map(search_all, tasks), len(tasks))


def _told(found: Iterable[list[Searched]], of: int) -> Iterator[Searched]:
    for done, one in enumerate(found, 1):
        print(f"\r{done} of {of} systems", end="", file=sys.stderr, flush=True)
        yield from one
    print(file=sys.stderr)


def rows_of(searches: Iterable[Searched]) -> list[Row]:
    """A row for each method, family and number of workers, in the order of their first."""
    kinds: dict[tuple[Family, int, str], list[Searched]] = {}
    for one in searches:
        kinds.setdefault((one.family, one.workers, one.method), []).append(one)
    order = sorted(kinds, key=lambda kind: (FAMILIES.index(kind[0]), kind[1]))
    return [Row.of(kinds[kind]) for kind in order]


def table(rows: Sequence[Row]) -> str:
    """The rows as text."""
    form = "{:<8}{:<9}{:<24}{:>8}{:>10}{:>16}{:>9}{:>9}{:>9}"
    head = [
        "workers",
        "family",
        "method",
        "systems",
        "contains",
        "95",
        "%",
        "found",
        "median",
        "p90",
    ]
    lines = [form.format(*head[:5], "interval", *head[7:])]
    for row in rows:
        lines.append(
            form.format(
                row.workers,
                row.family,
                row.method,
                row.systems,
                f"{100 * row.contains:.1f} %",
                f"{100 * row.low:.1f}-{100 * row.high:.1f} %",
                percent(row.found),
                f"{row.load_median:.0f} s",
                f"{row.load_p90:.0f} s",
            )
        )
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Print the table; the exit code."""
    command = parser("validation.searches", __doc__)
    command.add_argument("--systems", type=positive, default=600, help="of each kind")
    command.add_argument("--seed", type=whole, default=1, help="of the systems and their loads")
    command.add_argument("--jobs", type=positive, default=1, help="processes")
    command.add_argument("--workers", type=positive, nargs="+", default=list(WORKERS))
    command.add_argument("--family", choices=FAMILIES, nargs="+", default=["usual"])
    command.add_argument(
        "--method", choices=OF_LAB, nargs="+", default=list(OF_LAB), help="ways to aim"
    )
    command.add_argument("--first", type=whole, default=0, help="number of the first system")
    command.add_argument("--peers", action="store_true", help="the other ways to search, too")
    command.add_argument("--json", action="store_true", help="every search, as JSON")
    flags = command.parse_args(arguments)

    def work() -> int:
        methods = (*flags.method, *(_peers() if flags.peers else ()))
        tasks = [
            (f"{flags.seed}/{number}", workers, family, methods)
            for family in flags.family
            for number in range(flags.first, flags.first + flags.systems)
            for workers in flags.workers
        ]
        searches = list(searched(tasks, flags.jobs))
        rows = rows_of(searches)
        if flags.json:
            made = {"rows": [asdict(row) for row in rows], "searches": list(map(asdict, searches))}
            print(json.dumps(made))
        else:
            print(table(rows))
        return int(any(row.disproved for row in rows if row.method in OF_LAB))

    return exit_code(work)


def _peers() -> tuple[str, ...]:
    if has_mlrsearch():
        return OF_PEERS
    print("MLRsearch is not installed: nothing is said of it", file=sys.stderr)
    return tuple(method for method in OF_PEERS if method != "MLRsearch")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
