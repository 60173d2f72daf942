"""What the models share: a value never changes, and a field that nobody knows is an error."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """A value of the lab's."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Stored(Frozen):
    """A value of a run folder, whose keys on disk may be older than its attributes' names."""

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)
