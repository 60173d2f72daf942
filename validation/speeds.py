"""Is the speed that the lab chooses right: true, not timid, and telling what speed 1 tells?

    python -m validation.speeds [--stack embedded] [--parts first twice real split] [--only GLOB]
                                [--cells 8] [--seed 1] [--window 600]

    first   cells of the shipped specs, each measured once at the speed that is chosen for it: how
            many are valid? (at least 95 % on a quiet machine)
    twice   the same, half a step faster than twice that speed: how many are refused? (most of those
            whose speed is bounded by something that a verdict looks at; how long a window is read,
            it does not)
    real    four cells at the chosen speed and at speed 1: throughput and p95, one by the other,
            with 95 % intervals (within 5 % and 10 %)
    split   cells of two workers that share a socket, near their thresholds, at the chosen speed, at
            speed 1, and at twice the chosen speed: the fullest worker's share of the uploads inside
            beside the model's, and p95 by that at speed 1 (within 5 %, where the model and the
            check allow the speed); ``--window`` is how long each is watched, in real-world seconds

Intervals of shares are exact (Clopper and Pearson, 1934); those of ratios are by resampling tenths
of the window (Kunsch, The Annals of Statistics, 1989). All cells of all specs take hours, those of
``real`` half an hour, and of ``split``, with a window of ten minutes, about twenty minutes each;
``--only`` (``workers-x-pool/*``) and ``--cells`` take some. Two workers forget in a minute or two
how they shared, so that of ten minutes p95 is known to 2 or 3 %, by simulation.
"""

from __future__ import annotations

import random
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import inf
from statistics import fmean

from scipy.stats import beta

from lab import paths
from lab.cli import session
from lab.cli.session import Overrides, Planned
from lab.errors import UsageError
from lab.judge import judge
from lab.judge.evenness import lead_inside
from lab.judge.trial import Trial
from lab.model.experiment import Cell
from lab.model.fidelity import ALLOWED
from lab.model.physics import quantile
from lab.model.speed import MAX_SPEED, STEP
from lab.model.units import percent
from lab.model.verdict import Outcome, Verdict
from lab.runner import CellProgress, Lab, run_cell
from lab.store import RunFolder
from validation.command import exit_code, parser, positive

PARTS = ("first", "twice", "real", "split")
USUAL_PARTS = PARTS[:3]
VALID, REFUSED = 0.95, 0.5
WITHIN = {"throughput": 0.05, "p95": 0.10}
REAL = (
    "workers-x-pool/workers=1,pool=10+10,db_session=release",
    "workers-x-pool/workers=4,pool=10+10,db_session=release",
    "real-time/case=executor-of-8-near-its-limit",
    "real-time/case=to_thread-beyond-its-limit",
)
SPLIT = {
    "threshold/gcs_call=executor,workers=2": 36,
    "threshold/gcs_call=to_thread,workers=2": 17,
}
"""Cells whose workers share a socket, and about how many users they carry."""

SPLIT_WARMUP_S = 120.0
"""In which two workers forget how users began."""

UNJUDGED = ("window would be over", "is allowed", "timers do not")
"""In reasons for a speed: bounds that no verdict looks at, or not in what is seen of the trial."""

BLOCKS, DRAWS = 10, 2000


@dataclass(frozen=True)
class Asked:
    """A cell of a shipped spec."""

    spec: Planned
    cell: Cell

    @property
    def name(self) -> str:
        """``spec/cell``."""
        return f"{self.spec.experiment.experiment}/{self.cell.id}"


@dataclass(frozen=True)
class Measurer:
    """Measures cells of one spec on a replica that is up."""

    lab: Lab
    run: RunFolder

    def chosen(self, cell: Cell) -> Cell:
        """At the speed that the lab chooses now."""
        return self.lab.choose_speed(cell, inf)

    def measure(self, cell: Cell, label: str) -> tuple[Trial, Verdict]:
        """One trial, whatever comes of it, beside those of other labels."""
        own = cell.model_copy(update={"id": f"{cell.id}@{label}", "auto_speed": False})
        folder = self.run.begin(own)
        run_cell(self.lab, own, folder, CellProgress(self.lab.show, [own], 0, [own]))
        seen = folder.read_observation()
        verdict = judge(own, seen)
        folder.finish(verdict)
        return Trial(own, seen), verdict


def asked(only: str, count: int | None, seed: int) -> list[Asked]:
    """The cells on the VM of all shipped specs that a pattern takes, or so many of them at random.

    Raises:
        UsageError: it takes none.
    """
    files = sorted(paths.data("experiments").glob("*.yaml"))
    specs = (session.plan("run", [file], Overrides(), None)[0] for file in files)
    found = [
        one
        for spec in specs
        for cell in spec.cells
        if cell.auto_speed and cell.target == "vm"
        if fnmatchcase((one := Asked(spec, cell)).name, only)
    ]
    if not found:
        raise UsageError(f"'{only}' takes no cell", "write a pattern as 'workers-x-pool/*'")
    drawn = random.Random(seed).sample(found, min(count or len(found), len(found)))
    return sorted(drawn, key=found.index)


