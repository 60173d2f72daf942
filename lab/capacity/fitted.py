"""A cell's network with the times that its own trials measured, for a search (`LoadModel`).

    CapacityTrial … ─> MeasuredTimes: stages, answers of storage ─> lead ─> Network ─> loads

With several workers that share a socket the leading share (how often the worker that is woken
first takes an upload) is what no trial measures outright. It is fitted to how unevenly uploads were
inside the workers: at each number of users the network is simulated with a few leading shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from math import exp, fsum, sqrt
from statistics import fmean, variance
from typing import TYPE_CHECKING

from lab.capacity.belief import Belief, by_bound
from lab.capacity.expected import Expectation, Uploads
from lab.capacity.shown import storage_of
from lab.model.capacity import CapacityTrial
from lab.model.experiment import Cell
from lab.model.times import STAGES
from lab.plan.speed import guessed

if TYPE_CHECKING:
    from lab.capacity.network import Network

ENOUGH_STORAGE = 20
"""Fewer measured answers of storage say less of them than the delay that was injected."""

MAX_STORAGE = 4000
"""Answers that a simulation draws from: as many quantiles stand for more."""

LEADS = (0.4, 0.55, 0.7, 0.85, 0.97)
"""Leading shares that are simulated; between them the unevenness is interpolated."""

LEAD_SIGMA = 0.10
"""How far a leading share may be from the usual one, as a standard deviation."""

LEAD_STEP = 0.02
"""To which a fitted one is rounded, so that what is simulated with it can be kept."""

LEAD_SEEDS, LEAD_WINDOW_S = 3, 200.0
"""Simulated windows for each leading share, and their length in seconds."""

LEAD_DOUBT = 1.5
"""By how much more than in the simulation the unevenness of a trial may be off."""

KEPT = 256
"""Results that are kept: a search asks again for what it has asked for before."""

TINY_S = 1e-3
"""What takes less limits nothing."""


@dataclass(frozen=True)
class MeasuredTimes:
    """What trials measured of a cell's uploads, in real-world seconds; means over all of them.

    ``storage`` are answers, ascending; none where too few were measured. ``cpu`` is None where that
    was not read. ``speed`` is the trials' own, in the mean.
    """

    stages: tuple[float, ...]
    cpu: float | None
    storage: tuple[float, ...]
    speed: float = 1.0

    @classmethod
    def of(cls, trials: Sequence[CapacityTrial]) -> MeasuredTimes | None:
        """The means of trials, each by its uploads; None where none has times."""
        times = [trial.times for trial in trials if trial.times and trial.times.latency]
        if not times:
            return None
        count = sum(len(one.latency) for one in times)
        stages = tuple(
            round(fsum(t.stages.get(name, 0.0) * len(t.latency) for t in times) / count, 5)
            for name in STAGES
        )
        read = [(t.cpu, len(t.latency)) for t in times if t.cpu is not None]
        cpu = fsum(c * n for c, n in read) / sum(n for _, n in read) if read else None
        storage = storage_of(trials)
        return cls(
            stages,
            None if cpu is None else round(cpu, 5),
            tuple(thinned(storage, MAX_STORAGE)) if len(storage) >= ENOUGH_STORAGE else (),
            round(fsum(t.speed * len(t.latency) for t in times) / count, 2),
        )

    @property
    def storage_error(self) -> float:
        """The relative standard error of the mean answer; 0 where none were measured."""
        of = len(self.storage)
        return sqrt(variance(self.storage) / of) / fmean(self.storage) if of else 0.0

    def coarse(self) -> MeasuredTimes:
        """The same to two digits: what changes less changes no fit."""
        return MeasuredTimes(
            tuple(float(f"{s:.1e}") for s in self.stages),
            None if self.cpu is None else float(f"{self.cpu:.1e}"),
            tuple(round(s, 1) for s in thinned(self.storage, 40)),
            self.speed,
        )


def thinned(ordered: Sequence[float], most: int) -> list[float]:
    """So many evenly spaced quantiles of values, or all, where there are no more."""
    if len(ordered) <= most:
        return list(ordered)
    return [ordered[int((i + 0.5) * len(ordered) / most)] for i in range(most)]


@dataclass(frozen=True)
class Lead:
    """A leading share with its standard error; None where workers do not share a socket."""

    share: float | None
    error: float = 0.0


@dataclass(frozen=True)
class CellKey:
    """A cell as the key of what is kept of it: equal to another of the same content."""

    content: str
    cell: Cell = field(compare=False)

    @classmethod
    def of(cls, cell: Cell) -> CellKey:
        """The key of a cell, whatever it is called, and whatever seed it has."""
        plain = cell.model_copy(update={"id": "", "seed": 0, "axes": {}})
        return cls(plain.model_dump_json(), cell)


@dataclass(frozen=True)
class _Successes:
    """See `lab.capacity.expected.Uploads`."""

    ended: Sequence[float]
    latency: Sequence[float]
    storage: Sequence[float]
    worker: Sequence[int]


@dataclass(frozen=True)
class NetworkModel:
    """The network of a cell, at its own speed: see `lab.capacity.expected.LoadModel`.

    Raises:
        UsageError: the network model does not know something of the cell; whatever is asked of it.
    """

    key: CellKey
    measured: MeasuredTimes | None = None
    lead: float | None = None

    @property
    def slowed(self) -> Network:
        """The network as it is at speed 1."""
        return _network(self.key, self.measured, self.lead, at_one=True)

    @property
    def workers(self) -> int:
        return self.network.workers

    @property
    def network(self) -> Network:
        """What is simulated."""
        return _network(self.key, self.measured, self.lead)

    @property
    def rate(self) -> float:
        """The least of what places for storage calls, connections held, and event loops carry."""
        network = self.network
        storage = max(network.storage_mean, TINY_S)
        slots = float(network.threads)
        if network.database.held:
            slots = min(slots, network.database.connections)
        loop = 1 / max(network.in_loop, TINY_S)
        return network.workers * (loop if network.blocks_loop else min(loop, slots / storage))

    @property
    def loop_share(self) -> float:
        """The part of its time that an event loop works at that rate; 0 where calls block it."""
        network = self.network
        return 0.0 if network.blocks_loop else self.rate / network.workers * network.in_loop

    @property
    def is_sticky(self) -> bool:
        """Whether users stay at their worker for hours: several whose calls block their loops."""
        network = self.network
        shared = network.workers > 1 and network.balance == "shared_socket"
        return shared and network.blocks_loop

    def simulate(self, users: int, seed: int, warmup: float, window: float) -> Uploads:
        from lab.capacity.model import simulate  # it needs numpy, which most commands do not

        made = simulate(self.network, users, seed=seed, warmup=warmup, window=window)
        columns = made.ended, made.latency, made.storage, made.worker
        return _Successes(*(column[made.ok].tolist() for column in columns))

    def busiest(self, users: int, seed: int, warmup: float, window: float) -> float:
        """The busiest worker's share of the uploads that are inside, in the mean over a load."""
        from lab.capacity.model import simulate

        inside = simulate(self.network, users, seed=seed, warmup=warmup, window=window).inside
        return float(inside.max() / max(inside.sum(), TINY_S))


