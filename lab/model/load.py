"""The offered load of a cell: who uploads, when and how much; and what else they do.

All durations are real-world seconds; the driver divides them by ``speed``.

    closed   users  ___/‾‾‾‾‾‾‾‾‾‾‾‾‾‾|.....     ramp, warm-up, window, drain
    stages   users  __/‾‾\\____/‾‾‾‾‾‾‾|.....     every stage is measured
    burst    users  |‾.....                      one upload each, all at once
    open     rate   ‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾|.....      Poisson, however slow the answers

The drain follows every request in flight to its end. In the three closed forms a user
waits for its answer before it sends again, so a slow server is offered less: queueing is
hidden. The open form hides nothing: where ``max_in_flight`` keeps arrivals back, they are counted.

Whatever a user sends, or an arrival is, is an upload, but for a load with a ``mix``: there each
attempt draws its journey. Health is asked for beside the users, every ``health_every``.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import fsum
from operator import ge, gt
from typing import Annotated, Any, ClassVar

from pydantic import Discriminator, Field, Tag, TypeAdapter, model_serializer, model_validator

from lab.model.base import Frozen
from lab.model.journeys import OF_USERS, Journey, journey_named
from lab.model.units import (
    OFF,
    AtMost,
    ByteRate,
    Duration,
    Rate,
    SizeRange,
    Span,
    format_share,
    parse_share,
    short,
)

MAX_S = 86400
MAX_USERS = 5000
MIN_AUDIO = 46
"""Bytes of a WAV file with a single sample."""

MAX_AUDIO = 100 * 1024**2
"""Bytes of the largest file that is offered: its body is held in memory."""

MAX_STAGES = 100

REPORT_AUDIO = SizeRange(low=50_000, high=2_000_000)
"""The files of the incident report, 50 KB to 2 MB: what a load sends that names no other. Which
sizes are how frequent it does not say, so they are log-uniform. A stored load names its own."""

PAUSE = Annotated[Span, AtMost(MAX_S)]
SECONDS = Annotated[Duration, Field(ge=0, le=MAX_S)]
POSITIVE = Annotated[Duration, Field(gt=0, le=MAX_S)]

MIN_HEALTH_EVERY_S = 0.1
"""Ten probes a second are more than any load balancer sends: with more, they are the load."""


Window = tuple[float, float]
"""Start and end in real-world seconds after the load started; the end is not in it."""

PEAK = 0.9
"""Share of the most users from which on a load in stages counts as at its peak."""


class Mix(Frozen):
    """Which share of the attempts each journey has: ``{upload: 80 %, progress: 20 %}``.

    Args:
        shares: above 0, of 1 together, in the order of `Journey`.
    """

    shares: tuple[tuple[Journey, float], ...]

    @classmethod
    def parse(cls, value: object) -> Mix:
        """Read the mapping of a spec.

        Raises:
            ValueError: no mapping, a journey that users do not make, or no shares of a whole.
        """
        if not isinstance(value, dict) or not value:
            given = short(str(value), "mix", MIX)
            raise ValueError(f"'{given}' is not a mix; write it like '{MIX}'")
        shares = dict(_share(name, text) for name, text in value.items())
        off = round(fsum(shares.values()) - 1, 9)
        if off:
            change = f"take {format_share(off)} off" if off > 0 else f"add {format_share(-off)}"
            raise ValueError(f"its shares add up to {format_share(1 + off)}; {change}")
        ordered = tuple((name, shares[name]) for name in OF_USERS if name in shares)
        return Mix.model_construct(shares=ordered)

    @model_validator(mode="wrap")
    @classmethod
    def _from_mapping(cls, value: Any, _handler: Any) -> Any:
        return value if isinstance(value, cls) else cls.parse(value)

    @model_serializer(mode="plain")
    def _to_mapping(self) -> dict[str, str]:
        return {str(journey): format_share(share) for journey, share in self.shares}

    def __str__(self) -> str:
        return ", ".join(f"{journey} {format_share(share)}" for journey, share in self.shares)


MIX = "{upload: 80 %, progress: 20 %}"
"""How a mix is written."""


def _share(name: object, text: object) -> tuple[Journey, float]:
    """A journey of users with its share.

    Raises:
        ValueError: it is none, or no share above 0.
    """
    journey = journey_named(name, OF_USERS)
    if journey not in OF_USERS:
        raise ValueError(f"'{journey}' is not asked for by users; set health_every, as to 10 s")
    try:
        share = parse_share(text)
    except ValueError as error:
        raise ValueError(f"{journey}: {error}") from None
    if share <= 0:
        raise ValueError(f"{journey} has a share of {format_share(share)}; leave it out")
    return journey, share


class _Load(Frozen):
    kind: ClassVar[str]

    think: Annotated[
        PAUSE, Field(description="pause after a success, one or a range, drawn anew each time")
    ] = Span(low=0, high=0)
    backoff: Annotated[
        PAUSE,
        Field(
            description="pause after a failure, one or a range: nobody retries in the same "
            "millisecond"
        ),
    ] = Span(low=1, high=1)
    timeout: Annotated[POSITIVE, Field(description="how long the client waits")] = 120.0
    audio: Annotated[
        SizeRange, Field(description="size of the WAV file, one or a range, log-uniform")
    ] = REPORT_AUDIO
    uplink: Annotated[
        Annotated[ByteRate, Field(ge=1000, le=10**9)] | None,
        *OFF,
        Field(description="bytes a second that a user's line carries, or off: as fast as it goes"),
    ] = None

    mix: Annotated[
        Mix | None,
        *OFF,
        Field(
            description="what users do besides uploading, by its share, or off: they only upload"
        ),
    ] = None
    health_every: Annotated[
        POSITIVE | None,
        *OFF,
        Field(description="how often GET /health is asked for beside the users, or off"),
    ] = None
    health_timeout: Annotated[
        POSITIVE | None,
        *OFF,
        Field(
            description="how long who asks for it waits, or off: until the next one is due, "
            "and no longer than a user"
        ),
    ] = None

    @model_serializer(mode="wrap")
    def _as_written(self, handler: Any) -> dict[str, Any]:
        """Without the keys that an earlier lab has not, where they say nothing: its cells are the
        same ones."""
        values: dict[str, Any] = handler(self)
        unset = {key for key in _ADDED if getattr(self, key) is None}
        return {key: value for key, value in values.items() if key not in unset}

    @property
    def shares(self) -> dict[Journey, float]:
        """The share that each journey has of what users do."""
        return dict(self.mix.shares) if self.mix else {Journey.UPLOAD: 1.0}

    @property
    def journeys(self) -> tuple[Journey, ...]:
        """What is asked for at all, health among it."""
        return (*self.shares, *([Journey.HEALTH] if self.health_every else []))

    @property
    def main(self) -> Journey:
        """What the load is about: uploads, or where nobody uploads, what most do."""
        shares = self.shares
        return Journey.UPLOAD if Journey.UPLOAD in shares else max(shares, key=shares.__getitem__)

    @property
    def probe_timeout(self) -> float:
        """Seconds for which a health probe waits for its answer."""
        return self.health_timeout or min(self.timeout, self.health_every or self.timeout)

    @property
    def followed_s(self) -> float:
        """Seconds after the last request of a user in which the last answer has come, or has been
        given up: the user's, and in a burst that of a probe which was sent just before."""
        return self.timeout + (self.probe_timeout if self.health_every else 0.0)

    def timeout_of(self, journey: Journey) -> float:
        """Seconds for which the client waits for such an answer."""
        return self.probe_timeout if journey is Journey.HEALTH else self.timeout

    @property
    def uplink_s(self) -> float:
        """Seconds for which an upload keeps a user's line busy, in the mean; 0 without a limit."""
        return self.audio.mean / self.uplink if self.uplink else 0.0


