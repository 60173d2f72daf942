"""A fault: what stands between the backend and a service that it calls, or happens to a part.

    backend ──> [ proxy: toxic, toxic, … ] ──> fake-gcs-server | Postgres | speech

    window begins ──at──> process fault ──for──> brought back ──> it serves again

A fault is one file under ``faults/``, of one of two forms. A network fault lasts as long as
the load. Its toxics are Toxiproxy's own; durations and sizes carry their unit, and a delay
may be a knob's value. `Fault.to_toxics` turns it, pure, into the words of Toxiproxy's API;
the same value is what the judge later holds measured latencies against.

A process fault happens to a part itself while the load runs:

    kill      at once (SIGKILL), whatever it was doing
    pause     frozen: connections stay open and nobody answers
    restart   ended in good order and started again, as for a release
    stop      ended in good order and gone meanwhile
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from lab.model.base import Frozen
from lab.model.knobs import Knobs
from lab.model.units import AtMost, Duration, Share, Size, Span, format_duration

ProxyName = Literal["gcs", "db", "speech"]
Stream = Literal["upstream", "downstream"]

MS = 1000.0

WithinADay = Annotated[Duration, Field(ge=0, le=86400)]


class WireToxic(Frozen):
    """A toxic in the words of Toxiproxy's API; attributes are whole numbers in its units."""

    proxy: ProxyName
    name: str
    type: str
    stream: Stream
    toxicity: float
    attributes: dict[str, int]


class _Toxic(Frozen):
    stream: Stream = "downstream"
    toxicity: Annotated[
        Share, Field(ge=0, le=1, description="share of connections that it applies to")
    ] = 1.0

    def attributes(self, knobs: Knobs) -> dict[str, int]:
        """Toxiproxy's attributes, scaled by ``speed``."""
        raise NotImplementedError


def _ms(seconds: float, knobs: Knobs) -> int:
    return round(seconds / knobs.speed * MS)


class KnobRef(Frozen):
    """A delay that a knob holds: ``{knob: gcs_latency}``."""

    knob: Literal["gcs_latency", "db_rtt", "speech_latency"]


class Latency(_Toxic):
    """Delays each chunk by a uniform draw from ``delay``.

    Toxiproxy holds whole milliseconds, ``latency - jitter`` up to, but not including,
    ``latency + jitter``; half a millisecond is reached by a jitter of 1.
    """

    type: Literal["latency"]
    # In this order: the other writes a KnobRef as if it were a Span.
    delay: KnobRef | Annotated[Span, AtMost(86400)]

    @property
    def is_distance(self) -> bool:
        """Whether with it a round trip to the database is to take ``db_rtt``."""
        return isinstance(self.delay, KnobRef) and self.delay.knob == "db_rtt"

    def span(self, knobs: Knobs) -> Span:
        """The delay in real-world seconds, a knob looked up."""
        if isinstance(self.delay, Span):
            return self.delay
        span: Span = getattr(knobs, self.delay.knob)
        return span

    def attributes(self, knobs: Knobs) -> dict[str, int]:
        span = self.span(knobs)
        low, high = (end / knobs.speed * MS for end in (span.low, span.high))
        if low == high and round(low * 2) % 2:
            # {n, n + 1} with equal chance has the mean n + 0.5.
            return {"latency": int(low) + 1, "jitter": 1}
        return {"latency": round((low + high) / 2), "jitter": round((high - low) / 2)}


class Bandwidth(_Toxic):
    """Limits a connection to ``rate`` bytes a second."""

    type: Literal["bandwidth"]
    rate: Annotated[Size, Field(ge=1000, le=10**12, description="bytes a second, as 200 KB")]

    def attributes(self, knobs: Knobs) -> dict[str, int]:
        return {"rate": max(1, round(self.rate * knobs.speed / 1000))}


class Timeout(_Toxic):
    """Lets nothing through and closes the connection ``after`` this long (0 s: never)."""

    type: Literal["timeout"]
    after: WithinADay

    def attributes(self, knobs: Knobs) -> dict[str, int]:
        return {"timeout": _ms(self.after, knobs)}


class ResetPeer(_Toxic):
    """Resets the connection (TCP RST) ``after`` this long."""

    type: Literal["reset_peer"]
    after: WithinADay = 0.0

    def attributes(self, knobs: Knobs) -> dict[str, int]:
        return {"timeout": _ms(self.after, knobs)}


class SlowClose(_Toxic):
    """Delays the connection's close."""

    type: Literal["slow_close"]
    delay: WithinADay

    def attributes(self, knobs: Knobs) -> dict[str, int]:
        return {"delay": _ms(self.delay, knobs)}


