"""Stored searches against the oracle: ``python -m validation.thresholds ONE_USER RUN [RUN ...]``.

For each cell of each RUN, a search for a capacity, the interval that the lab gave beside the
most users with whom the oracle (`validation.oracle`) holds, for the stage times that were measured
in the search's own trials at the ends of the interval. An interval contains it that begins at
so many users or fewer, and ends above. Searches of the same cell must overlap.

ONE_USER is a run of one user on two workers. Each of its uploads finds both idle, so that the
share of the busier one is how often the worker that is woken first is the first to accept.

Exit code: 0 all agree, 1 one does not, 2 not such runs.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from lab.errors import LabError
from lab.model.capacity import Threshold
from lab.model.evidence import Observation, WorkerReading
from lab.store import RunFolder
from validation.oracle import System, threshold
from validation.ramp import system_of

P95_BOUND_S = 10.0
"""The criterion that is crossed first: ``p95 < 10 s``."""


@dataclass(frozen=True)
class Row:
    """A cell of a search: its interval, and the most users with whom the oracle holds."""

    found: Threshold
    system: System
    oracle: int

    @property
    def within(self) -> bool:
        """Whether the interval contains the oracle's value; an open one is no interval."""
        low, high = self.found.holds_at, self.found.breaks_at
        return low is not None and high is not None and low <= self.oracle < high


def compare(run: RunFolder, lead: float, trials: int = 20) -> list[Row]:
    """A row for each cell whose search has ended.

    Raises:
        LabError: a file cannot be read.
        ValueError: not a search, or one of another criterion.
    """
    answers = run.read_thresholds()
    if answers is None:
        raise ValueError(f"{run.path}: no search has ended there")
    return [_row(run, found, lead, trials) for found in answers.cells]


def lead_of(run: RunFolder) -> float:
    """How often the busier of two workers took an upload of the only user.

    Raises:
        ValueError: not such a run.
    """
    taken = [_by_worker(run.cell(cell.id).read_observation()) for cell in run.cells()]
    if any(len(each) != 2 for each in taken):
        raise ValueError(f"{run.path}: not a run of two workers")
    return sum(max(each) for each in taken) / sum(map(sum, taken))


def _by_worker(observation: Observation) -> list[int]:
    """Uploads of each worker; its first request to storage asks for the bucket."""
    last = {line.pid: line for line in observation.evidence if isinstance(line, WorkerReading)}
    return [line.gcs_attempts - 1 for line in last.values()]


def _row(run: RunFolder, found: Threshold, lead: float, trials: int) -> Row:
    if found.crossed_first != f"p95 < {P95_BOUND_S:.0f} s":
        raise ValueError(f"{found.id}: the oracle knows of p95 < {P95_BOUND_S:.0f} s alone")
    ends = {found.holds_at, found.breaks_at}
    near = [run.cell(one.id) for one in found.trials if one.users in ends]
    systems = [system_of(one.read_cell(), one.read_observation()) for one in near]
    system = replace(_mean(systems), lead=lead)
    return Row(found, system, threshold(system, P95_BOUND_S, trials=trials))


def _mean(systems: Sequence[System]) -> System:
    """The system whose times are the means of theirs."""
    return replace(
        systems[0],
        auth=fmean(one.auth for one in systems),
        release=fmean(one.release for one in systems),
        write=fmean(one.write for one in systems),
        cpu=fmean(one.cpu for one in systems),
        storage=(
            fmean(one.storage[0] for one in systems),
            fmean(one.storage[1] for one in systems),
        ),
    )


def overlap(rows: Sequence[Row]) -> bool:
    """Whether all searches of the same cell leave users on whom they agree."""
    searches: dict[str, list[Threshold]] = defaultdict(list)
    for row in rows:
        searches[row.found.id].append(row.found)
    return all(
        max(one.holds_at or 0 for one in each)
        < min(sys.maxsize if one.breaks_at is None else one.breaks_at for one in each)
        for each in searches.values()
    )


def table(rows: Sequence[Row]) -> str:
    """The comparison as text, with the stage times in milliseconds."""
    form = "{:<32}{:>10}{:>10}{:>9}{:>8}  {}"
    lines = [form.format("cell", "interval", "outcome", "oracle", "within", "ms in the loop")]
    for row in rows:
        one, system = row.found, row.system
        held = {"auth": system.auth, "release": system.release, "write": system.write}
        held["other"] = system.cpu
        lines.append(
            form.format(
                one.id,
                f"{one.holds_at}..{one.breaks_at}",
                one.outcome,
                row.oracle,
                "yes" if row.within else "no",
                ", ".join(f"{name} {seconds * 1e3:.0f}" for name, seconds in held.items()),
            )
        )
    return "\n".join([*lines, f"searches of a cell overlap: {'yes' if overlap(rows) else 'no'}"])


def main(arguments: Sequence[str]) -> int:
    """Print the comparison; the exit code."""
    try:
        one_user, *runs = [RunFolder.open(Path(path)) for path in arguments]
        lead = lead_of(one_user)
        rows = [row for run in runs for row in compare(run, lead)]
    except (LabError, ValueError) as error:
        print(f"python -m validation.thresholds ONE_USER RUN: {error}", file=sys.stderr)
        return 2
    print(f"of two idle workers one takes {lead:.0%}")
    print(table(rows))
    return 0 if rows and all(row.within for row in rows) and overlap(rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
