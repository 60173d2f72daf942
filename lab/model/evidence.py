"""What was seen of a cell: samples from the load, readings from the replica.

All of it is on disk, a line each, before anyone judges it. Times are real-world seconds
after the load started (``t`` and the like), so that a run at speed 5 and one at speed 1
read alike; CPU is CPU-seconds per wall-clock second, which no speed changes.

A failed upload has one `Cause` of a closed set, so that two failures are never merged into
one. On disk the lines of Cloud Run's gateway are of the kinds ``serving``, ``front`` and
``request``, and what a process fault did to a part is a ``strike``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, TypeAdapter

from lab.model.base import Frozen
from lab.model.fault import Action


class Cause(StrEnum):
    """The cause of a failed upload, and who says so.

    The backend and the gateway that stands for Cloud Run name their own in the ``cause``
    member of an RFC 9457 problem body; nginx's follow from the status of an answer without
    one; the client's are its own.
    """

    POOL_TIMEOUT = "pool_timeout"  #: backend: QueuePool gave up after pool_timeout
    DB_REFUSED = "db_refused"  #: backend: Postgres had no slot left (SQLSTATE 53300)
    DB_ERROR = "db_error"  #: backend: any other failure of the database
    GCS_ERROR = "gcs_error"  #: backend: storage failed, its retries included
    RATE_LIMITED = "rate_limited"  #: backend: the global or the per-user limit
    OVERLOADED = "overloaded"  #: backend: max_inflight_uploads (backpressure)
    UNAUTHORIZED = "unauthorized"  #: backend: no token, or one nobody has
    BAD_UPLOAD = "bad_upload"  #: backend: no file, an empty one, or not audio
    INTERNAL_ERROR = "internal_error"  #: backend: a 500 without a cause, a defect of the replica
    BODY_TOO_LARGE = "body_too_large"  #: nginx: 413, client_max_body_size
    BAD_GATEWAY = "bad_gateway"  #: nginx 502, Cloud Run 503: the backend closed without an answer
    GATEWAY_TIMEOUT = "gateway_timeout"  #: nginx: 504, proxy_read_timeout
    NO_INSTANCE = "no_instance"  #: Cloud Run: 429, no instance took it in time
    INSTANCE_DIED = "instance_died"  #: Cloud Run: 503, its instance died, or none would start
    REQUEST_TIMEOUT = "request_timeout"  #: Cloud Run: 504, cloudrun_timeout
    TOO_LARGE = "too_large"  #: Cloud Run: 413, a body above 32 MiB
    CLIENT_TIMEOUT = "client_timeout"  #: client: no answer within the load's timeout
    CONNECTION = "connection"  #: client: refused, reset or cut


FROM_STATUS = {413: Cause.BODY_TOO_LARGE, 502: Cause.BAD_GATEWAY, 504: Cause.GATEWAY_TIMEOUT}
"""What a status means when the answer carries no problem body, so nginx made it."""

NGINX_CAUSES = frozenset({Cause.BODY_TOO_LARGE, Cause.GATEWAY_TIMEOUT})
"""Causes that only nginx names, which stands before the VM alone."""

CLOUDRUN_CAUSES = frozenset(
    {Cause.NO_INSTANCE, Cause.INSTANCE_DIED, Cause.REQUEST_TIMEOUT, Cause.TOO_LARGE}
)
"""Causes that only Cloud Run names."""

SERVICE_CAUSES = frozenset(
    {
        *(Cause.POOL_TIMEOUT, Cause.DB_REFUSED, Cause.DB_ERROR, Cause.GCS_ERROR),
        *(Cause.RATE_LIMITED, Cause.OVERLOADED, Cause.UNAUTHORIZED, Cause.BAD_UPLOAD),
        Cause.INTERNAL_ERROR,
    }
)
"""Causes that lie inside the service, which alone names them."""

CUT_OFF = frozenset(
    {
        *(Cause.GATEWAY_TIMEOUT, Cause.REQUEST_TIMEOUT, Cause.CLIENT_TIMEOUT, Cause.CONNECTION),
        *(Cause.BAD_GATEWAY, Cause.INSTANCE_DIED),
    }
)
"""Causes that end an upload before the service has answered it: what it would have answered,
they do not tell. Who was refused at the gate instead never was inside."""


class Sample(Frozen):
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
        stages: seconds by stage, from ``Server-Timing``; empty where none came. The backend
            names pool_wait, auth, release, gcs_queue, gcs, pool_wait2 and write, in this order.
            Cloud Run's gateway adds queue, the wait for a place at an instance, and cold, the
            part of that wait in which the instance was starting; a warm one has none.
        recording: what the answer called the recording; None for a failure.
        request: the id that went with it, by which an `UploadRecord` is of the same upload;
            None in samples of an earlier lab.
        uplink_s: of ``latency_s``, the seconds in which the user's line carried the body; 0 where
            the load has no ``uplink``.
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
    request: str | None = None
    uplink_s: float = 0.0


INSTANT_S = 0.002
"""Two moments of a record are the same within this: they are kept to the millisecond."""


class StageSpan(NamedTuple):
    """A stage of an upload: its name, when it began, and how many seconds it took."""

    stage: str
    begun: float
    took: float


class UploadRecord(Frozen):
    """An upload as its worker saw it, whether or not anybody waited for the answer.

    One that is still inside is written whenever it has stood in one stage for a while, so that
    the last record of a request says where it was; the one that counts is the last.

    Args:
        t: when this was written; of an upload that has ended, when it ended.
        request: its id, as `Sample.request`.
        worker: the process that had it, as `WorkerReading.pid`.
        handed: when the proxy or gateway handed it over; None where none said so.
        arrived: when the application had it.
        status: what it was answered; None while it is inside.
        cause: the cause that the service named, from the moment it failed, which may be before
            it is answered; None for a success, and while it has not failed.
        spans: its stages in the order of their beginnings, of the last one so much as is known.
    """

    kind: Literal["upload"] = "upload"
    t: float
    request: str
    worker: int
    handed: float | None
    arrived: float
    status: int | None
    cause: str | None
    spans: list[StageSpan]

    @property
    def standing(self) -> StageSpan | None:
        """The stage that went on when this was written; None of an upload that had ended."""
        last = self.spans[-1] if self.spans and self.status is None else None
        return last if last and self.t - last.begun - last.took <= INSTANT_S else None


class WorkerReading(Frozen):
    """Ten times a second, from each worker: its pool, threads, loop and memory.

    ``cpu_s``, ``loop_busy_s`` (wall-clock seconds in which the event loop did not wait),
    ``gcs_attempts`` and ``gcs_bytes`` are running totals since the worker began. ``threads``
    and ``fds`` count all of the process. ``anyio_busy`` counts anyio's threads in use, and
    ``anyio_queued`` the calls that wait for one. What an earlier lab did not read is None.
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
    loop_busy_s: float | None = None
    threads: int | None = None
    fds: int | None = None
    anyio_busy: int | None = None
    anyio_queued: int | None = None