def measured(
    cells: Sequence[Asked], flags: Namespace, work: Callable[[Measurer, Asked], None]
) -> None:
    """Bring a replica up, and do the work for each cell, spec by spec."""
    specs = list({id(one.spec): one.spec for one in cells}.values())
    choice = session.which_stack(specs, flags.stack, "auto", None)
    with session.replica(specs, choice, "auto", flags.results) as (stack, reason):
        for spec in specs:
            run = session.new_run(spec, stack, reason, flags.results)
            with session.measuring("run", run, stack, lambda _run: "trials are kept") as (lab, _):
                for one in (one for one in cells if one.spec is spec):
                    work(Measurer(lab, run), one)


class Tally:
    """How many of what was measured are as they should be."""

    def __init__(self) -> None:
        self.good, self.all = 0, 0

    def add(self, good: bool) -> None:
        """One more."""
        self.good += good
        self.all += 1

    @property
    def share(self) -> float:
        """Of the good ones; 1 of none."""
        return self.good / self.all if self.all else 1.0

    def __str__(self) -> str:
        low, high = exact(self.good, self.all)
        interval = f"95 % interval {percent(low)} to {percent(high)}"
        return f"{self.good} of {self.all} ({percent(self.share)}; {interval})"


def exact(good: int, count: int) -> tuple[float, float]:
    """The two-sided 95 % interval of a share (Clopper and Pearson, 1934)."""
    low = float(beta.ppf(0.025, good, count - good + 1)) if good else 0.0
    high = float(beta.ppf(0.975, good + 1, count - good)) if good < count else 1.0
    return low, high


def first_and_twice(cells: Sequence[Asked], flags: Namespace, twice: bool) -> bool:
    """Measure cells at their chosen speeds, and perhaps beyond twice that; whether all is right."""
    valid, refused, unjudged = Tally(), Tally(), Tally()

    def work(measurer: Measurer, one: Asked) -> None:
        cell = measurer.chosen(one.cell)
        _, verdict = measurer.measure(cell, "first")
        valid.add(verdict.outcome != Outcome.INVALID)
        show(one.name, cell.knobs.speed, verdict, cell.speed_reason)
        if twice:
            speed = min(2 * cell.knobs.speed + STEP, MAX_SPEED)
            _, verdict = measurer.measure(cell.at_speed(speed), "twice")
            unseen = any(words in cell.speed_reason for words in UNJUDGED)
            (unjudged if unseen else refused).add(verdict.outcome == Outcome.INVALID)
            show(one.name, speed, verdict, "twice as fast")

    measured(cells, flags, work)
    print(f"first attempts that are valid: {valid}")
    if twice:
        print(f"refused beyond twice that speed: {refused}")
        print(f"the same, bounded by what no verdict looks at: {unjudged}")
    return valid.share >= VALID and refused.share >= REFUSED


def show(name: str, speed: float, verdict: Verdict, why: str) -> None:
    """A line of a cell that was measured."""
    reason = f": {verdict.reasons[0]}" if verdict.outcome == Outcome.INVALID else ""
    print(f"{verdict.outcome:9} {speed:4g}  {name} ({why}){reason}", flush=True)


def against_real_time(cells: Sequence[Asked], flags: Namespace) -> bool:
    """Measure cells at their chosen speeds and at speed 1; whether they tell the same."""
    same = Tally()

    def work(measurer: Measurer, one: Asked) -> None:
        cell = measurer.chosen(one.cell)
        quick, _ = measurer.measure(cell, "auto")
        real, _ = measurer.measure(cell.at_speed(1.0), "1")
        for metric, within in WITHIN.items():
            ratio, low, high = compared(metric, quick, real)
            agree = low <= 1 + within and high >= 1 - within
            same.add(agree)
            print(
                f"{'same' if agree else 'OTHER':9} {cell.knobs.speed:4g}  {one.name} {metric}:"
                f" {ratio:.3f} of that at speed 1 (95 % interval {low:.3f} to {high:.3f})",
                flush=True,
            )

    measured(cells, flags, work)
    print(f"figures that speed 1 agrees with: {same}")
    return same.share == 1.0


