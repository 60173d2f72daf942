"""The base round trip to the database: what it takes before any delay is added.

    db_rtt  =  base: loopback, proxy, its timer, Postgres  +  delay

Without it a round trip would take longer than it should by that much wall-clock time, and
by ``speed`` times as much real-world time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lab.faults.adapter import Toxiproxy
from lab.model.fault import Fault, Latency
from lab.model.knobs import Knobs
from lab.model.units import Span

MOST_S, LEFT_S = 0.003, 0.001
"""So much wall-clock time is taken off a delay at most, and so much of it left at least.

On two idle cores the base is 1 to 2 ms; where it seems to be more, something else was at
work. Proxies keep whole milliseconds. What is not taken off shows in the stages that the
judge looks at.
"""

NEGLIGIBLE_S = 0.100
"""Of a delay of this wall-clock length the base is a hundredth or two: it is not measured."""


def base_rtt(
    toxiproxy: Toxiproxy, faults: Sequence[Fault], knobs: Knobs, round_trip: Callable[[], float]
) -> float:
    """Wall-clock seconds to take off the delay that stands for the distance to the database.

    Measured behind a delay of about the same length, because a timer that is late is part of
    it: in whole milliseconds, which are the same for each answer.

    Args:
        toxiproxy: nothing is armed there afterwards.
        faults: 0 is given where not exactly one delay of theirs stands for that distance.
        knobs: what is to be armed later.
        round_trip: how many wall-clock seconds one takes as the proxy is now.

    Raises:
        InjectionError: as `Toxiproxy.armed`.
        PartFailed: as ``round_trip``.
    """
    wall_s = knobs.db_rtt.mean / knobs.speed
    if not _one_distance(faults) or not LEFT_S < wall_s < NEGLIGIBLE_S:
        return 0.0
    delay_s = round(wall_s * 1000) / 1000
    real_s = delay_s * knobs.speed
    alone = Latency(type="latency", delay=Span(low=real_s, high=real_s))
    probe = Fault(fault="base-rtt", about="a delay to measure behind", proxy="db", toxics=(alone,))
    with toxiproxy.armed([probe], knobs):
        took_s = round_trip()
    return round(max(0.0, min(took_s - delay_s, MOST_S, wall_s - LEFT_S)), 6)


def _one_distance(faults: Sequence[Fault]) -> bool:
    """Whether one delay is all that a way to the database gets of ``db_rtt``."""
    there = [fault for fault in faults if fault.proxy == "db"]
    latencies = [one for fault in there for one in fault.toxics if isinstance(one, Latency)]
    distances = [one for one in latencies if one.is_distance and one.stream == "downstream"]
    return len(distances) == 1 and not any(fault.down for fault in there)