_ADDED = ("mix", "health_every", "health_timeout")


class ClosedLoad(_Load):
    """Users who upload again as soon as they are answered; what is sent in the window counts."""

    kind: ClassVar[str] = "closed"
    users: Annotated[int, Field(ge=1, le=MAX_USERS)]
    ramp: SECONDS = 5.0
    warmup: SECONDS = 10.0
    window: POSITIVE = 60.0

    @property
    def peak_users(self) -> int:
        """The most users there are at once."""
        return self.users

    @property
    def measured(self) -> Window:
        """Start and end of what counts, in real-world seconds after the load starts."""
        start = self.ramp + self.warmup
        return start, start + self.window

    def users_at(self, t: float) -> int:
        """Users ``t`` seconds after the load started: along the ramp, then all of them."""
        if not 0 <= t <= self.measured[1]:
            return 0
        return self.users if t >= self.ramp else round(self.users * t / self.ramp)


class Stage(Frozen):
    """Users move linearly ``over`` this long to ``users``, then ``hold``."""

    users: Annotated[int, Field(ge=0, le=MAX_USERS)]
    over: SECONDS = 0.0
    hold: SECONDS = 0.0


class StagesLoad(_Load):
    """A number of users that changes over time; every stage counts, and has its own figures."""

    kind: ClassVar[str] = "stages"
    stages: Annotated[tuple[Stage, ...], Field(min_length=1, max_length=MAX_STAGES)]

    @property
    def peak_users(self) -> int:
        """The most users there are at once."""
        return max(stage.users for stage in self.stages)

    @property
    def measured(self) -> Window:
        """Start and end of what counts, in real-world seconds after the load starts."""
        return 0.0, sum(stage.over + stage.hold for stage in self.stages)

    @property
    def spans(self) -> list[Window]:
        """Begin of each stage's ramp and end of its hold."""
        spans, begin = [], 0.0
        for stage in self.stages:
            end = begin + stage.over + stage.hold
            spans.append((begin, end))
            begin = end
        return spans

    def users_at(self, t: float) -> int:
        """Users ``t`` seconds after the load started: linear in a ramp, level in a hold."""
        before, end = 0, 0.0
        for stage, (begin, end) in zip(self.stages, self.spans, strict=True):
            if 0 <= t < begin + stage.over:
                return round(before + (stage.users - before) * (t - begin) / stage.over)
            if 0 <= t < end:
                return stage.users
            before = stage.users
        return before if t == end else 0

    def spans_above(self, level: float, *, or_at: bool = False) -> list[Window]:
        """Where the number of users is above a level, in order; spans that touch are one.

                    ____
            level ┄/┄┄┄┄\\┄┄┄┄┄┄/┄┄
            _____/        \\___/
                  |──────|    |───

        Args:
            level: a number of users; user i, from 0, is active where there are more than i.
            or_at: take where there are just as many, too.
        """
        is_above = ge if or_at else gt
        spans: list[Window] = []
        before = 0
        for stage, (begin, end) in zip(self.stages, self.spans, strict=True):
            start, stop = begin, end
            if is_above(stage.users, level):
                if not is_above(before, level):
                    start += stage.over * ((level - before) / (stage.users - before))
            elif is_above(before, level):
                stop = begin + stage.over * ((before - level) / (before - stage.users))
            else:
                stop = begin
            if spans and start <= spans[-1][1]:
                spans[-1] = spans[-1][0], max(stop, spans[-1][1])
            elif start < stop:
                spans.append((start, stop))
            before = stage.users
        return spans

    @property
    def peak(self) -> Window:
        """The longest stretch of time with nearly the most users: there the replica is fullest."""
        spans = self.spans_above(PEAK * self.peak_users, or_at=True)
        return max(spans, key=lambda span: span[1] - span[0], default=(0.0, 0.0))


