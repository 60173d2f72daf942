"""A stored ramp against the oracle.

For each cell of RUN, the users at whom the lab said that p95 passes its bound, beside what the
oracle (`validation.oracle_ramp`) gives for the stage times measured in that very cell. They
agree within 2 users or 15 %; and the cells' order must be the one that their capacity bounds
predict.

Of the lab it uses the stored files and what they say, never how a crossing is looked for. The
storage call is taken for uniform with the measured mean and deviation; the time that an
upload holds the event loop beside its stages is what the workers' readings leave for it.

Exit code: 0 all agree, 1 one does not, 2 not such a run.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite, sqrt
from statistics import fmean, pstdev

from lab.errors import UsageError
from lab.model.criterion import Criterion
from lab.model.evidence import Observation, WorkerReading
from lab.model.experiment import Cell
from lab.model.load import StagesLoad
from lab.model.physics import pool_connections
from lab.model.replica import nginx_limits
from lab.model.verdict import Crossing
from lab.store import RunFolder
from validation.command import exit_code, parser, run_of
from validation.oracle import System
from validation.oracle_ramp import Expected, Ramp, Stage, expected

USERS, SHARE = 2, 0.15


@dataclass(frozen=True)
class Row:
    """A cell: what was measured, what the oracle gives, and the system that both are of."""

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
        LabError: a file cannot be read; no cell is finished; or one is not a ramp of one of
            the three storage calls on the VM, or showed no upload.
    """
    cells = [result.id for result in run.summary().cells]
    if not cells:
        raise UsageError(
            f"{run.path}: no cell is finished there",
            "give a run of `lab run`; searches are for `python -m validation.thresholds`",
        )
    return [_row(run, cell_id, seeds) for cell_id in cells]


def _row(run: RunFolder, cell_id: str, seeds: int) -> Row:
    folder = run.cell(cell_id)
    cell, verdict = folder.read_cell(), folder.read_verdict()
    bound = next((c.bound for c in cell.criteria if c.metric == "p95"), None)
    if bound is None:
        raise UsageError(
            f"{run.path}: no criterion of cell {cell_id} holds p95 against a bound",
            "give a run of a spec with one, as 'p95 < 10 s'",
        )
    crossings = verdict.course.crossings if verdict.course else ()
    of_p95 = (c for c in crossings if Criterion.parse(c.criterion).metric == "p95")
    ramp, system = ramp_of(cell), system_of(cell, folder.read_observation())
    oracle = expected(system, ramp, bound, seeds)
    return Row(cell_id, verdict.outcome != "invalid", system, next(of_p95, None), oracle)


def ramp_of(cell: Cell) -> Ramp:
    """The cell's load for the oracle.

    Raises:
        UsageError: the load is none of stages whose users grow.
    """
    remedy = "give a run of a ramp, as experiments/phase-2-gcs.yaml"
    if not isinstance(cell.load, StagesLoad):
        raise UsageError(f"cell {cell.id}: its load has no stages", remedy)
    stages = tuple(Stage(stage.users, stage.over, stage.hold) for stage in cell.load.stages)
    try:
        return Ramp(stages, nginx_limits(cell.knobs).read_s, cell.load.backoff.mean)
    except ValueError as error:
        raise UsageError(f"cell {cell.id}: {error}", remedy) from None


