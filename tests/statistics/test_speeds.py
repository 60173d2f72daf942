"""Does the speed that is chosen for several workers keep the threshold where it is at speed 1?

Systems are drawn, and each is simulated at its threshold: once by what chooses its speed, and then
for far longer by what tells how far its threshold is from that at speed 1.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from lab.capacity.model import simulate
from lab.capacity.sharing import SimulatedSplit, network_at, threshold_correction
from lab.config import read_faults
from lab.model.costs import GENERATOR, WORKER, Costs, WorkCost
from lab.model.experiment import Cell
from lab.model.fidelity import ALLOWED
from lab.paths import ROOT
from lab.plan import LoopWork, choose_speed
from tests.fakes import make_cell

FAULTS = read_faults(ROOT / "faults")
SYSTEMS = 14
CHANCE = 0.01
"""By so much a simulation of the choice, and one of the threshold, may be off together."""


@dataclass(frozen=True)
class System:
    """A cell at its threshold, and what an upload costs its machine."""

    cell: Cell
    cpu_s: float
    trip_s: float

    @property
    def costs(self) -> Costs:
        """Of a machine in which nothing but event loops is scarce."""
        loop = WorkCost(upload_s=self.cpu_s + 7 * self.trip_s)
        parts = {WORKER: WorkCost(upload_s=self.cpu_s), GENERATOR: WorkCost(upload_s=0.0001)}
        return Costs(parts=parts, machine=WorkCost(upload_s=0), trip_s=self.trip_s, loop=loop)

    @property
    def work(self) -> LoopWork:
        return LoopWork(self.cpu_s, self.trip_s)


def drawn(rng: random.Random) -> Iterator[System]:
    """Two or four workers, with few threads or many, on fast machines and slow ones."""
    while True:
        workers, threads = rng.choice((2, 2, 4)), rng.randint(5, 13)
        cpu_s, trip_s = rng.uniform(0.003, 0.009), rng.uniform(0.0003, 0.001)

        def at(users: int, workers: int = workers, threads: int = threads) -> Cell:
            settings = {"gcs_call": "executor", "gcs_threads": threads, "workers": workers}
            made = make_cell(
                {"global_rate_limit": "off", **settings},
                load={"users": users, "window": "300 s", "audio": "50 KB"},
                faults=[FAULTS["gcs-latency"], FAULTS["db-distance"]],
            )
            return made.model_copy(update={"auto_speed": True})

        users = _threshold(at(10), LoopWork(cpu_s, trip_s), workers * threads)
        yield System(at(users), cpu_s, trip_s)


def _threshold(cell: Cell, work: LoopWork, slots: int) -> int:
    """About the most users of whom fewer than 5 % are late, by halving."""
    network, low, high = network_at(cell, work, 1.0), slots // 2, 3 * slots
    while high - low > 1:
        users = (low + high) // 2
        seen = simulate(network, users, seed=3, warmup=120.0, window=400.0)
        low, high = (users, high) if seen.late(10.0) < 0.05 else (low, users)
    return low


@pytest.mark.statistics
def test_the_chosen_speed_moves_no_threshold_by_more_than_a_twentieth() -> None:
    model, systems = SimulatedSplit(), drawn(random.Random(20261128))
    moved, faster = [], 0
    for _ in range(SYSTEMS):
        system = next(systems)
        cell = system.cell
        choice = choose_speed(cell, system.costs, model=model)
        faster += choice.speed > 1
        one, fast = (network_at(cell, system.work, speed) for speed in (1.0, choice.speed))
        users = cell.load.peak_users
        moved.append(abs(1 / threshold_correction(one, fast, users, 10.0) - 1))
    assert faster > SYSTEMS / 2, "a speed that keeps everything is no choice"
    assert max(moved) <= ALLOWED + CHANCE
    assert sorted(moved)[-3] <= ALLOWED