class BurstLoad(_Load):
    """That many users at once, one upload each."""

    kind: ClassVar[str] = "burst"
    burst: Annotated[int, Field(ge=1, le=MAX_USERS)]

    @property
    def peak_users(self) -> int:
        """The most users there are at once."""
        return self.burst

    @property
    def measured(self) -> Window:
        """All are sent at 0, so the window ends when the last may still be answered."""
        return 0.0, self.timeout


class OpenLoad(_Load):
    """Arrivals by rate (Poisson), however slow the answers."""

    kind: ClassVar[str] = "open"
    rate: Annotated[Rate, Field(gt=0, le=1000)]
    warmup: SECONDS = 10.0
    window: POSITIVE = 60.0
    max_in_flight: Annotated[
        Annotated[int, Field(ge=1, le=MAX_USERS)] | None,
        *OFF,
        Field(
            description="uploads that may be in flight at once, or off: an arrival beyond them "
            "is not sent, and counted as dropped"
        ),
    ] = None

    @property
    def peak_users(self) -> int:
        """The most that can be in flight at once: all that arrive within one timeout, or the cap.

        More users than that would never have anything to send.
        """
        span = min(self.timeout, self.warmup + self.window)
        likely = max(1, round(self.rate * span * 1.5) + 10)
        return likely if self.max_in_flight is None else min(likely, self.max_in_flight)

    @property
    def measured(self) -> Window:
        """Start and end of what counts, in real-world seconds after the load starts."""
        return self.warmup, self.warmup + self.window


