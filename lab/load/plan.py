"""What driver and generator exchange: a plan, a status and an order, in small files.

driver ──plan.json──> generator ──status.json, samples.jsonl──> driver
       ──end.json──>            where the window may end early
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from lab.errors import SpecError
from lab.files import logs_folder
from lab.model.experiment import load_problem
from lab.model.load import Load

PLAN_VARIABLE = "LAB_LOAD_PLAN"


class LoadPlan(BaseModel):
    """All that the generator needs; it is read from the file that `PLAN_VARIABLE` names.

    Args:
        load: what to offer, in real-world seconds.
        speed: divides every duration of it.
        seed: of arrivals and audio.
        url: where users upload, without a path.
        samples: the file to which attempts are appended.
        status: the file with the generator's `GeneratorStatus`.
        parent: process id of what forked the generator, which ends with the driver; the generator
            ends when it is gone.
        end: the file in which the driver may write an `EndOrder`; None where the window goes on to
            its end, and nobody asks what is under way.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    load: Load
    speed: float
    seed: int
    url: str
    samples: Path
    status: Path
    parent: int
    end: Path | None = None


@dataclass(frozen=True)
class GeneratorStatus:
    """How far the generator is.

    Args:
        t0: t = 0 on the monotonic clock, which all processes of the machine share.
        sent: attempts of users so far, including those in flight.
        done: whether every upload was followed to its end.
        dropped: arrivals of the window that ``max_in_flight`` kept from being sent.
        at: when this was so, in real-world seconds after t = 0.
        under_way: when the uploads in flight were sent, where the window may end early.
        ended_at: when the window ended, where an `EndOrder` ended it.
        others_under_way: the same as ``under_way`` of the other journeys, by their names.
    """

    t0: float
    sent: int
    done: bool
    dropped: int = 0
    at: float = 0.0
    under_way: tuple[float, ...] = ()
    ended_at: float | None = None
    others_under_way: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Replace ``path`` by this status, atomically.

        Raises:
            StoreError: it cannot be written, or something that is no file of the lab's is there.
        """
        _write(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> GeneratorStatus | None:
        """The last status; None before the first, or if somebody else has written there.

        Raises:
            StoreError: it cannot be read, or something that is no file of the lab's is there.
        """
        try:
            values = _read(path)
            others = dict(values.get("others_under_way", {}))
            typed = {
                "under_way": tuple(values.get("under_way", ())),
                "others_under_way": {name: tuple(sent) for name, sent in others.items()},
            }
            return cls(**values | typed)
        except (TypeError, ValueError):
            return None


@dataclass(frozen=True)
class EndOrder:
    """The driver's word that the window is to end: users send nothing more, as at its end.

    Args:
        decided_at: as of when every criterion was certain, in real-world seconds after t = 0.
    """

    decided_at: float

    def write(self, path: Path) -> None:
        """Put it where the generator looks, atomically; errors as of `GeneratorStatus.write`."""
        _write(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> EndOrder | None:
        """The order; None while there is none, or if somebody else has written there.

        Raises:
            StoreError: it cannot be read, or something that is no file of the lab's is there.
        """
        try:
            return cls(**_read(path))
        except TypeError:
            return None


def _write(path: Path, values: Mapping[str, object]) -> None:
    logs, draft = logs_folder(path.parent), path.with_suffix(".draft").name
    logs.keep(draft, BytesIO(json.dumps(values).encode()))
    logs.rename(draft, path.name)


def _read(path: Path) -> dict[str, Any]:
    """The keys in a file; none where it is not there yet, or holds anything else."""
    logs = logs_folder(path.parent)
    try:
        values = json.loads(logs.read(path.name)) if logs.has(path.name) else {}
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def read_plan() -> LoadPlan | None:
    """The plan that the environment names; None if it names none."""
    if not (named := os.environ.get(PLAN_VARIABLE)):
        return None
    path = Path(named)
    return LoadPlan.model_validate_json(logs_folder(path.parent).read(path.name))


def check(load: Load) -> None:
    """Refuse a load that the generator cannot offer.

    Raises:
        SpecError: more users than students, none at all, no duration, or audio whose size
            no WAV file can have or that cannot be held in memory.
    """
    if problem := load_problem(load):
        _, what, remedy = problem
        raise SpecError(what, remedy)