class DatabaseReading(Frozen):
    """The application's backends in ``pg_stat_activity``, of the plain role only."""

    kind: Literal["database"] = "database"
    t: float
    connections: int


class Usage(Frozen):
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


class MachineReading(Frozen):
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


class PartDown(Frozen):
    """A part that died, or was stopped, while it was needed; ``why`` is one line."""

    kind: Literal["part_down"] = "part_down"
    t: float
    part: str
    why: str


AUDIT = "audit"
"""The part that is down where the audit could not be made; an empty one follows then."""


class OomKill(Frozen):
    """A worker killed for passing ``vm_memory``; ``rss`` is what it had."""

    kind: Literal["oom_kill"] = "oom_kill"
    t: float
    pid: int
    rss: int


class LoadDone(Frozen):
    """How the load went: the window it had, in seconds after its start.

    ``dropped`` counts the arrivals of that window that were not sent, because as many uploads as
    the load's ``max_in_flight`` allows were in flight.
    """

    kind: Literal["load"] = "load"
    t: float
    window: tuple[float, float]
    generator_exit: int
    dropped: int = 0


class Injected(Frozen):
    """What Toxiproxy read back of a proxy's toxics when the load began.

    ``base_s`` is what was taken off the delay that stands for the distance to the database,
    in wall-clock seconds, because a round trip takes so long by itself.
    """

    kind: Literal["injected"] = "injected"
    t: float
    proxy: str
    enabled: bool
    toxics: list[dict[str, object]]
    base_s: Annotated[float, Field(ge=0)] = 0.0


