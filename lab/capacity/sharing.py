"""How a speed changes the way in which workers of one socket share, by the model of a cell; pure.

    cell, work ─network_of─> Network at speed 1, 1.5, 2, 3 … ─simulate─> latency, lead ─fit─> Split

A simulation of some minutes is as noisy as a measurement of that length: 6,000 uploads tell a mean
or a percentile to about 1 %. So no two speeds are compared with one another: through the figures of
all of them a parabola is laid, whose differences are known to about 1 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from lab.capacity.model import Simulated, simulate
from lab.capacity.network import Floats, Network, network_of
from lab.errors import UsageError
from lab.model.experiment import Cell
from lab.model.fidelity import ALLOWED
from lab.model.load import ClosedLoad
from lab.model.physics import db_trips
from lab.model.split import Split, SplitEffect
from lab.plan.sharing import LoopWork
from lab.plan.speed import TYPICAL

SPEEDS = (1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0, 32.0, 50.0)
"""At which a network is simulated, as far as they are of interest."""

FAR = 3 * ALLOWED
"""No higher speed is of interest than one at which latency is that far off."""

FEWEST = 8
"""Simulations of a cell at least: where there are fewer speeds, the lowest are simulated again."""

UPLOADS, HELD_UPLOADS = 6000, 2000
"""So many end in each simulation: some 0.1 s of CPU. Where sessions are held, or queries run in
threads, an upload takes several times as many events, and figures scatter less."""

FEW = 200
"""With fewer successes a simulation says nothing of their latency."""

PILOT_S = 60.0
"""Seconds in which is seen how many end in a second."""

LONGEST_S = 15_000.0
"""Of a simulation: of workers that stand still for minutes, hardly an upload ends."""

WARMUP_S = 120.0
"""After so long the split has forgotten how users began."""

PARTS = 10
"""Windows, at least, by which is known how a window's lead scatters."""

DIGITS = 2
"""Of what an upload costs: it is known no better, and what was simulated once need not be again."""

AROUND = (0.9, 1.0, 1.1)
"""Of a threshold, the numbers of users that are simulated to see by how much it moves."""

CORRECTING_UPLOADS = 20_000
"""So many end in each of these simulations: their slope is shared, and chance moves the threshold
by about half of one per cent."""

MOST_CORRECTION = 1.15
"""A speed is refused from 1.05 on. What is simulated beyond this is far from the threshold, where
odds follow no power of the users."""

TINY = 1e-9

CURVED = 0.5
"""Late uploads, and as many in time, are added to those of a simulation: none has odds of 0."""


class SimulatedFigures(NamedTuple):
    """What a simulation gives: logarithms of rate and latency, and the fullest worker's share."""

    rate: float
    mean: float
    p95: float
    lead: float
    spread: float


@dataclass(frozen=True)
class SimulatedSplit:
    """The model that `lab.plan.choose_speed` asks, with what it has simulated."""

    _known: dict[tuple[str, int, float, int], SimulatedFigures | None] = field(default_factory=dict)

    def split(self, cell: Cell, work: LoopWork, up_to: float) -> Split | None:
        """See `lab.plan.SplitModel`; the same cell and work give the same.

        None of a cell that the model has no part for, and of one of which no upload succeeds.
        """
        load = cell.load
        if not isinstance(load, ClosedLoad):
            return None
        try:
            networks = {s: network_at(cell, work, s) for s in SPEEDS if s < 2 * up_to or s == 1}
        except UsageError:
            return None
        start, end = load.measured
        seen = self._simulated(networks, load.users, end - start)
        return None if seen is None else _fitted(seen, end - start)

    def _simulated(
        self, networks: dict[float, Network], users: int, window: float
    ) -> list[tuple[float, SimulatedFigures]] | None:
        """Figures by speed, from 1 to where latency is far off; None where nothing succeeds."""
        seen: list[tuple[float, SimulatedFigures]] = []
        for speed, network in networks.items():
            found = self._figures(network, users, window, seed=1)
            if found is None:
                return None
            seen.append((speed, found))
            if _apart(found, seen[0][1]) > FAR:
                break
        speeds = [speed for speed, _ in seen]
        for number in range(FEWEST - len(speeds)):
            speed, seed = speeds[number % len(speeds)], 2 + number // len(speeds)
            found = self._figures(networks[speed], users, window, seed)
            seen += [(speed, found)] if found else []
        return seen

    def _figures(
        self, network: Network, users: int, window: float, seed: int
    ) -> SimulatedFigures | None:
        key = repr(network), users, window, seed
        if key not in self._known:
            self._known[key] = _figures(network, users, window, seed)
        return self._known[key]


