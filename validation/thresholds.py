"""Stored searches against the oracle.

For each cell of each RUN, a search for a capacity, the interval that the lab gave beside the
most users with whom the oracle (`validation.oracle`) holds, for the stage times that were
measured in the search's own trials at the ends of the interval. An interval contains it that
begins at so many users or fewer, and ends above. Searches of the same cell must overlap.

ONE_USER is a run of one user on two workers. Each of its uploads finds both idle, so that the
share of the busier one is how often the worker that is woken first is the first to accept.

Exit code: 0 all agree, 1 one does not, 2 not such runs.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from lab.errors import UsageError
from lab.model.capacity import Threshold
from lab.model.units import percent
from lab.store import RunFolder
from validation.command import exit_code, parser, run_of
from validation.oracle import System, threshold
from validation.ramp import system_of, uploads_by_worker

P95_BOUND_S = 10.0
P95_CRITERION = f"p95 < {P95_BOUND_S:.0f} s"
"""The criterion that is crossed first."""


@dataclass(frozen=True)
class Row:
    """A cell of a search: its interval, and the most users with whom the oracle holds."""

    threshold: Threshold
    system: System
    oracle: int

    @property
    def within(self) -> bool:
        """Whether the interval contains the oracle's value; an open one is no interval."""
        low, high = self.threshold.holds_at, self.threshold.breaks_at
        return low is not None and high is not None and low <= self.oracle < high


def compare(run: RunFolder, lead: float, trials: int = 20) -> list[Row]:
    """A row for each cell whose search has ended.

    Raises:
        LabError: a file cannot be read; not a search, or one of another criterion.
    """
    answers = run.read_thresholds()
    if answers is None or not answers.cells:
        remedy = "give a run of `lab threshold`, or let it end with --resume"
        raise UsageError(f"{run.path}: no search has ended there", remedy)
    return [_row(run, answer, lead, trials) for answer in answers.cells]


def lead_of(run: RunFolder) -> float:
    """How often the busier of two workers took an upload of the only user, from 0 to 1.

    Raises:
        LabError: a file cannot be read, or not such a run.
    """
    observations = [run.cell(cell.id).read_observation() for cell in run.cells()]
    taken = [uploads_by_worker(observation) for observation in observations]
    if any(len(workers) != 2 for workers in taken) or not sum(map(sum, taken)):
        remedy = "give one of `users: 1` with `workers: 2`; `validation` has such a spec"
        raise UsageError(f"{run.path}: not a run of two workers that took uploads", remedy)
    return sum(map(max, taken)) / sum(map(sum, taken))


def _row(run: RunFolder, answer: Threshold, lead: float, trials: int) -> Row:
    if answer.crossed_first != P95_CRITERION:
        raise UsageError(
            f"{run.path}: cell {answer.id} crosses {answer.crossed_first or 'nothing'} first, and"
            f" the oracle knows of {P95_CRITERION} alone",
            "give searches that cross it first",
        )
    ends = {answer.holds_at, answer.breaks_at}
    near = [run.cell(trial.id) for trial in answer.trials if trial.users in ends]
    systems = [system_of(folder.read_cell(), folder.read_observation()) for folder in near]
    system = replace(_mean(systems), lead=lead)
    return Row(answer, system, threshold(system, P95_BOUND_S, trials=trials))


def _mean(systems: Sequence[System]) -> System:
    """The system whose times are the means of theirs."""
    shortest, longest = zip(*(system.storage for system in systems), strict=True)
    return replace(
        systems[0],
        auth=fmean(system.auth for system in systems),
        release=fmean(system.release for system in systems),
        write=fmean(system.write for system in systems),
        cpu=fmean(system.cpu for system in systems),
        storage=(fmean(shortest), fmean(longest)),
    )


def overlap(rows: Sequence[Row]) -> bool:
    """Whether all searches of the same cell leave users on whom they agree."""
    searches: dict[str, list[Threshold]] = defaultdict(list)
    for row in rows:
        searches[row.threshold.id].append(row.threshold)
    return all(
        max(answer.holds_at or 0 for answer in same)
        < min(sys.maxsize if answer.breaks_at is None else answer.breaks_at for answer in same)
        for same in searches.values()
    )


def table(rows: Sequence[Row]) -> str:
    """The comparison as text, with the stage times in milliseconds."""
    form = "{:<32}{:>10}{:>10}{:>9}{:>8}  {}"
    lines = [form.format("cell", "interval", "outcome", "oracle", "within", "ms in the loop")]
    for row in rows:
        answer, system = row.threshold, row.system
        held = {"auth": system.auth, "release": system.release, "write": system.write}
        held["other"] = system.cpu
        lines.append(
            form.format(
                answer.id,
                f"{answer.holds_at}..{answer.breaks_at}",
                answer.outcome,
                row.oracle,
                "yes" if row.within else "no",
                ", ".join(f"{name} {seconds * 1e3:.0f}" for name, seconds in held.items()),
            )
        )
    return "\n".join([*lines, f"searches of a cell overlap: {'yes' if overlap(rows) else 'no'}"])


def main(arguments: Sequence[str]) -> int:
    """Print the comparison; the exit code."""
    command = parser("validation.thresholds", __doc__)
    command.add_argument("one_user", metavar="ONE_USER", help="a run of one user on two workers")
    command.add_argument(
        "runs", metavar="RUN", nargs="+", help="a folder, a name's unique prefix, or latest"
    )
    flags = command.parse_args(arguments)

    def work() -> int:
        lead = lead_of(run_of(flags, flags.one_user))
        rows = [row for run in flags.runs for row in compare(run_of(flags, run), lead)]
        print(f"of two idle workers one takes {percent(lead)}")
        print(table(rows))
        return 0 if all(row.within for row in rows) and overlap(rows) else 1

    return exit_code(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