def how_they_share(cells: Sequence[Asked], flags: Namespace) -> bool:
    """Measure cells of several workers at the chosen speed, at 1, and too fast; whether the chosen
    speed tells what speed 1 does, and what is too fast is refused."""
    right = Tally()

    def work(measurer: Measurer, one: Asked) -> None:
        load = {"users": SPLIT[one.name], "warmup": SPLIT_WARMUP_S, "window": flags.window}
        planned = one.cell.model_copy(update={"load": one.cell.load.model_copy(update=load)})
        cell = measurer.chosen(planned)
        real, _ = measurer.measure(cell.at_speed(1.0), "1")
        for label, speed in (("auto", cell.knobs.speed), ("fast", 2 * cell.knobs.speed + STEP)):
            trial, verdict = measurer.measure(cell.at_speed(min(speed, MAX_SPEED)), label)
            ratio, low, high = compared("p95", trial, real)
            refused = verdict.outcome == Outcome.INVALID
            agree = low <= 1 + ALLOWED and high >= 1 - ALLOWED
            right.add(agree and not refused if label == "auto" else refused)
            print(
                f"{'refused' if refused else 'allowed':9} {trial.knobs.speed:4g}  {one.name}:"
                f" p95 {ratio:.3f} of that at speed 1 (95 % interval {low:.3f} to {high:.3f});"
                f" {_leads(cell, trial, real)}",
                flush=True,
            )

    measured(cells, flags, work)
    print(f"chosen speeds that agree with speed 1, and faster ones that are refused: {right}")
    return right.share == 1.0


def _leads(cell: Cell, trial: Trial, real: Trial) -> str:
    """The fullest worker's share of the uploads inside, at a speed and at 1, and by the model."""
    leads = (lead_inside(one) for one in (trial, real))
    seen, alone = ("unknown" if lead is None else percent(lead) for lead in leads)
    measured = f"inside the fullest {seen}, at 1 {alone}"
    if cell.split is None:
        return f"{measured}; the model knows nothing of it"
    speed, told = trial.knobs.speed, cell.split
    return (
        f"{measured}; by the model {percent(told.lead_at(speed))}, at 1 {percent(told.lead_at(1))},"
        f" and latency {percent(told.moved_at(speed))} off"
    )


def compared(metric: str, quick: Trial, real: Trial) -> tuple[float, float, float]:
    """A metric of one trial by that of another, with the ends of its 95 % interval."""
    draw = random.Random(1)
    figure = {"throughput": _rate, "p95": _p95}[metric]
    mine, its = blocks(quick), blocks(real)
    ratios = sorted(
        figure(draw.choices(mine, k=BLOCKS)) / figure(draw.choices(its, k=BLOCKS))
        for _ in range(DRAWS)
    )
    return figure(mine) / figure(its), quantile(ratios, 0.025), quantile(ratios, 0.975)


def blocks(trial: Trial) -> list[tuple[float, list[float]]]:
    """Tenths of the window: successes a second, and the latencies of what was sent in each."""
    start, end = trial.window
    length = (end - start) / BLOCKS
    edges = [start + length * number for number in range(BLOCKS)]

    def within(edge: float) -> Iterator[float]:
        for one in trial.succeeded:
            if edge <= one.sent_at < edge + length:
                yield one.latency_s

    answered = [one.sent_at + one.latency_s for one, _ in trial.answered]
    rates = (sum(edge <= at < edge + length for at in answered) / length for edge in edges)
    return [(rate, list(within(edge))) for rate, edge in zip(rates, edges, strict=True)]


def _rate(drawn: Sequence[tuple[float, list[float]]]) -> float:
    return fmean(rate for rate, _ in drawn) or inf


def _p95(drawn: Sequence[tuple[float, list[float]]]) -> float:
    latencies = sorted(latency for _, those in drawn for latency in those)
    return quantile(latencies, 0.95) if latencies else inf


def main() -> int:
    """Measure what is asked for, and print a line for each trial."""
    made = parser("validation.speeds", __doc__ or "")
    made.add_argument("--stack", choices=("auto", "compose", "embedded"), default="auto")
    made.add_argument("--parts", nargs="+", choices=PARTS, default=USUAL_PARTS)
    made.add_argument("--window", type=positive, default=600, help="of `split`, in seconds")
    made.add_argument("--only", default="*", metavar="GLOB", help="cells, as 'spec/cell'")
    made.add_argument("--cells", type=positive, help="so many of them, drawn by the seed")
    made.add_argument("--seed", type=int, default=1)
    flags = made.parse_args()
    right = True
    if {"first", "twice"} & set(flags.parts):
        cells = asked(flags.only, flags.cells, flags.seed)
        right &= first_and_twice(cells, flags, "twice" in flags.parts)
    if "real" in flags.parts:
        known = {one.name: one for one in asked("*", None, flags.seed)}
        chosen = [known[name] for name in REAL if fnmatchcase(name, flags.only)]
        right &= against_real_time(chosen[: flags.cells], flags)
    if "split" in flags.parts:
        known = {one.name: one for one in asked("threshold/*", None, flags.seed)}
        chosen = [known[name] for name in SPLIT if fnmatchcase(name, flags.only)]
        right &= how_they_share(chosen[: flags.cells], flags)
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(exit_code(main))