class Slicer(_Toxic):
    """Cuts chunks into slices of about ``size``, ``delay`` apart."""

    type: Literal["slicer"]
    size: Annotated[Size, Field(ge=1, le=10**12)]
    variation: Annotated[Size, Field(ge=0, le=10**12)] = 0
    delay: WithinADay = 0.0

    def attributes(self, knobs: Knobs) -> dict[str, int]:
        return {
            "average_size": self.size,
            "size_variation": self.variation,
            "delay": round(self.delay / knobs.speed * 1e6),
        }


class LimitData(_Toxic):
    """Closes the connection after this many bytes."""

    type: Literal["limit_data"]
    size: Annotated[Size, Field(ge=0, le=10**12)]

    def attributes(self, _knobs: Knobs) -> dict[str, int]:
        return {"bytes": self.size}


Toxic = Annotated[
    Latency | Bandwidth | Timeout | ResetPeer | SlowClose | Slicer | LimitData,
    Field(discriminator="type"),
]


PartName = Literal["backend", "postgres", "fake-gcs-server", "nginx", "pgbouncer"]
"""The parts that a process fault may hit; Toxiproxy has ``down`` and its toxics for that."""

Action = Literal["kill", "pause", "restart", "stop"]

PAST_TENSE: dict[Action, str] = {
    "kill": "killed",
    "pause": "paused",
    "restart": "restarted",
    "stop": "stopped",
}


@dataclass(frozen=True)
class ProcessFault:
    """What is to happen to a part.

    Args:
        fault: name of the fault.
        part: which.
        action: what is done to it.
        at: when, in real-world seconds after the measured window begins.
        lasts: how long until it is brought back, in real-world seconds.
    """

    fault: str
    part: PartName
    action: Action
    at: float
    lasts: float

    def overlaps(self, other: ProcessFault) -> bool:
        """Whether both hit the same part, the later before the earlier is over."""
        first, second = sorted((self, other), key=lambda fault: fault.at)
        return self.part == other.part and second.at <= first.at + first.lasts

    def __str__(self) -> str:
        when = f"{self.action} at {format_duration(self.at)}"
        return f"{when}, for {format_duration(self.lasts)}" if self.lasts else when


class Fault(Frozen):
    """What a file under ``faults/`` says; its keys are those of one form, never of both.

    proxy, and its ``toxics`` or ``down: true`` · part, ``strike``, ``at`` and ``for``
    """

    fault: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    about: str
    proxy: ProxyName | None = None
    down: Annotated[bool, Field(description="the proxy refuses connections")] = False
    toxics: Annotated[tuple[Toxic, ...], Field(max_length=20)] = ()
    part: PartName | None = None
    action: Annotated[Action | None, Field(alias="strike")] = None
    at: Annotated[WithinADay | None, Field(description="after the window begins")] = None
    lasts: Annotated[
        WithinADay | None, Field(alias="for", description="until the part is brought back")
    ] = None

    @property
    def process_fault(self) -> ProcessFault | None:
        """What is to happen to a part; None for a network fault."""
        if self.part is None or self.action is None or self.at is None or self.lasts is None:
            return None
        return ProcessFault(self.fault, self.part, self.action, self.at, self.lasts)

    def to_toxics(self, knobs: Knobs) -> tuple[WireToxic, ...]:
        """The toxics in the words of Toxiproxy's API, scaled by ``speed``, named by the fault.

        A process fault has none.
        """
        if self.proxy is None:
            return ()
        return tuple(
            WireToxic(
                proxy=self.proxy,
                name=f"{self.fault}-{index}",
                type=toxic.type,
                stream=toxic.stream,
                toxicity=toxic.toxicity,
                attributes=toxic.attributes(knobs),
            )
            for index, toxic in enumerate(self.toxics, start=1)
        )

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """As its file says it: the keys of its own form."""
        keys = {"action": "strike", "lasts": "for"}
        foreign = ("proxy", "down", "toxics") if self.part else ("part", "strike", "at", "for")
        written = {keys.get(name, name): value for name, value in handler(self).items()}
        return {key: value for key, value in written.items() if key not in foreign}


def without_base(knobs: Knobs, base_s: float) -> Knobs:
    """These settings, with a ``db_rtt`` that is what a delay has to add to a base round trip.

    ``db_rtt`` is how long a round trip takes in all. Proxy, loopback and Postgres take part of
    it, the same wall-clock time at every speed; a delay makes up the rest.

    Args:
        knobs: with the round trip that is wanted.
        base_s: wall-clock seconds that a round trip takes by itself.
    """
    base = base_s * knobs.speed
    low, high = (max(0.0, end - base) for end in (knobs.db_rtt.low, knobs.db_rtt.high))
    return knobs.model_copy(update={"db_rtt": Span(low=low, high=high)})