AnyLoad = ClosedLoad | StagesLoad | BurstLoad | OpenLoad

OneWindow = ClosedLoad | OpenLoad
"""The loads with one plain window, of which a part shows what all of it would."""

FORMS: Mapping[str, type[AnyLoad]] = {
    "users": ClosedLoad,
    "stages": StagesLoad,
    "burst": BurstLoad,
    "rate": OpenLoad,
}
"""The forms of a load, by the key that only this form has."""


def _kind(value: Any) -> str | None:
    """The form of a load, known by the key that no other has."""
    if isinstance(value, _Load):
        return value.kind
    kinds = [form.kind for key, form in FORMS.items() if isinstance(value, dict) and key in value]
    return kinds[0] if len(kinds) == 1 else None


Load = Annotated[
    Annotated[ClosedLoad, Tag("closed")]
    | Annotated[StagesLoad, Tag("stages")]
    | Annotated[BurstLoad, Tag("burst")]
    | Annotated[OpenLoad, Tag("open")],
    Discriminator(
        _kind,
        custom_error_type="load_kind",
        custom_error_message=f"a load has exactly one of the keys {', '.join(FORMS)}",
    ),
]


_OFFERED: TypeAdapter[AnyLoad] = TypeAdapter(Load)


def varied(load: AnyLoad, keys: Mapping[str, Any]) -> AnyLoad:
    """A load with some of its keys set anew, from values as a spec writes them.

    Raises:
        pydantic.ValidationError: a key that this form of load has not, or a value out of bounds.
    """
    return _OFFERED.validate_python({**load.model_dump(mode="json"), **keys})


def load_of_spec(load: Mapping[str, Any]) -> AnyLoad:
    """A load as a spec writes it, and as it is stored, typed."""
    return _OFFERED.validate_python(dict(load))


def window_of_spec(load: Mapping[str, Any]) -> Window:
    """Start and end of what counts of a load as a spec writes it, in real-world seconds."""
    return load_of_spec(load).measured


def end_of(load: AnyLoad) -> float:
    """When the last request may be sent, in real-world seconds after the load starts."""
    return 0.0 if isinstance(load, BurstLoad) else load.measured[1]


def shortened(load: AnyLoad, end: float) -> AnyLoad:
    """The same with a window that ends at ``end``, in real-world seconds after the load starts."""
    return load.model_copy(update={"window": end - load.measured[0]})


def users_at(load: AnyLoad, t: float, inflight: int = 0) -> int:
    """Active users ``t`` real-world seconds after the load started, whatever the answers are.

    Burst and open loads have no users of their own: theirs are the uploads in flight, of which
    there are ``inflight``. Before its start a load has none: parts are read from the moment on
    in which faults are injected.
    """
    if isinstance(load, ClosedLoad | StagesLoad):
        return load.users_at(t)
    return inflight if t >= 0 else 0
