"""The model's customers a second beside those of a simulation by SimPy of the same network.

Both simulate uploads of a closed loop with the incident report's stage times, in this process and
in turns, A B A B; a customer is an upload that ends. SimPy's are `validation.oracle`, and of a
session that is held, or queries in threads, `validation.oracle_waits`: both written for clarity, as
SimPy's own documentation has it, with a process a user and a resource for each kind of slot.

Usage: python -m benchmarks.model [--json] [--pairs N]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import geometric_mean, median

from lab.capacity.model import simulate
from lab.capacity.network import Connections, Network
from validation import oracle, oracle_waits

UPLOADS = 4000
"""Of a turn: so many that what a simulation needs to begin does not matter."""
RAMP_S = 5.0
PAIRS = 5


@dataclass(frozen=True)
class System:
    """A network, by what both have in common; 0 threads: calls that block the loop."""

    workers: int
    threads: int
    users: int
    lead: float = 0.0
    held: bool = False
    anyio: int = 0

    @property
    def window(self) -> float:
        """Seconds in which about so many uploads end."""
        return UPLOADS / min(self.users / 3.7, self.workers * max(1, self.threads) / 3.6)

    @property
    def label(self) -> str:
        """For the table."""
        where = f"{self.threads} threads" if self.threads else "blocking"
        how = f"{', held' if self.held else ''}{', queries in threads' if self.anyio else ''}"
        return f"{self.workers} x {where}{how}, {self.users} users"


SYSTEMS = (
    System(1, 6, 14),
    System(1, 11, 26),
    System(1, 0, 2),
    System(2, 6, 18, lead=0.72),
    System(2, 11, 38, lead=0.72),
    System(4, 6, 46, lead=0.55),
    System(1, 11, 26, held=True),
    System(1, 11, 26, anyio=40),
)


@dataclass(frozen=True)
class Row:
    """Customers a second of a system, by both."""

    system: str
    model: float
    simpy: float
    ratio: float


def by_model(system: System) -> int:
    """The uploads that end."""
    connections = Connections(
        auth=0.050,
        release=0.0 if system.held else 0.025,
        write=0.100,
        held=system.held,
        threads=system.anyio,
        pool_size=20.0,
        max_overflow=20.0,
        pool_timeout=10.0,
        checkout=0.0,
        connect=0.1,
        slots=200,
    )
    network = Network(
        workers=system.workers,
        threads=system.threads or 1,
        blocks_loop=not system.threads,
        lead=system.lead,
        balance="shared_socket",
        cpu_before=0.006,
        cpu_after=0.001,
        database=connections,
        storage=(2.0, 5.0),
        ramp=RAMP_S,
    )
    seen = simulate(network, system.users, seed=1, warmup=0.0, window=system.window)
    return int(seen.ok.size)


def by_simpy(system: System) -> int:
    """The uploads that end, or are sent, which in a closed loop are as many."""
    end = RAMP_S + system.window
    if system.held or system.anyio:
        known = oracle_waits.System(
            call="threads",
            threads=system.threads,
            database="threadpool" if system.anyio else "blocking",
            session="hold" if system.held else "release",
            pool_size=20,
            max_overflow=20,
            db_cap=200,
        )
        spans = [[(RAMP_S * user / system.users, end)] for user in range(system.users)]
        return len(oracle_waits.simulate(known, oracle_waits.Offered(spans, (0.0, end))))
    plain = oracle.System(
        "executor" if system.threads else "blocking",
        workers=system.workers,
        threads=system.threads or 1,
        lead=system.lead,
    )
    return len(oracle.simulate(plain, system.users, 1, RAMP_S, 0.0, end - RAMP_S).latencies)


def rate(simulated: Callable[[System], int], system: System) -> float:
    """Customers a CPU-second."""
    begun = time.process_time()
    return simulated(system) / (time.process_time() - begun)


def measure(system: System, pairs: int) -> Row:
    """Both in turns; medians of their rates, and of the ratios of neighbours."""
    turns = [(rate(by_model, system), rate(by_simpy, system)) for _ in range(pairs)]
    model, simpy = (median(turn[at] for turn in turns) for at in (0, 1))
    return Row(system.label, model, simpy, median(here / there for here, there in turns))


def main() -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="turns of each")
    flags = parser.parse_args()
    rows = [measure(system, flags.pairs) for system in SYSTEMS]
    mean = geometric_mean(row.ratio for row in rows)
    if flags.json:
        result = {"benchmark": "model", "ratio": mean, "rows": list(map(asdict, rows))}
        print(json.dumps(result, indent=2))
        return
    print(f"{'system':<46}{'model /s':>10}{'SimPy /s':>10}{'ratio':>8}")
    for row in rows:
        print(f"{row.system:<46}{row.model:>10,.0f}{row.simpy:>10,.0f}{row.ratio:>8.1f}")
    print(f"{'geometric mean':<66}{mean:>8.1f}")


if __name__ == "__main__":
    main()
