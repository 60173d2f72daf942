"""What driver and generator exchange: a plan and a status, in two small files.

driver ──plan.json──> generator ──status.json, samples.jsonl──> driver
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from lab.errors import SpecError
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
        parent: process id of the driver; the generator ends when it is gone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    load: Load
    speed: float
    seed: int
    url: str
    samples: Path
    status: Path
    parent: int


@dataclass(frozen=True)
class GeneratorStatus:
    """How far the generator is.

    Args:
        t0: t = 0 on the monotonic clock, which all processes of the machine share.
        sent: uploads sent so far, including those in flight.
        done: whether every upload was followed to its end.
        dropped: arrivals of the window that ``max_in_flight`` kept from being sent.
    """

    t0: float
    sent: int
    done: bool
    dropped: int = 0

    def write(self, path: Path) -> None:
        """Replace ``path`` by this status, atomically."""
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps(asdict(self)))
        draft.replace(path)

    @classmethod
    def read(cls, path: Path) -> GeneratorStatus | None:
        """The last status; None before the first."""
        try:
            return cls(**json.loads(path.read_text()))
        except FileNotFoundError:
            return None


def read_plan() -> LoadPlan | None:
    """The plan that the environment names; None if it names none."""
    path = os.environ.get(PLAN_VARIABLE)
    return LoadPlan.model_validate_json(Path(path).read_text()) if path else None


def check(load: Load) -> None:
    """Refuse a load that the generator cannot offer.

    Raises:
        SpecError: more users than students, none at all, no duration, or audio whose size
            no WAV file can have or that cannot be held in memory.
    """
    if problem := load_problem(load):
        _, what, remedy = problem
        raise SpecError(what, remedy)
