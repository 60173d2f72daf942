"""The offered load of a cell: who uploads, when and how much.

All durations are real-world seconds; the driver divides them by ``speed``.

    closed   users  ___/‾‾‾‾‾‾‾‾‾‾‾‾‾‾|.....     ramp, warm-up, window, drain
    stages   users  __/‾‾\\____/‾‾‾‾‾‾‾|.....     every stage is measured
    burst    users  |‾.....                      one upload each, all at once
    open     rate   ‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾|.....      Poisson, however slow the answers

The drain follows every request in flight to its end. In the three closed forms a user
waits for its answer before it sends again, so a slow server is offered less: queueing is
hidden. The open form hides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, TypeAdapter

from lab.model.units import Duration, Rate, SizeRange

SECONDS = Annotated[Duration, Field(ge=0, le=86400)]
POSITIVE = Annotated[Duration, Field(gt=0, le=86400)]


class _Load(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    think: Annotated[SECONDS, Field(description="pause after a success")] = 0.0
    backoff: Annotated[
        SECONDS, Field(description="pause after a failure: nobody retries in the same millisecond")
    ] = 1.0
    timeout: Annotated[POSITIVE, Field(description="how long the client waits")] = 120.0
    audio: Annotated[SizeRange, Field(description="size of the WAV file, one or a range")] = (
        SizeRange(low=200_000, high=200_000)
    )


class ClosedLoad(_Load):
    """Users who upload again as soon as they are answered; what is sent in the window counts."""

    users: Annotated[int, Field(ge=1, le=5000)]
    ramp: SECONDS = 5.0
    warmup: SECONDS = 10.0
    window: POSITIVE = 60.0

    @property
    def kind(self) -> Literal["closed"]:
        return "closed"

    @property
    def peak_users(self) -> int:
        """The most users there are at once."""
        return self.users

    @property
    def measured(self) -> tuple[float, float]:
        """Start and end of what counts, in real-world seconds after the load starts."""
        start = self.ramp + self.warmup
        return start, start + self.window


class Stage(BaseModel):
    """Users move linearly ``over`` this long to ``users``, then ``hold``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    users: Annotated[int, Field(ge=0, le=5000)]
    over: SECONDS = 0.0
    hold: SECONDS = 0.0


class StagesLoad(_Load):
    """A number of users that changes over time; every stage counts, and is told apart."""

    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]

    @property
    def kind(self) -> Literal["stages"]:
        return "stages"

    @property
    def peak_users(self) -> int:
        """The most users there are at once."""
        return max(stage.users for stage in self.stages)

    @property
    def measured(self) -> tuple[float, float]:
        """Start and end of what counts, in real-world seconds after the load starts."""
        return 0.0, sum(stage.over + stage.hold for stage in self.stages)


class BurstLoad(_Load):
    """That many users at once, one upload each."""

    burst: Annotated[int, Field(ge=1, le=5000)]

    @property
    def kind(self) -> Literal["burst"]:
        return "burst"

    @property
    def peak_users(self) -> int:
        """The most users there are at once."""
        return self.burst

    @property
    def measured(self) -> tuple[float, float]:
        """All are sent at 0, so the window ends when the last may still be answered."""
        return 0.0, self.timeout


class OpenLoad(_Load):
    """Arrivals by rate (Poisson), however slow the answers."""

    rate: Annotated[Rate, Field(gt=0, le=1000)]
    warmup: SECONDS = 10.0
    window: POSITIVE = 60.0

    @property
    def kind(self) -> Literal["open"]:
        return "open"

    @property
    def peak_users(self) -> int:
        """The most that can be in flight at once: all that arrive within one timeout."""
        span = min(self.timeout, self.warmup + self.window)
        return max(1, round(self.rate * span * 1.5) + 10)

    @property
    def measured(self) -> tuple[float, float]:
        """Start and end of what counts, in real-world seconds after the load starts."""
        return self.warmup, self.warmup + self.window


_KEYS = {"users": "closed", "stages": "stages", "burst": "burst", "rate": "open"}


def _kind(value: Any) -> str | None:
    """The form of a load, told by the one key that only it has."""
    if isinstance(value, _Load):
        return str(value.kind)  # type: ignore[attr-defined]
    found = [kind for key, kind in _KEYS.items() if isinstance(value, dict) and key in value]
    return found[0] if len(found) == 1 else None


Load = Annotated[
    Annotated[ClosedLoad, Tag("closed")]
    | Annotated[StagesLoad, Tag("stages")]
    | Annotated[BurstLoad, Tag("burst")]
    | Annotated[OpenLoad, Tag("open")],
    Discriminator(
        _kind,
        custom_error_type="load_kind",
        custom_error_message="a load has exactly one of the keys users, stages, burst, rate",
    ),
]


_OFFERED: TypeAdapter[ClosedLoad | StagesLoad | BurstLoad | OpenLoad] = TypeAdapter(Load)


def varied(
    load: ClosedLoad | StagesLoad | BurstLoad | OpenLoad, keys: Mapping[str, Any]
) -> ClosedLoad | StagesLoad | BurstLoad | OpenLoad:
    """A load with some of its keys set anew, from values as a spec writes them.

    Raises:
        pydantic.ValidationError: a key that this form of load has not, or a value out of bounds.
    """
    return _OFFERED.validate_python({**load.model_dump(mode="json"), **keys})


def window_of_spec(load: Mapping[str, Any]) -> tuple[float, float]:
    """Start and end of what counts of a load as a spec writes it, in real-world seconds."""
    return _OFFERED.validate_python(dict(load)).measured


def end_of(load: ClosedLoad | StagesLoad | BurstLoad | OpenLoad) -> float:
    """When the last request may be sent, in real-world seconds after the load starts."""
    return 0.0 if isinstance(load, BurstLoad) else load.measured[1]
