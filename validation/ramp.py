"""A stored ramp against the oracle: ``python -m validation.ramp RUN``, the run's folder.

For each cell, the users at whom the lab said that p95 passes its bound, beside what the
oracle (`validation.oracle_ramp`) gives for the stage times measured in that very cell. They
agree within 2 users or 15 %; and the cells' order must be the one that the laws predict.

Of the lab it uses the stored files and what they say, never how a crossing is found. The
storage call is taken for uniform with the measured mean and deviation; the time that an
upload holds the event loop beside its stages is what the workers' readings leave for it.

Exit code: 0 all agree, 1 one does not, 2 not such a run.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite, sqrt
from pathlib import Path
from statistics import fmean, pstdev

from lab.errors import LabError
from lab.model.criterion import Criterion
from lab.model.evidence import Observation, WorkerReading
from lab.model.experiment import Cell
from lab.model.load import StagesLoad
from lab.model.verdict import Crossing
from lab.store import RunFolder
from validation.oracle import System
from validation.oracle_ramp import Expected, Ramp, Stage, expected

USERS, SHARE = 2, 0.15
READ_TIMEOUT = {"as-found": 60.0, "recommended": 30.0}


@dataclass(frozen=True)
class Row:
    """A cell: what was measured, what the oracle gives, and what the laws say it carries."""

    cell: str
    valid: bool
    system: System
    measured: Crossing | None
    oracle: Expected

    @property
    def users(self) -> float:
        return self.measured.users if self.measured else inf

    @property
    def within(self) -> bool:
        """Whether they agree; two that never cross do, and an invalid cell shows nothing."""
        if not isfinite(self.users) or not isfinite(self.oracle.median):
            return self.valid and self.users == self.oracle.median
        off = abs(self.users - self.oracle.median)
        return self.valid and off <= max(USERS, SHARE * self.oracle.median)


def compare(run: RunFolder, seeds: int = 9) -> list[Row]:
    """A row for each finished cell.

    Raises:
        LabError: a file cannot be read.
        ValueError: a cell is not a ramp of one of the three storage calls, or showed no upload.
    """
    return [_row(run, result.id, seeds) for result in run.summary().cells]


def _row(run: RunFolder, cell_id: str, seeds: int) -> Row:
    folder = run.cell(cell_id)
    cell, verdict = folder.read_cell(), folder.read_verdict()
    crossings = verdict.course.crossings if verdict.course else ()
    bound = next((one.bound for one in cell.criteria if one.metric == "p95"), None)
    if bound is None:
        raise ValueError(f"{cell_id}: no criterion holds p95 against a bound")
    found = [one for one in crossings if Criterion.parse(one.criterion).metric == "p95"]
    system = system_of(cell, folder.read_observation())
    oracle = expected(system, ramp_of(cell), bound, seeds)
    return Row(cell_id, verdict.outcome != "invalid", system, next(iter(found), None), oracle)


def ramp_of(cell: Cell) -> Ramp:
    """The cell's load for the oracle."""
    if not isinstance(cell.load, StagesLoad):
        raise ValueError(f"{cell.id}: its load has no stages")
    stages = tuple(Stage(one.users, one.over, one.hold) for one in cell.load.stages)
    return Ramp(stages, READ_TIMEOUT[cell.knobs.nginx], cell.load.backoff)


def system_of(cell: Cell, observation: Observation) -> System:
    """The cell's configuration, with the stage times that its successes measured."""
    knobs, good = cell.knobs, [s.stages for s in observation.samples if s.error is None]
    if knobs.gcs_call == "audio_pool" or not good:
        raise ValueError(f"{cell.id}: nothing that the oracle could be held against")
    times = {name: [s.get(name, 0.0) for s in good] for name in ("auth", "release", "write", "gcs")}
    auth, release, write, storage = map(fmean, times.values())
    half = min(storage, sqrt(3) * pstdev(times["gcs"]))
    staged = auth + release + write + (storage if knobs.gcs_call == "blocking" else 0.0)
    return System(
        knobs.gcs_call,
        workers=knobs.workers,
        threads=knobs.gcs_threads,
        cpus=int(knobs.vm_cpus),
        pool=knobs.pool_size + knobs.max_overflow,
        auth=auth,
        release=release,
        write=write,
        cpu=_loop_time(cell, observation, staged),
        storage=(storage - half, storage + half),
    )


def _loop_time(cell: Cell, observation: Observation, staged: float) -> float:
    """Real-world seconds for which an upload holds the loop outside of its stages, 0 at least.

    Each upload is a storage attempt, and so is the client's question for the bucket, once a worker.
    """
    last = {line.pid: line for line in observation.evidence if isinstance(line, WorkerReading)}
    uploads = sum(line.gcs_attempts - 1 for line in last.values())
    busy = sum(line.loop_busy_s or 0.0 for line in last.values()) * cell.knobs.speed
    return (
        max(0.0, busy / uploads - staged) if uploads > 0 and busy else System.cpu * cell.knobs.speed
    )


def carried(system: System) -> float:
    """Uploads a second, by the laws: slots over the time one is held; the scarcest decides."""
    loop = system.cpu + system.auth + system.release + system.write
    storage = fmean(system.storage)
    if not system.slots:
        return system.workers / (loop + storage)
    return system.workers * min(1 / loop, system.slots / storage)


def in_order(rows: Sequence[Row]) -> bool:
    """Whether who carries more crosses later."""
    by_law = sorted(rows, key=lambda row: carried(row.system))
    users = [(row.users, row.measured.t if row.measured else inf) for row in by_law]
    return users == sorted(users)


def table(rows: Sequence[Row]) -> str:
    """The comparison as text; users in brackets are those at the first slow upload."""
    form = "{:<28}{:>15}{:>24}{:>14}{:>10}  {}"
    lines = [form.format("cell", "measured", "oracle", "difference", "law /s", "within")]
    for row in rows:
        one, oracle = row.measured, row.oracle
        difference = row.users - oracle.median
        apart = (
            f"{difference:+.0f} {difference / oracle.median:+.0%}" if isfinite(difference) else "-"
        )
        lines.append(
            form.format(
                row.cell,
                f"{one.users} ({one.since_users})" if one else "none",
                f"{_n(oracle.median)} ({_n(oracle.since)}), {_n(oracle.fewest)}-{_n(oracle.most)}",
                apart,
                f"{carried(row.system):.2f}",
                ("yes" if row.within else "no") + ("" if row.valid else ": the cell is invalid"),
            )
        )
    return "\n".join([*lines, f"in the order of the laws: {'yes' if in_order(rows) else 'no'}"])


def _n(users: float) -> str:
    return f"{users:.0f}" if isfinite(users) else "none"


def main(arguments: Sequence[str]) -> int:
    """Print the comparison; the exit code."""
    try:
        [path] = arguments
        rows = compare(RunFolder.open(Path(path)))
    except (LabError, ValueError) as error:
        print(f"python -m validation.ramp RUN: {error}", file=sys.stderr)
        return 2
    print(table(rows))
    return 0 if rows and all(row.within for row in rows) and in_order(rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
