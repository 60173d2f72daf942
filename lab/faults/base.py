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

MOST = 0.5
"""Of a round trip, the share that may be taken off its delay.

Where the base is more than that, the machine is too slow for this speed, and what is left
over shows in the stages that the judge looks at.
"""


def base_rtt(
    toxiproxy: Toxiproxy, faults: Sequence[Fault], knobs: Knobs, round_trip: Callable[[], float]
) -> float:
    """Wall-clock seconds to take off the delay that stands for the distance to the database.

    Measured behind a delay of the same length, because a timer that is late is part of it.

    Args:
        toxiproxy: nothing is armed there afterwards.
        faults: 0 is given where none of them stands for that distance.
        knobs: what is to be armed later.
        round_trip: how many wall-clock seconds one takes as the proxy is now.

    Raises:
        InjectionError: as `Toxiproxy.armed`.
        PartFailed: as ``round_trip``.
    """
    toxics = [toxic for fault in faults if fault.proxy == "db" for toxic in fault.toxics]
    distant = any(isinstance(toxic, Latency) and toxic.is_distance for toxic in toxics)
    if not distant or any(fault.proxy == "db" and fault.down for fault in faults):
        return 0.0
    mean = knobs.db_rtt.mean
    alone = Latency(type="latency", delay=Span(low=mean, high=mean))
    probe = Fault(fault="base-rtt", about="a delay to measure behind", proxy="db", toxics=(alone,))
    with toxiproxy.armed([probe], knobs):
        took = round_trip()
    (armed,) = probe.armed(knobs)
    # With a jitter of 1 it is {latency - 1, latency} with equal chance; see `Latency`.
    delay = (armed.attributes["latency"] - armed.attributes["jitter"] / 2) / 1000
    return round(min(max(0.0, took - delay), MOST * mean / knobs.speed), 6)