class ProcessFaultRecord(Frozen):
    """A process fault that happened: ``action`` at ``t``, by the fault of this name.

    It was over at ``until``, when the part served again; None where it did not.
    """

    kind: Literal["strike"] = "strike"
    t: float
    fault: str
    part: str
    action: Action
    until: float | None


class Audit(Frozen):
    """The bucket and the table against the samples.

    ``lost`` names recordings answered 200 whose row or object is missing; ``orphans``
    names objects without a row, ``inflight`` the uploads that were still inside a worker
    then and may yet write one. ``unheard`` names recordings with row and object of which no
    client was told; None where an earlier lab did not look. ``refused`` counts SQLSTATE 53300
    in Postgres' log.
    """

    kind: Literal["audit"] = "audit"
    t: float
    rows: int
    objects: int
    lost: list[str]
    orphans: list[str]
    unheard: list[str] | None = None
    inflight: int = 0
    refused: int


class GatewayServing(Frozen):
    """Cloud Run's gateway is up: what makes its instances, and whether their files are memory."""

    kind: Literal["serving"] = "serving"
    t: float
    driver: str
    files_are_memory: bool


class GatewayReading(Frozen):
    """How things stood at the gateway, noted when they changed: requests, instances by state."""

    kind: Literal["front"] = "front"
    t: float
    queue: int
    in_flight: int
    starting: int
    ready: int
    stopping: int


class InstanceEvent(Frozen):
    """A moment in an instance's life.

    ``start_s`` comes with ``ready``, and ``made_s``, the part of it that went by before the
    instance's program ran; ``why`` says what failed or how it ended, ``during`` in
    which state; ``frozen`` is one whose CPU others than the gateway withhold. ``usage``, twice a
    second, and its end carry running totals: ``cpu_s`` and ``throttled_s`` in seconds, and the
    peak of its memory in bytes, its files included.
    """

    kind: Literal["instance"] = "instance"
    t: float
    event: Literal[
        "starting", "ready", "start_failed", "paused", "resumed", "idle", "sigterm", "sigkill",
        "stopped", "died", "oom", "frozen", "stuck", "removed", "usage",
    ]  # fmt: skip
    instance: str
    start_s: float | None = None
    made_s: float | None = None
    why: str = ""
    during: str = ""
    cpu_s: float | None = None
    throttled_s: float | None = None
    peak_bytes: float | None = None


class GatewayRequest(Frozen):
    """A moment of a request at the gateway; durations in seconds.

    ``waited`` and ``cold`` are what the gateway adds to `Sample.stages`; ``took`` is how long
    it held its place (``request_end``), or how long it had been there when it was ``refused``;
    ``instance`` is empty where it never had one.
    """

    kind: Literal["request"] = "request"
    t: float
    event: Literal["request_start", "request_end", "refused", "left"]
    instance: str = ""
    waited: float | None = None
    cold: float | None = None
    took: float | None = None
    how: str = ""
    cause: str = ""
    status: int | None = None


Evidence = Annotated[
    WorkerReading
    | UploadRecord
    | DatabaseReading
    | MachineReading
    | PartDown
    | OomKill
    | LoadDone
    | Injected
    | ProcessFaultRecord
    | GatewayServing
    | GatewayReading
    | InstanceEvent
    | GatewayRequest
    | Audit,
    Field(discriminator="kind"),
]
EVIDENCE: TypeAdapter[Evidence] = TypeAdapter(Evidence)


class Observation(Frozen):
    """All that is known of one cell's trial, read back from its folder."""

    samples: tuple[Sample, ...]
    evidence: tuple[Evidence, ...]