def threshold_correction(one: Network, fast: Network, users: float, bound: float) -> float:
    """The threshold at speed 1, as a multiple of that at another speed.

    The odds of being late grow with a power of the users, and near the threshold with the same one
    at both speeds. So the more uploads are late at one of them, the lower its threshold is.

    Args:
        one: the network of a cell at speed 1.
        fast: the same at the speed of its trials.
        users: about where the threshold is.
        bound: seconds from which on an upload is late.

    Returns:
        1 where neither has a late upload, and where there are no more of them with more users; no
        more than `MOST_CORRECTION` and no less than 1 over it.
    """
    if fast is one:
        return 1.0
    counts = sorted({max(1, round(users * around)) for around in AROUND})
    rows = [
        (1.0, float(network is one), float(np.log(n)), _late_odds(network, n, bound))
        for network in (one, fast)
        for n in counts
    ]
    table = np.array(rows)
    if len(counts) < 2 or np.ptp(table[:, 3]) == 0:
        return 1.0
    (_, shift, slope), *_ = np.linalg.lstsq(table[:, :3], table[:, 3], rcond=None)
    if slope <= 0:
        return 1.0
    most = float(np.log(MOST_CORRECTION))
    return float(np.exp(np.clip(-shift / slope, -most, most)))


def _late_odds(network: Network, users: int, bound: float) -> float:
    """The logarithm of the odds that an upload is late."""
    pilot = simulate(network, users, seed=1, warmup=0.0, window=PILOT_S)
    length = CORRECTING_UPLOADS * PILOT_S / max(1, pilot.ended.size)
    latency = (seen := simulate(network, users, seed=1, warmup=WARMUP_S, window=length)).latency
    late = int((latency[seen.ok] >= bound).sum())
    return float(np.log((late + CURVED) / (int(seen.ok.sum()) - late + CURVED)))


def network_at(cell: Cell, work: LoopWork, speed: float) -> Network:
    """The network at a speed, with what an upload costs this machine.

    Raises:
        UsageError: the cell has something that the model does not know.
    """
    network = network_of(cell, speed=speed)
    cpu_s, beyond_s = _rounded(work.cpu_s), _rounded(work.trip_s) - TYPICAL.trip_s
    trips, database = db_trips(cell.knobs), network.database

    def taking(stage: str, seconds: float) -> float:
        return seconds + trips.get(stage, 0) * beyond_s * speed

    scale = cpu_s * speed / network.cpu if network.cpu else 0.0
    return replace(
        network,
        cpu_before=network.cpu_before * scale,
        cpu_after=network.cpu_after * scale,
        database=replace(
            database,
            auth=taking("auth", database.auth),
            release=taking("release", database.release),
            write=taking("write", database.write),
        ),
    )


def _rounded(seconds: float) -> float:
    return float(f"{seconds:.{DIGITS}g}")


def _figures(network: Network, users: int, window: float, seed: int) -> SimulatedFigures | None:
    """Those of one simulation; None where too few uploads succeed."""
    pilot = simulate(network, users, seed=seed, warmup=0.0, window=PILOT_S)
    heavy = network.database.held or network.database.threads
    wanted = HELD_UPLOADS if heavy else UPLOADS
    length = min(LONGEST_S, wanted * PILOT_S / max(1, pilot.ended.size))
    seen = simulate(network, users, seed=seed, warmup=WARMUP_S, window=length)
    latency = seen.latency[seen.ok]
    if latency.size < FEW:
        return None
    lead = leads(seen, network.workers, min(window, length / PARTS))
    rate, mean, p95 = np.log([seen.throughput, latency.mean(), seen.percentile(0.95)])
    return SimulatedFigures(rate, mean, p95, float(lead.mean()), float(lead.std(ddof=1)))


