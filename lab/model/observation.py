"""What was seen of a cell: samples from the load, readings from the replica.

All of it is on disk, a line each, before anyone judges it. Times are real-world seconds
after the load started (``t`` and the like), so that a run at speed 5 and one at speed 1
read alike; CPU is CPU-seconds per wall-clock second, which no speed changes.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from lab.model.causes import Cause
from lab.model.strike import Action

STAGES = ("pool_wait", "auth", "release", "gcs_queue", "gcs", "pool_wait2", "write")
"""The stages of an upload that ``Server-Timing`` carries, in their order."""


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Sample(_Line):
    """One upload attempt, as the user saw it.

    Args:
        planned_at: when it should have been sent, in seconds after the load started.
        sent_at: when it was.
        latency_s: from sending to the last byte of the answer, or to giving up.
        status: the HTTP status; 0 where there was no answer.
        error: the cause; None for a success.
        bytes: size of the audio.
        user: number of the user, from 0.
        stage: index of the load's stage at sending; 0 where the load has none.
        stages: seconds by stage, from ``Server-Timing``; empty where none came.
        recording: what the answer called the recording; None for a failure.
    """

    planned_at: float
    sent_at: float
    latency_s: float
    status: int
    error: Cause | None
    bytes: int
    user: int
    stage: int = 0
    stages: dict[str, float] = {}
    recording: str | None = None


class WorkerReading(_Line):
    """Ten times a second, from each worker: its pool, threads, loop and memory.

    ``cpu_s``, ``gcs_attempts`` and ``gcs_bytes`` are running totals since the worker began.
    """

    kind: Literal["worker"] = "worker"
    t: float
    pid: int
    pool_size: int
    checked_out: int
    overflow: int
    waiting: int
    threads_busy: int
    threads_queued: int
    inflight: int
    loop_lag: float
    rss: int
    cpu_s: float
    gcs_attempts: int
    gcs_bytes: int


class DatabaseReading(_Line):
    """The application's backends in ``pg_stat_activity``, of the plain role only."""

    kind: Literal["database"] = "database"
    t: float
    connections: int


class Usage(_Line):
    """What a part has used so far.

    Args:
        cpu_s: running total of CPU-seconds.
        memory: bytes that it holds now; in a container, its page cache included.
        throttled_s: running total of seconds for which its CPU quota kept it waiting; None
            where there is no quota.
    """

    cpu_s: float
    memory: int
    throttled_s: float | None = None


class MachineReading(_Line):
    """CPU of the whole machine (share in use since the last reading) and of the parts.

    ``cpu_s`` holds running totals of CPU-seconds by part, ``generator`` among them;
    ``memory`` bytes now and ``throttled_s`` running totals, of the parts that have them.
    """

    kind: Literal["machine"] = "machine"
    t: float
    wall_s: float
    cpu_share: float
    cpu_s: dict[str, float]
    memory: dict[str, int] = {}
    throttled_s: dict[str, float] = {}


class PartDown(_Line):
    """A part that died, or was stopped, while it was needed; ``why`` is one line."""

    kind: Literal["part_down"] = "part_down"
    t: float
    part: str
    why: str


class OomKill(_Line):
    """A worker killed for passing ``vm_memory``; ``rss`` is what it had."""

    kind: Literal["oom_kill"] = "oom_kill"
    t: float
    pid: int
    rss: int


class LoadDone(_Line):
    """How the load went: the window it had, in seconds after its start."""

    kind: Literal["load"] = "load"
    t: float
    window: tuple[float, float]
    generator_exit: int


class Injected(_Line):
    """What Toxiproxy read back as armed when the load began."""

    kind: Literal["injected"] = "injected"
    t: float
    proxy: str
    enabled: bool
    toxics: list[dict[str, object]]


class Strike(_Line):
    """What befell a part on purpose: ``action`` at ``t``, by the fault of this name.

    It is over at ``until``, when the part served again; None where it did not.
    """

    kind: Literal["strike"] = "strike"
    t: float
    fault: str
    part: str
    action: Action
    until: float | None


class Audit(_Line):
    """The bucket and the table against the samples.

    ``lost`` names recordings answered 200 whose row or object is missing; ``orphans``
    names objects without a row, ``inflight`` the uploads that were still inside a worker
    then and may yet write one. ``refused`` counts SQLSTATE 53300 in Postgres' log.
    """

    kind: Literal["audit"] = "audit"
    t: float
    rows: int
    objects: int
    lost: list[str]
    orphans: list[str]
    inflight: int = 0
    refused: int


Evidence = Annotated[
    WorkerReading
    | DatabaseReading
    | MachineReading
    | PartDown
    | OomKill
    | LoadDone
    | Injected
    | Strike
    | Audit,
    Field(discriminator="kind"),
]
EVIDENCE: TypeAdapter[Evidence] = TypeAdapter(Evidence)


class Observation(_Line):
    """All that is known of one cell's trial, read back from its folder."""

    samples: tuple[Sample, ...]
    evidence: tuple[Evidence, ...]