@lru_cache(maxsize=KEPT)
def _network(
    key: CellKey, measured: MeasuredTimes | None, lead: float | None, at_one: bool = False
) -> Network:
    """The network, with what was measured as it was: at the speed of the trials, or else at 1."""
    import numpy as np

    from lab.capacity.network import StageTimes, network_of

    cell = key.cell
    if measured is None:
        return network_of(cell, None, lead, 1.0 if at_one else guessed(cell).knobs.speed)
    cpu = measured.cpu
    if cpu is None:
        cpu = network_of(cell, None, lead, guessed(cell).knobs.speed).cpu
    auth, release, write = measured.stages
    storage = np.array(measured.storage, dtype=np.float64)
    stages = StageTimes(auth, release, write, cpu, storage, measured.speed)
    return network_of(cell, stages, lead, 1.0 if at_one else measured.speed)


@lru_cache(maxsize=KEPT)
def believed(
    key: CellKey,
    measured: MeasuredTimes | None,
    lead: Lead,
    criterion: tuple[float, float],
    max_users: int,
) -> Belief:
    """What the model expects of a latency's criterion: its bound in seconds, and what is allowed.

    Raises:
        UsageError: it does not know something of the cell.
    """
    model, (bound, allowed) = NetworkModel(key, measured, lead.share), criterion
    start = by_bound(model.rate, bound, allowed, model.workers).users
    return Expectation(model, bound, allowed, start, max_users).belief(lead.error)


