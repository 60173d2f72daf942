"""Pairs of cells whose true ratio is known: does the interval of a comparison cover it?

    python -m validation.pairs --pairs 1000 --seed 1       simulated
    python -m validation.pairs --replica 40 --seed 1       measured: the same cell twice

A closed network is simulated: users wait for one of so many slots, each for a storage time from 2
to 5 s, in the order in which they came, and send again at once; some uploads are refused. The truth
of a system is a window of 20,000 s; a trial of it is what a cell has: ramp, warm-up, a minute.

Beside that, pairs of trials of one system are compared as `lab compare` compares two runs: at most
one in twenty may call anything certain, whatever the criteria's bounds are; here these are the
truth itself, of which trials come to either outcome most easily.

With --replica pairs of trials of one cell are measured, which differ in their seeds alone: 20 users
of one worker with 8 threads. Nothing differs in truth, so the interval of each ratio has to hold 1,
and that of the difference of failures 0, in 95 % of the pairs. A line a pair is printed as it ends;
a trial takes about 10 s, 40 pairs a quarter of an hour. The run goes to --results. In at least 95 %
of the pairs nothing may be certain by `lab compare`, too.

Exit code: 0 in at least 95 %, 1 in fewer, 2 what is asked for cannot be.
"""

from __future__ import annotations

import heapq
import json
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lab.cli import session
from lab.cli.session import Overrides, Planned
from lab.errors import UsageError
from lab.judge.comparison import against, change
from lab.judge.criteria import decide, outcome_of
from lab.judge.run_comparison import compare_cells
from lab.judge.spread import spreads
from lab.judge.trial import Trial
from lab.model.evidence import Cause, Observation, Sample
from lab.model.experiment import Cell
from lab.model.run import CellResult
from lab.model.run_comparison import CellPair
from lab.model.verdict import Comparison, Spread, Verdict
from lab.runner import run_experiment
from validation.command import exit_code, parser, positive

STORAGE_S = (2.0, 5.0)
TRUE_WINDOW_S = 20_000.0
METRICS = ("throughput", "p50", "p95", "error_rate")
CRITERIA = ("p95 < 10 s", "error_rate < 5 %")
ENOUGH = 0.95
"""The share of intervals that are to hold what is true."""


