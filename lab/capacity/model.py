"""The model of a capacity: a cell's closed network, simulated as discrete events; pure.

    Network + users + seed ─simulate─> Simulated: each upload of a window, one after the other

It knows what `lab.capacity.network` names and nothing else. The same seed gives the same uploads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from lab.capacity.engine import Engine
from lab.capacity.jobs import JobEngine
from lab.capacity.network import Floats, Network
from lab.capacity.parts import CAUSES, COLUMNS, OK, WAITS, Draws, Rows
from lab.capacity.plain import is_plain, run_plain


@dataclass(frozen=True, eq=False)
class Simulated:
    """The uploads of one replication that ended in its window, in the order of their ends.

    All are 1-D and as long as there are uploads; times are real-world seconds.

    Args:
        ended: since the window began.
        latency: from when it was sent until it was answered, refused or given up.
        storage: that its storage call took; 0 where it came to none.
        worker: which had it, from 0; -1: none.
        ok: whether it succeeded.
        code: how it ended, an index of `lab.capacity.parts.CAUSES`.
        waits: that it waited for each of `lab.capacity.parts.WAITS`.
        inside: the mean number of uploads inside each worker, in the window.
        window: its length.
    """

    ended: Floats
    latency: Floats
    storage: Floats
    worker: NDArray[np.int64]
    ok: NDArray[np.bool_]
    code: NDArray[np.int64]
    waits: Mapping[str, Floats]
    inside: Floats
    window: float

    @property
    def throughput(self) -> float:
        """Successes a second."""
        return float(self.ok.sum()) / self.window

    @property
    def error_rate(self) -> float:
        """The share of uploads that failed; nan of none."""
        return float(1 - self.ok.mean()) if self.ok.size else float("nan")

    def late(self, bound: float) -> float:
        """The share of the successes that took ``bound`` seconds or longer; nan of none."""
        latency = self.latency[self.ok]
        return float((latency >= bound).mean()) if latency.size else float("nan")

    def percentile(self, p: float) -> float:
        """The smallest latency that a share ``p`` of the successes does not exceed; nan of none.

        The inverse of the empirical distribution, as `lab.model.physics.quantile`.
        """
        latency = self.latency[self.ok]
        if not latency.size:
            return float("nan")
        return float(np.quantile(latency, p, method="inverted_cdf"))

    @property
    def causes(self) -> dict[str, float]:
        """The share of the uploads that ended by each cause of failure, the most frequent first."""
        return causes_of(self.code)


def causes_of(code: NDArray[np.int64]) -> dict[str, float]:
    """Of so many uploads the share that ended by each cause of failure, the most frequent first."""
    counts = enumerate(np.bincount(code, minlength=len(CAUSES)))
    shares = {CAUSES[at]: float(count) / code.size for at, count in counts if count and at != OK}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def simulate(
    network: Network,
    users: int,
    *,
    seed: int,
    warmup: float,
    window: float,
    follow: bool = False,
) -> Simulated:
    """One replication: users begin over the network's ramp, and upload until the window is over.

    Args:
        network: what they upload to.
        users: of a closed load, 1 at least.
        seed: the same gives the same uploads.
        warmup: real-world seconds after the ramp that do not count.
        window: real-world seconds that do; nobody sends after it.
        follow: whether what was sent in the window is followed to its end, as the lab does with a
            cell; the uploads are then all that ended since the window began.

    Raises:
        ValueError: fewer than one user, or no window.
    """
    if users < 1 or window <= 0:
        raise ValueError(f"{users} users and a window of {window:g} s are no load")
    start = network.ramp + warmup
    stop = start + window
    rows, inside = _run(network, users, seed, (start, stop), inf if follow else stop)
    table = np.frombuffer(rows, dtype=np.float64).reshape(-1, len(COLUMNS))
    table = table[np.argsort(table[:, 0], kind="stable")]
    column = {name: table[:, at] for at, name in enumerate(COLUMNS)}
    code = column["code"].astype(np.int64)
    return Simulated(
        ended=column["ended"] - start,
        latency=column["latency"],
        storage=column["storage"],
        worker=column["worker"].astype(np.int64),
        ok=code == OK,
        code=code,
        waits={name: column[name] for name in WAITS},
        inside=np.array(inside) / window,
        window=window,
    )


def _run(
    network: Network, users: int, seed: int, window: tuple[float, float], until: float
) -> tuple[Rows, list[float]]:
    """By the quickest that knows all that may happen."""
    if is_plain(network, users):
        found = run_plain(network, users, Draws(network, users, seed), window, until)
        if found is not None:
            return found
    shared = network.database.held or network.database.threads
    engine = (JobEngine if shared else Engine)(network, users, seed, window, until)
    engine.run(users)
    return engine.rows, engine.inside
