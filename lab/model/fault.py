"""A fault: what stands between the backend and storage or the database, or strikes a part.

    backend ──> [ proxy: toxic, toxic, … ] ──> fake-gcs-server | Postgres

A fault is one file under ``faults/``, and of one of two forms. That of a proxy lasts as long
as the load: its toxics are Toxiproxy's own; durations and sizes carry their unit, and a
delay may be a knob's value. `Fault.armed` turns it, pure, into what Toxiproxy's API is
told; the same value is what the judge later holds measured latencies against. That of a
part happens at its time (`lab.model.fault`).

A strike: what befalls a part itself while the load runs, when, and for how long.

window begins ──at──> strike ──for──> brought back ──> it serves again

kill      at once (SIGKILL), whatever it was doing
pause     frozen: connections stay open and nobody answers
restart   ended in good order and started again, as for a release
stop      ended in good order and gone meanwhile
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    model_serializer,
)

from lab.model.knobs import Knobs
from lab.model.units import Duration, Share, Size, Span, format_duration

ProxyName = Literal["gcs", "db"]
Stream = Literal["upstream", "downstream"]

MS = 1000.0


def beyond(knobs: Knobs, base_s: float) -> Knobs:
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


class Armed(BaseModel):
    """A toxic in the words of Toxiproxy's API; attributes are whole numbers in its units."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    proxy: ProxyName
    name: str
    type: str
    stream: Stream
    toxicity: float
    attributes: dict[str, int]