@dataclass(frozen=True)
class System:
    """A closed network.

    Args:
        users: who upload.
        slots: uploads that are served at once; the others wait in one queue.
        refused: the share that is refused after a second, by chance.
        own_s: seconds of an upload beside storage's.
        groups: workers, each with as many slots, to which users belong for good.
    """

    users: int
    slots: int
    refused: float = 0.0
    own_s: float = 0.2
    groups: int = 1

    def cell(self, window: float, criteria: Sequence[str] = CRITERIA) -> Cell:
        """As the lab has it."""
        load = {"users": self.users, "ramp": "5 s", "warmup": "10 s", "window": f"{window:g} s"}
        return Cell.model_validate(
            {
                "id": f"{self}",
                "axes": {},
                "knobs": {"gcs_call": "executor"},
                "load": load,
                "faults": [],
                "criteria": list(criteria),
                "seed": 1,
            }
        )

    def samples(self, until: float, rng: random.Random) -> Iterator[Sample]:
        """All uploads that are sent before a moment, in seconds."""
        each = max(1, self.users // self.groups)
        for group in range(self.groups):
            yield from self._group(each, until, rng, group)

    def _group(self, users: int, until: float, rng: random.Random, group: int) -> Iterator[Sample]:
        arrivals = [(5.0 * user / users, user) for user in range(users)]
        heapq.heapify(arrivals)
        free = [0.0] * self.slots
        heapq.heapify(free)
        while arrivals:
            sent, user = heapq.heappop(arrivals)
            if sent >= until:
                continue
            storage = 0.0
            if rng.random() < self.refused:
                latency, error = 1.0, Cause.RATE_LIMITED
            else:
                begun = max(sent, heapq.heappop(free))
                storage, error = rng.uniform(*STORAGE_S), None
                heapq.heappush(free, begun + storage)
                latency = begun + storage + self.own_s - sent
            heapq.heappush(arrivals, (sent + latency, user))
            yield _sample(sent, latency, error, storage, group * users + user)


def _sample(sent: float, latency: float, error: Cause | None, storage: float, user: int) -> Sample:
    return Sample.model_construct(
        planned_at=sent,
        sent_at=sent,
        latency_s=latency,
        status=429 if error else 200,
        error=error,
        stages={} if error else {"gcs": storage},
        user=user,
        bytes=200_000,
        journey=Sample.model_fields["journey"].default,
        request=None,
        worker=None,
    )


def trial_of(
    system: System, window: float, rng: random.Random, criteria: Sequence[str] = CRITERIA
) -> Trial:
    """A trial of a system, with a window of so many seconds."""
    cell = system.cell(window, criteria)
    end = cell.load.measured[1]
    samples = sorted(system.samples(end, rng), key=lambda sample: sample.sent_at)
    return Trial(cell, Observation.model_construct(samples=tuple(samples), evidence=(), beats=()))


@dataclass(frozen=True)
class Known:
    """What a comparison reads of a cell."""

    metrics: dict[str, float]
    spreads: dict[str, Spread]

    @classmethod
    def of(cls, trial: Trial) -> Known:
        """As the judge would have it."""
        figures = {name: trial.metrics[name] for name in METRICS if name in trial.metrics}
        return cls(figures, spreads(trial))


@cache
def truth(system: System) -> dict[str, float]:
    """The figures of a system, from a window so long that their error does not matter."""
    metrics = trial_of(system, TRUE_WINDOW_S, random.Random(1)).metrics
    return {name: metrics[name] for name in METRICS}


SYSTEMS = (
    System(users=10, slots=40),
    System(users=20, slots=11),
    System(users=50, slots=11),
    System(users=50, slots=22),
    System(users=50, slots=44),
    System(users=50, slots=6, groups=2),
    System(users=50, slots=11, refused=0.1),
    System(users=50, slots=22, refused=0.02),
    System(users=24, slots=6),
    System(users=4, slots=1),
)


@dataclass
class Tally:
    """How many intervals there were of a metric, and how many covered the truth."""

    told: int = 0
    covered: int = 0
    untold: int = 0


def tally(pairs: int, seed: int, systems: Sequence[System] = SYSTEMS) -> dict[str, Tally]:
    """By metric, over so many pairs of systems drawn by a seed."""
    rng, found = random.Random(seed), {name: Tally() for name in METRICS}
    for _ in range(pairs):
        first, second = rng.choice(systems), rng.choice(systems)
        here, there = (Known.of(trial_of(system, 60.0, rng)) for system in (first, second))
        for name in METRICS:
            if name not in here.metrics or name not in there.metrics:
                continue
            seen = change(name, here, there)
            one, other = truth(first)[name], truth(second)[name]
            real = one - other if seen.kind == "difference" else one / other
            if seen.low is None or seen.high is None:
                found[name].untold += 1
            else:
                found[name].told += 1
                found[name].covered += seen.low <= real <= seen.high
    return found


def finished(system: System, rng: random.Random) -> CellResult:
    """A trial of a system as a run stores it, whose criteria are at the system's own figures."""
    true = truth(system)
    bounds = [f"p95 < {true['p95']:.6f} s", f"throughput > {true['throughput']:.6f}/s"]
    if true["error_rate"]:
        bounds.append(f"error_rate < {100 * true['error_rate']:.6f} %")
    trial = trial_of(system, 60.0, rng, bounds)
    known, findings = Known.of(trial), tuple(decide(one, trial) for one in trial.cell.criteria)
    verdict = Verdict(
        cell=trial.cell.id,
        outcome=outcome_of(findings, len(trial.sent)),
        reasons=(),
        metrics=known.metrics,
        findings=findings,
        injected=(),
        spreads=known.spreads,
    )
    return CellResult.of(trial.cell, verdict)


def certain(pair: CellPair) -> list[str]:
    """What `lab compare` calls certain of a pair of cells."""
    told = {"worse": pair.worse, "better": pair.better}
    return [f"{name} {word}" for word, names in told.items() for name in names]


def false_alarms(
    runs: int, seed: int, cells: int = 1, systems: Sequence[System] = SYSTEMS
) -> list[list[str]]:
    """What is called certain of each of so many pairs of runs that differ in nothing.

    Args:
        runs: how many pairs of runs.
        seed: of all draws.
        cells: of each run.
        systems: of which each cell is one.
    """
    rng, found = random.Random(seed), []
    for _ in range(runs):
        drawn = [rng.choice(systems) for _ in range(cells)]
        partners = [(finished(system, rng), finished(system, rng)) for system in drawn]
        pairs, _ = compare_cells(partners)
        found.append([text for pair in pairs for text in certain(pair)])
    return found


def simulated(pairs: int, seed: int) -> int:
    """Print the table; 1 where an interval covers the truth in less than 95 %, or as many pairs
    of the same system have something that is certain."""
    poor = 0
    for name, seen in tally(pairs, seed).items():
        share = seen.covered / seen.told if seen.told else 0.0
        poor += share < ENOUGH
        print(
            f"{name:12} {seen.covered} of {seen.told} intervals cover the truth"
            f" ({100 * share:.1f} %), {seen.untold} pairs without one"
        )
    quiet = sum(not alarm for alarm in false_alarms(pairs, seed))
    print(f"nothing certain in {_of(quiet, pairs)} pairs of trials of one system")
    return int(poor > 0 or quiet < ENOUGH * pairs)


def _of(count: int, pairs: int) -> str:
    return f"{count} of {pairs} ({100 * count / pairs:.1f} %)"


# On a replica.

MAX_PAIRS = 50
"""A spec repeats its cell a hundred times at most."""

SAME_CELL: dict[str, Any] = {
    "experiment": "same-cell",
    "about": "do two trials of the same cell differ?",
    "preset": "as-found",
    "knobs": {
        "speed": "auto",
        "global_rate_limit": "off",
        "gcs_call": "executor",
        "gcs_threads": 8,
    },
    "load": {
        "users": 20,
        "ramp": "5 s",
        "warmup": "15 s",
        "window": "60 s",
        "audio": "50 KB",
    },
    "criteria": ["p95 < 10 s", "error_rate < 5 %"],
}


def same_cells(pairs: int, seed: int) -> Planned:
    """Twice as many trials of one cell, a seed each.

    Raises:
        UsageError: they are too many.
    """
    if pairs > MAX_PAIRS:
        raise UsageError(f"{pairs} pairs are more than one run holds", f"ask for {MAX_PAIRS}")
    with TemporaryDirectory() as folder:
        file = Path(folder) / "same-cell.yaml"
        file.write_text(json.dumps(SAME_CELL | {"seed": seed, "repeat": 2 * pairs}))
        [planned] = session.plan("run", [file], Overrides(), None)
    return planned


def differing(beside: Comparison) -> list[str]:
    """What is said to differ, or is not compared; nothing where two trials show no difference."""
    if beside.why_not:
        return [beside.why_not]
    if not beside.changes:
        return ["no figure is there to compare"]
    return [
        f"{one.metric} {one.tendency}: {one.change:.3g} ({_end(one.low)} .. {_end(one.high)})"
        for one in beside.changes
        if one.tendency != "no difference"
    ]


def _end(value: float | None) -> str:
    return "?" if value is None else f"{value:.3g}"


Measured = tuple[Comparison, CellPair | None]
"""The second trial beside the first, and as `lab compare` has them; None where one is not there."""


def measured(planned: Planned, stack_asked: str, results: Path) -> Iterator[Measured]:
    """Each pair of neighbours, the second beside the first, as it is measured.

    Raises:
        LabError: this machine cannot go on; what was measured is stored.
    """
    choice = session.which_stack([planned], stack_asked, "auto", None)
    with session.replica([planned], choice, "auto", results) as (stack, reason):
        run = session.new_run(planned, stack, reason, results)
        with session.measuring("run", run, stack, lambda _run: "trials are kept") as (lab, _):
            for first, second in zip(planned.cells[::2], planned.cells[1::2], strict=True):
                summary = run_experiment(lab, run, (first, second))
                told = {cell.id: cell for cell in summary.cells}
                yield _compared(told.get(second.id), told.get(first.id), first.id)


def _compared(cell: CellResult | None, other: CellResult | None, name: str) -> Measured:
    if cell is None or other is None:
        return Comparison(baseline=name, why_not="one of the two could not be judged"), None
    [pair], _ = compare_cells([(other, cell)])
    return against(cell, other), pair


def on_replica(pairs: int, seed: int, stack: str, results: Path) -> int:
    """Print a line a pair, and how many show no difference; 1 where fewer than 95 % do."""
    same, quiet, by_metric = 0, 0, dict.fromkeys(METRICS, 0)
    found = measured(same_cells(pairs, seed), stack, results)
    for number, (beside, pair) in enumerate(found, start=1):
        wrong = differing(beside)
        same += not wrong
        sure = certain(pair) if pair else []
        quiet += pair is not None and not (sure or beside.why_not)
        for one in beside.changes:
            by_metric[one.metric] += one.tendency == "no difference"
        told = [*wrong, *(f"certain: {text}" for text in sure)]
        print(f"pair {number}: {'; '.join(told) or 'no difference'}", flush=True)
    for name, count in by_metric.items():
        print(f"{name:12} no difference in {count} of {pairs} pairs ({100 * count / pairs:.1f} %)")
    print(f"nothing certain by `lab compare` in {quiet} of {pairs} pairs", flush=True)
    print(f"no difference at all in {same} of {pairs} pairs ({100 * same / pairs:.1f} %)")
    return int(min(same, quiet) < ENOUGH * pairs)


def main(argv: Sequence[str] | None = None) -> int:
    """Print what came of simulated pairs, or of measured ones; the exit code."""
    made = parser("validation.pairs", __doc__ or "")
    which = made.add_mutually_exclusive_group()
    which.add_argument("--pairs", type=positive, default=1000, help="simulate so many pairs")
    which.add_argument("--replica", type=positive, metavar="N", help="measure N pairs of one cell")
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("--stack", choices=("auto", "compose", "embedded"), default="embedded")
    asked = made.parse_args(argv)
    if asked.replica is None:
        return simulated(asked.pairs, asked.seed)
    return exit_code(lambda: on_replica(asked.replica, asked.seed, asked.stack, asked.results))


if __name__ == "__main__":
    sys.exit(main())
