"""What the models share: a value never changes, a field that nobody knows is an error, and every
number is finite and within bounds, so that no stored value can keep a reader busy without end.
"""

from __future__ import annotations

from math import isfinite
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class Frozen(BaseModel):
    """A value of the lab's."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Stored(Frozen):
    """A value of a run folder, whose keys on disk may be older than its attributes' names."""

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)


def _finite(value: Any) -> Any:
    """A value as JSON has it, without a number that JSON cannot hold."""
    if isinstance(value, float) and not isfinite(value):
        raise ValueError("a number is not finite")
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            _finite(part)
    return value


Moment = Annotated[float, Field(ge=-1e12, le=1e12)]
"""Real-world seconds after the load started, or between two such moments. A clock that is set
while a trial goes on makes them negative, or as long as it is set by: that is for the judge."""

Elapsed = Annotated[float, Field(ge=0, le=1e7)]
"""Real-world seconds by a clock that nobody sets, up to sixteen weeks."""

Total = Annotated[float, Field(ge=0, le=1e15)]
"""A running total, or a level: CPU-seconds, a share, bytes where they are no whole number."""

Number = Annotated[float, Field(ge=-1e18, le=1e18)]
"""What is worked out of measured values, in whatever unit."""

Whole = Annotated[int, Field(ge=-(10**9), le=10**9)]
"""A whole number that may be below zero."""

Count = Annotated[int, Field(ge=0, le=10**9)]
"""How many, or which."""

Bytes = Annotated[int, Field(ge=0, le=10**15)]
"""A size, or a running total of sizes."""

Sum = Annotated[int, Field(ge=0, le=10**18)]
"""Of such counts, or sizes, of all processes together."""

Plain = Annotated[Any, AfterValidator(_finite)]
"""Anything that JSON can hold."""