def leads(seen: Simulated, workers: int, window: float) -> Floats:
    """The fullest worker's share of the uploads inside, window by window."""
    edges: Floats = window * np.arange(int(seen.window / window + TINY) + 1, dtype=np.float64)
    sent: Floats = seen.ended - seen.latency
    gone = [
        _since(sent[seen.worker == worker], edges)
        - _since(seen.ended[seen.worker == worker], edges)
        for worker in range(workers)
    ]
    inside: Floats = np.diff(np.array(gone), axis=1)
    all_inside: Floats = inside.sum(axis=0)
    there = all_inside > 0
    shares: Floats = inside.max(axis=0)[there] / all_inside[there]
    return shares


def _since(moments: Floats, edges: Floats) -> Floats:
    """At each edge the seconds that have passed since each of the moments before it, in all."""
    ordered = np.sort(moments)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    count = np.searchsorted(ordered, edges)
    passed: Floats = count * edges - sums[count]
    return passed


def _apart(one: SimulatedFigures, other: SimulatedFigures) -> float:
    """How far rate or latency is from another's, as a share of it."""
    return max(abs(float(np.expm1(a - b))) for a, b in zip(one[:3], other[:3], strict=True))


def _fitted(seen: Sequence[tuple[float, SimulatedFigures]], window: float) -> Split:
    """What the figures of all speeds say together, each speed moving no less than those below."""
    speeds = sorted({speed for speed, _ in seen})
    rates, means, p95s, leads, spreads = zip(*(figures for _, figures in seen), strict=True)
    at = np.array([speed for speed, _ in seen])
    fits = [Parabola.through(at, np.array(values), speeds) for values in (rates, means, p95s)]
    moved = [max(fit.moved(number) for fit in fits) for number in range(len(speeds))]
    lead = np.clip(Parabola.through(at, np.array(leads), speeds).values, 0.0, 1.0)
    spread = min(1.0, float(np.sqrt(np.mean(np.square(spreads)))))
    effects = [
        SplitEffect(speed=s, moved=round(m, 6), lead=round(share, 6), spread=round(spread, 6))
        for s, m, share in zip(
            speeds, accumulate(moved, max), accumulate(lead.tolist(), min), strict=True
        )
    ]
    return Split(window=window, effects=tuple(effects))


class Parabola(NamedTuple):
    """A parabola through noisy logarithms, by least squares; a line where there are few speeds.

    Args:
        values: at some speeds, the first of which is 1.
        errors: the standard errors of their differences from the first, from the residuals.
    """

    values: Floats
    errors: Floats

    @classmethod
    def through(cls, at: Floats, values: Floats, speeds: Sequence[float]) -> Parabola:
        """The one that fits values at speeds best, each of which may be there several times."""
        degree = min(2, max(1, len(speeds) - 2)) if len(speeds) > 1 else 0
        design, wanted = np.vander(at, degree + 1), np.vander(np.array(speeds), degree + 1)
        factors, *_ = np.linalg.lstsq(design, values, rcond=None)
        left = max(1, len(at) - degree - 1)
        variance = float(np.sum((values - design @ factors) ** 2)) / left
        differences = wanted - wanted[0]
        covariance = variance * np.linalg.pinv(design.T @ design)
        errors = np.sqrt(np.einsum("ij,jk,ik->i", differences, covariance, differences).clip(0))
        return cls(wanted @ factors, errors)

    def moved(self, number: int) -> float:
        """How far the figure at a speed is from the first, as a share of it; one standard error is
        held against the speed, so that what chance has made nearer is not taken for near."""
        return abs(float(np.expm1(self.values[number] - self.values[0]))) + float(
            self.errors[number]
        )