class _Toxic(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    stream: Stream = "downstream"
    toxicity: Annotated[Share, Field(ge=0, le=1, description="share of connections it strikes")] = (
        1.0
    )

    def attributes(self, knobs: Knobs) -> dict[str, int]:
        """Toxiproxy's attributes, scaled by ``speed``."""
        raise NotImplementedError


def _ms(seconds: float, knobs: Knobs) -> int:
    return round(seconds / knobs.speed * MS)


class KnobRef(BaseModel):
    """A delay that a knob holds: ``{knob: gcs_latency}``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    knob: Literal["gcs_latency", "db_rtt"]


class Latency(_Toxic):
    """Delays each chunk by a uniform draw from ``delay``.

    Toxiproxy holds whole milliseconds, ``latency - jitter`` up to, but not including,
    ``latency + jitter``; half a millisecond is reached by a jitter of 1.
    """

    type: Literal["latency"]
    delay: KnobRef | Span  # this order: the other writes a KnobRef as if it were a Span

    @property
    def is_distance(self) -> bool:
        """Whether with it a round trip to the database is to take ``db_rtt``."""
        return isinstance(self.delay, KnobRef) and self.delay.knob == "db_rtt"

    def span(self, knobs: Knobs) -> Span:
        """The delay in real-world seconds, a knob looked up."""
        if isinstance(self.delay, Span):
            return self.delay
        return knobs.gcs_latency if self.delay.knob == "gcs_latency" else knobs.db_rtt

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
    rate: Annotated[Size, Field(ge=1000, description="bytes a second, as 200 KB")]

    def attributes(self, knobs: Knobs) -> dict[str, int]:
        return {"rate": max(1, round(self.rate * knobs.speed / 1000))}


class Timeout(_Toxic):
    """Lets nothing through and closes the connection ``after`` this long (0 s: never)."""

    type: Literal["timeout"]
    after: Duration

    def attributes(self, knobs: Knobs) -> dict[str, int]:
        return {"timeout": _ms(self.after, knobs)}


class ResetPeer(_Toxic):
    """Resets the connection (TCP RST) ``after`` this long."""

    type: Literal["reset_peer"]
    after: Duration = 0.0

    def attributes(self, knobs: Knobs) -> dict[str, int]:
        return {"timeout": _ms(self.after, knobs)}


class SlowClose(_Toxic):
    """Delays the connection's close."""

    type: Literal["slow_close"]
    delay: Duration

    def attributes(self, knobs: Knobs) -> dict[str, int]:
        return {"delay": _ms(self.delay, knobs)}


class Slicer(_Toxic):
    """Cuts chunks into slices of about ``size``, ``delay`` apart."""

    type: Literal["slicer"]
    size: Annotated[Size, Field(ge=1)]
    variation: Annotated[Size, Field(ge=0)] = 0
    delay: Duration = 0.0

    def attributes(self, knobs: Knobs) -> dict[str, int]:
        return {
            "average_size": self.size,
            "size_variation": self.variation,
            "delay": round(self.delay / knobs.speed * 1e6),
        }


class LimitData(_Toxic):
    """Closes the connection after this many bytes."""

    type: Literal["limit_data"]
    size: Annotated[Size, Field(ge=0)]

    def attributes(self, knobs: Knobs) -> dict[str, int]:
        return {"bytes": self.size}


def _toxic_type(value: Any) -> Any:
    return value.get("type") if isinstance(value, dict) else getattr(value, "type", None)


Toxic = Annotated[
    Annotated[Latency, Tag("latency")]
    | Annotated[Bandwidth, Tag("bandwidth")]
    | Annotated[Timeout, Tag("timeout")]
    | Annotated[ResetPeer, Tag("reset_peer")]
    | Annotated[SlowClose, Tag("slow_close")]
    | Annotated[Slicer, Tag("slicer")]
    | Annotated[LimitData, Tag("limit_data")],
    Discriminator(_toxic_type),
]


SOMETIME = Annotated[Duration, Field(ge=0, le=86400)]


class Fault(BaseModel):
    """What a file under ``faults/`` says; its keys are those of one form, never of both.

    proxy, and its ``toxics`` or ``down: true`` · part, ``strike``, ``at`` and ``for``
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fault: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    about: str
    proxy: ProxyName | None = None
    down: Annotated[bool, Field(description="the proxy refuses connections")] = False
    toxics: tuple[Toxic, ...] = ()
    part: PartName | None = None
    strike: Action | None = None
    at: Annotated[SOMETIME | None, Field(description="after the window begins")] = None
    lasts: Annotated[
        SOMETIME | None, Field(alias="for", description="until the part is brought back")
    ] = None

    @property
    def planned(self) -> ProcessFault | None:
        """The strike on a part; None for a fault of a proxy."""
        if self.part is None or self.strike is None or self.at is None or self.lasts is None:
            return None
        return ProcessFault(self.fault, self.part, self.strike, self.at, self.lasts)

    def armed(self, knobs: Knobs) -> tuple[Armed, ...]:
        """The toxics in the words of Toxiproxy's API, scaled by ``speed``, named by the fault.

        A strike arms none.
        """
        if self.proxy is None:
            return ()
        return tuple(
            Armed(
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
        of_proxy, of_part = ("proxy", "down", "toxics"), ("part", "strike", "at", "for")
        written = {"for" if key == "lasts" else key: value for key, value in handler(self).items()}
        foreign = of_proxy if self.part else of_part
        return {key: value for key, value in written.items() if key not in foreign}


PartName = Literal["backend", "postgres", "fake-gcs-server", "nginx"]
"""The parts that a strike may hit; Toxiproxy has ``down`` and its toxics for that."""

Action = Literal["kill", "pause", "restart", "stop"]

DONE: dict[Action, str] = {
    "kill": "killed",
    "pause": "paused",
    "restart": "restarted",
    "stop": "stopped",
}
"""What has been done to a part, in words."""


@dataclass(frozen=True)
class ProcessFault:
    """A strike as its fault plans it.

    Args:
        fault: name of the fault.
        part: what is struck.
        action: how.
        at: when, in real-world seconds after the measured window begins.
        lasts: how long until it is brought back, in real-world seconds.
    """

    fault: str
    part: PartName
    action: Action
    at: float
    lasts: float

    def overlaps(self, other: ProcessFault) -> bool:
        """Whether another strike hits the same part before this one is over, or the reverse."""
        first, second = sorted((self, other), key=lambda strike: strike.at)
        return self.part == other.part and second.at <= first.at + first.lasts

    def __str__(self) -> str:
        when = f"{self.action} at {format_duration(self.at)}"
        return f"{when}, for {format_duration(self.lasts)}" if self.lasts else when