def system_of(cell: Cell, observation: Observation) -> System:
    """The cell's configuration, with the stage times that its successes measured.

    Raises:
        UsageError: the oracle does not know such a cell, or no upload of it succeeded.
    """
    knobs, good = cell.knobs, [s.stages for s in observation.samples if s.error is None]
    connections = pool_connections(knobs)
    if cell.target != "vm" or knobs.gcs_call == "audio_pool":
        what = f"target {cell.target}" if cell.target != "vm" else f"gcs_call {knobs.gcs_call}"
        remedy = "give a run of target vm with gcs_call blocking, to_thread or executor"
        raise UsageError(f"cell {cell.id}: the oracle does not know {what}", remedy)
    if not isfinite(connections):
        raise UsageError(
            f"cell {cell.id}: the oracle does not know a pool without a limit",
            "give a run with pool_class QueuePool and a number for max_overflow",
        )
    if not good:
        raise UsageError(
            f"cell {cell.id}: no upload succeeded, so its stages have no times",
            "give a run in which some do",
        )
    times = {name: [s.get(name, 0.0) for s in good] for name in ("auth", "release", "write", "gcs")}
    auth, release, write, storage = map(fmean, times.values())
    half = min(storage, sqrt(3) * pstdev(times["gcs"]))
    staged = auth + release + write + (storage if knobs.gcs_call == "blocking" else 0.0)
    return System(
        knobs.gcs_call,
        workers=knobs.workers,
        threads=knobs.gcs_threads,
        cpus=int(knobs.vm_cpus),
        pool=int(connections),
        auth=auth,
        release=release,
        write=write,
        cpu=_loop_time(cell, observation, staged),
        storage=(storage - half, storage + half),
    )


def uploads_by_worker(observation: Observation) -> list[int]:
    """Uploads of each worker; its first request to storage asks for the bucket."""
    return [line.gcs_attempts - 1 for line in _last_readings(observation)]


def _last_readings(observation: Observation) -> list[WorkerReading]:
    last = {line.pid: line for line in observation.evidence if isinstance(line, WorkerReading)}
    return list(last.values())


def _loop_time(cell: Cell, observation: Observation, staged: float) -> float:
    """Real-world seconds for which an upload holds the loop outside of its stages, 0 at least."""
    uploads, speed = sum(uploads_by_worker(observation)), cell.knobs.speed
    busy = sum(line.loop_busy_s or 0.0 for line in _last_readings(observation)) * speed
    if uploads <= 0 or not busy:
        return System.cpu * speed
    return max(0.0, busy / uploads - staged)


def capacity_bound(system: System) -> float:
    """Uploads a second at most: slots over the time one is held; the scarcest decides."""
    loop = system.cpu + system.auth + system.release + system.write
    storage = fmean(system.storage)
    if not system.slots:
        return system.workers / (loop + storage)
    return system.workers * min(1 / loop, system.slots / storage)


def in_order(rows: Sequence[Row]) -> bool:
    """Whether who carries more crosses later."""
    by_bound = sorted(rows, key=lambda row: capacity_bound(row.system))
    users = [(row.users, row.measured.t if row.measured else inf) for row in by_bound]
    return users == sorted(users)


def table(rows: Sequence[Row]) -> str:
    """The comparison as text; users in brackets are those at the first slow upload."""
    form = "{:<28}{:>15}{:>24}{:>14}{:>10}  {}"
    lines = [form.format("cell", "measured", "oracle", "difference", "bound /s", "within")]
    for row in rows:
        measured, oracle = row.measured, row.oracle
        off, span = row.users - oracle.median, f"{_n(oracle.lowest)}-{_n(oracle.highest)}"
        lines.append(
            form.format(
                row.cell,
                f"{measured.users} ({measured.since_users})" if measured else "none",
                f"{_n(oracle.median)} ({_n(oracle.since)}), {span}",
                f"{off:+.0f} {100 * off / oracle.median:+.0f} %" if isfinite(off) else "-",
                f"{capacity_bound(row.system):.2f}",
                ("yes" if row.within else "no") + ("" if row.valid else ": the cell is invalid"),
            )
        )
    return "\n".join([*lines, f"in the order of the bounds: {'yes' if in_order(rows) else 'no'}"])


def _n(users: float) -> str:
    return f"{users:.0f}" if isfinite(users) else "none"


def main(arguments: Sequence[str]) -> int:
    """Print the comparison; the exit code."""
    command = parser("validation.ramp", __doc__)
    command.add_argument("run", metavar="RUN", help="a folder, a name's unique prefix, or latest")
    flags = command.parse_args(arguments)

    def work() -> int:
        rows = compare(run_of(flags, flags.run))
        print(table(rows))
        return 0 if all(row.within for row in rows) and in_order(rows) else 1

    return exit_code(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