@lru_cache(maxsize=KEPT)
def correction_of(model: NetworkModel, users: int, bound: float) -> float:
    """What the threshold at speed 1 is, as a multiple of that at the speed of the trials.

    The faster a cell, the more real-world time its workers' own work takes, and so the evener they
    share: see `lab.capacity.sharing`. With one worker it is 1: the validity check bounds what a
    speed adds there.

    Args:
        model: with what was measured, to two digits.
        users: about where the threshold is.
        bound: of the latency, in seconds.
    """
    fast = model.network
    if fast.workers == 1 or fast.balance != "shared_socket" or not model.measured:
        return 1.0
    if model.measured.speed <= 1:
        return 1.0
    from lab.capacity.sharing import threshold_correction  # it needs numpy

    return threshold_correction(model.slowed, fast, users, bound)


def lead_of(key: CellKey, measured: MeasuredTimes | None, trials: Sequence[CapacityTrial]) -> Lead:
    """The leading share that best explains how unevenly uploads were inside the workers.

    A posterior mean: the usual one give or take `LEAD_SIGMA`, and the busiest worker's share in
    every trial, which is off by what it varies in simulated windows of that length.
    """
    network = NetworkModel(key).network
    if network.workers == 1 or network.balance != "shared_socket":
        return Lead(None)
    told = [
        (trial.users, trial.times.inside[0] / total, trial.window)
        for trial in trials
        if trial.times
        and len(trial.times.inside) == network.workers
        and (total := fsum(trial.times.inside)) > 0
    ]
    steps = range(round(LEADS[0] / LEAD_STEP), round(LEADS[-1] / LEAD_STEP) + 1)
    grid = [step * LEAD_STEP for step in steps]
    coarse = measured.coarse() if measured else None
    off = [((share - network.lead) / LEAD_SIGMA) ** 2 for share in grid]
    for users, busiest, window in told:
        means, deviation = unevenness(key, coarse, users)
        error = LEAD_DOUBT * deviation * sqrt(LEAD_WINDOW_S / window)
        off = [
            squares + ((busiest - interpolated(means, share)) / error) ** 2
            for squares, share in zip(off, grid, strict=True)
        ]
    least = min(off)
    mass = [exp((least - squares) / 2) for squares in off]
    mean = fsum(m * share for m, share in zip(mass, grid, strict=True)) / fsum(mass)
    squares = fsum(m * (share - mean) ** 2 for m, share in zip(mass, grid, strict=True))
    error = sqrt(squares / fsum(mass))
    return Lead(round(round(mean / LEAD_STEP) * LEAD_STEP, 4), round(error, 3))


@lru_cache(maxsize=KEPT)
def unevenness(
    key: CellKey, measured: MeasuredTimes | None, users: int
) -> tuple[tuple[float, ...], float]:
    """The busiest worker's share for each of `LEADS`, and how much it varies between windows."""
    means, variances = [], []
    for lead in LEADS:
        model = NetworkModel(key, measured, lead)
        shares = [
            model.busiest(users, seed, LEAD_WARMUP_S, LEAD_WINDOW_S)
            for seed in range(1, LEAD_SEEDS + 1)
        ]
        means.append(fmean(shares))
        variances.append(variance(shares))
    return tuple(means), max(LEAST_DEVIATION, sqrt(fmean(variances)))


LEAD_WARMUP_S, LEAST_DEVIATION = 60.0, 0.01


def interpolated(means: Sequence[float], lead: float) -> float:
    """The busiest worker's share at a leading share between those that were simulated."""
    for (one, first), (other, second) in pairwise(zip(LEADS, means, strict=True)):
        if lead <= other:
            return first + (second - first) * (lead - one) / (other - one)
    return means[-1]
