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

from lab.model.base import Bytes, Count, Elapsed, Frozen, Moment, Plain, Total, Whole
from lab.model.fault import Action
from lab.model.journeys import Journey
from lab.model.pooler import PoolerReading
from lab.model.probe import ProbeRecord
from lab.model.readings import DatabaseReading, DatabaseStatements, MachineReading


class Cause(StrEnum):
    """The cause of a failed upload, and who says so.

    The backend and the gateway that stands for Cloud Run name their own in the ``cause``
    member of an RFC 9457 problem body; nginx's follow from the status of an answer without
    one; the client's are its own.
    """

    POOL_TIMEOUT = "pool_timeout"  #: backend: QueuePool gave up after pool_timeout
    DB_REFUSED = "db_refused"  #: backend: Postgres, or PgBouncer before it, had no slot left
    DB_ERROR = "db_error"  #: backend: any other failure of the database
    GCS_ERROR = "gcs_error"  #: backend: storage failed, its retries included
    SPEECH_ERROR = "speech_error"  #: backend: the speech service is down, too slow, or failed
    RATE_LIMITED = "rate_limited"  #: backend: the global or the per-user limit
    OVERLOADED = "overloaded"  #: backend: max_inflight_uploads (backpressure)
    UNAUTHORIZED = "unauthorized"  #: backend: no token, or one nobody has
    BAD_UPLOAD = "bad_upload"  #: backend: no file, an empty one, or not audio
    BAD_AUDIO = "bad_audio"  #: backend: 422, no WAV file that can be converted or assessed
    UPLOAD_TOO_LARGE = "upload_too_large"  #: backend: 413, backend_body
    NOT_FOUND = "not_found"  #: backend: 404, there is no such path
    METHOD_NOT_ALLOWED = "method_not_allowed"  #: backend: 405, the path takes another method
    INTERNAL_ERROR = "internal_error"  #: backend: a 500 without a cause, a defect of the replica
    BODY_TOO_LARGE = "body_too_large"  #: nginx: 413, client_max_body_size
    BAD_GATEWAY = "bad_gateway"  #: nginx 502, Cloud Run 503: the backend closed without an answer
    GATEWAY_TIMEOUT = "gateway_timeout"  #: nginx: 504, proxy_read_timeout
    PROXY_ERROR = "proxy_error"  #: nginx: 500, it had no connection or file left to go on with
    NO_INSTANCE = "no_instance"  #: Cloud Run: 429, no instance took it in time
    INSTANCE_DIED = "instance_died"  #: Cloud Run: 503, its instance died, or none would start
    REQUEST_TIMEOUT = "request_timeout"  #: Cloud Run: 504, cloudrun_timeout
    TOO_LARGE = "too_large"  #: Cloud Run: 413, a body above 32 MiB
    CLIENT_TIMEOUT = "client_timeout"  #: client: no answer within the load's timeout
    CONNECTION = "connection"  #: client: refused, reset or cut


FROM_STATUS = {
    404: Cause.NOT_FOUND,
    405: Cause.METHOD_NOT_ALLOWED,
    413: Cause.BODY_TOO_LARGE,
    502: Cause.BAD_GATEWAY,
    504: Cause.GATEWAY_TIMEOUT,
}
"""What a status means when the answer carries no problem body, so nginx made it."""

NGINX_CAUSES = frozenset({Cause.BODY_TOO_LARGE, Cause.GATEWAY_TIMEOUT, Cause.PROXY_ERROR})
"""Causes that only nginx names, which stands before the VM alone."""

CLOUDRUN_CAUSES = frozenset(
    {Cause.NO_INSTANCE, Cause.INSTANCE_DIED, Cause.REQUEST_TIMEOUT, Cause.TOO_LARGE}
)
"""Causes that only Cloud Run names."""

SERVICE_CAUSES = frozenset(
    {
        *(Cause.POOL_TIMEOUT, Cause.DB_REFUSED, Cause.DB_ERROR, Cause.GCS_ERROR),
        *(Cause.RATE_LIMITED, Cause.OVERLOADED, Cause.UNAUTHORIZED, Cause.BAD_UPLOAD),
        *(Cause.UPLOAD_TOO_LARGE, Cause.NOT_FOUND, Cause.METHOD_NOT_ALLOWED),
        *(Cause.SPEECH_ERROR, Cause.BAD_AUDIO, Cause.INTERNAL_ERROR),
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

ANSWER_LOST = frozenset({Cause.BAD_GATEWAY, Cause.CONNECTION})
"""How the client of an upload that was answered sees that the answer was lost on its way.

A server that refuses an upload before it has read the body, and closes the connection, resets it
under whoever still writes (RFC 9112, 9.6): nginx then answers 502 of its own.
"""


class Sample(Frozen):
    """One attempt at a journey, an upload where nothing else is said, as the user saw it.

    Args:
        planned_at: when it should have been sent, in seconds after the load started.
        sent_at: when it was.
        latency_s: from sending to the last byte of the answer, or to giving up.
        status: the HTTP status; 0 where there was no answer.
        error: the cause; None for a success.
        bytes: size of the audio.
        user: number of the user, from 0; who asks for health has the one after the last.
        stage: index of the load's stage at sending; 0 where the load has none.
        stages: seconds by stage, from ``Server-Timing``; empty where none came. The backend
            names pool_wait, auth, release, gcs_queue, gcs, pool_wait2 and write, in this order; in
            the place of storage's an assessment has speech_queue and speech, a conversion
            convert_queue and convert, and a progress request has read in that of write.
            Cloud Run's gateway adds queue, the wait for a place at an instance, and cold, the
            part of that wait in which the instance was starting; a warm one has none.
        recording: what the answer called the recording, or assessment; None where none is stored.
        request: the id that went with it, by which an `UploadRecord` is of the same upload;
            None in samples of an earlier lab.
        uplink_s: of ``latency_s``, the seconds in which the user's line carried the body; 0 where
            the load has no ``uplink``.
        journey: what the user wanted.
        worker: who answered, as `UploadRecord.worker`; None where no worker did, and in samples of
            an earlier lab.
    """

    planned_at: Moment
    sent_at: Moment
    latency_s: Elapsed
    status: Count
    error: Cause | None
    bytes: Bytes
    user: Count
    stage: Count = 0
    stages: dict[str, Elapsed] = {}
    recording: str | None = None
    request: str | None = None
    uplink_s: Elapsed = 0.0
    journey: Journey = Journey.UPLOAD
    worker: Count | None = None


class Beat(Frozen):
    """A sign of life of the load generator, among its samples; ``beat`` is when."""

    beat: Moment


INSTANT_S = 0.002
"""Two moments of a record are the same within this: they are kept to the millisecond."""


class StageSpan(NamedTuple):
    """A stage of an upload: its name, when it began, and how many seconds it took."""

    stage: str
    begun: Moment
    took: Moment


class UploadRecord(Frozen):
    """An upload, or another journey, as its worker saw it, whether or not anybody waited for it.

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
        journey: what was asked for.
        peer: the port of the proxy's end of its connection; None where none is known.
    """

    kind: Literal["upload"] = "upload"
    t: Moment
    request: str
    worker: Count
    handed: Moment | None
    arrived: Moment
    status: Count | None
    cause: str | None
    spans: list[StageSpan]
    journey: Journey = Journey.UPLOAD
    peer: Count | None = None

    @property
    def standing(self) -> StageSpan | None:
        """The stage that went on when this was written; None of an upload that had ended."""
        last = self.spans[-1] if self.spans and self.status is None else None
        return last if last and self.t - last.begun - last.took <= INSTANT_S else None


ELSEWHERE = "elsewhere"
"""Where an event loop stood that did so in no line of the service: in the framework's own work."""


class WorkerReading(Frozen):
    """Ten times a second, from each worker: its pool, threads, loop and memory.

    ``cpu_s``, ``loop_busy_s`` (wall-clock seconds in which the event loop did not wait),
    ``gcs_attempts``, ``gcs_bytes``, ``gcs_failed`` (attempts that storage answered with an error
    or not at all), ``gcs_retried`` (those made because an earlier one of the same call had failed)
    and ``gcs_acknowledged_bytes`` are running totals since the worker began. ``threads``
    and ``fds`` count all of the process. ``anyio_busy`` counts anyio's threads in use, and
    ``anyio_queued`` the calls that wait for one; the speech and the audio threads have the like, of
    assessments and conversions. ``inside`` counts all of the students' requests, ``inflight`` the
    uploads. ``instance`` is Cloud Run's that it is in; empty on the VM. ``stood`` are running
    totals of the wall-clock seconds in which its event loop stood in a line of the service, by that
    line; ``threads_named`` are Python's threads by kind; ``abandoned`` counts connections that are
    checked out of the pool and that no session has. What an earlier lab did not read is None.
    """

    kind: Literal["worker"] = "worker"
    t: Moment
    pid: Count
    pool_size: Whole
    checked_out: Whole
    overflow: Whole
    waiting: Whole
    threads_busy: Whole
    threads_queued: Whole
    inflight: Whole
    loop_lag: Moment
    rss: Bytes
    cpu_s: Total
    gcs_attempts: Count
    gcs_bytes: Bytes
    loop_busy_s: Total | None = None
    threads: Count | None = None
    fds: Count | None = None
    anyio_busy: Count | None = None
    anyio_queued: Count | None = None
    speech_busy: Count | None = None
    speech_queued: Count | None = None
    audio_busy: Count | None = None
    audio_queued: Count | None = None
    inside: Count | None = None
    instance: str = ""
    stood: dict[str, Total] | None = None
    threads_named: dict[str, Count] | None = None
    abandoned: Whole | None = None
    gcs_failed: Count | None = None
    gcs_retried: Count | None = None
    gcs_acknowledged_bytes: Bytes | None = None


class PartDown(Frozen):
    """A part that died, or was stopped, while it was needed; ``why`` is one line."""

    kind: Literal["part_down"] = "part_down"
    t: Moment
    part: str
    why: str


GENERATOR = "generator"
"""The load generator, in readings of this machine and where it died or stood still."""

LAB = "lab"
"""The lab's own process, in readings of this machine and where it stood still."""

AUDIT = "audit"
"""The part that is down where the audit could not be made; an empty one follows then."""


class OomKill(Frozen):
    """A worker killed for passing ``vm_memory``; ``rss`` is what it had."""

    kind: Literal["oom_kill"] = "oom_kill"
    t: Moment
    pid: Count
    rss: Bytes


class LoadDone(Frozen):
    """How the load went: the window it had, in seconds after its start.

    ``dropped`` counts the arrivals of that window that were not sent, because as many uploads as
    the load's ``max_in_flight`` allows were in flight. ``beat_s`` is how often the generator
    gave a sign of life, in wall-clock seconds (`Beat`); None of an earlier lab, whose readings
    need not cover the trial either. ``decided_at`` is when every criterion was certain, so that
    the window ended soon after, before its time; None of one that went on to its end.
    """

    kind: Literal["load"] = "load"
    t: Moment
    window: tuple[Moment, Moment]
    generator_exit: Whole
    dropped: Count = 0
    beat_s: Elapsed | None = None
    decided_at: Moment | None = None


class Injected(Frozen):
    """What Toxiproxy read back of a proxy's toxics when the load began.

    ``base_s`` is what was taken off the delay that stands for the distance to the database,
    in wall-clock seconds, because a round trip takes so long by itself.
    """

    kind: Literal["injected"] = "injected"
    t: Moment
    proxy: str
    enabled: bool
    toxics: list[dict[str, Plain]]
    base_s: Elapsed = 0.0


class ProcessFaultRecord(Frozen):
    """A process fault that happened: ``action`` at ``t``, by the fault of this name.

    It was over at ``until``, when the part served again; None where it did not.
    """

    kind: Literal["strike"] = "strike"
    t: Moment
    fault: str
    part: str
    action: Action
    until: Moment | None


class Shortage(Frozen):
    """How often there was nothing left of what a part lives on, by its log or by the kernel.

    Args:
        part: who ran out, as `lab.model.replica.PARTS` names it.
        of: ``connections``, ``files`` (descriptors), ``space`` (on the disk that it writes to), or
            ``accept_queue``, in which the kernel keeps connections until a part accepts them.
        count: how often that is said. PgBouncer says it of each client that it gives up on; nginx
            once a second where it can help itself by closing a connection that has not sent its
            request yet, so that counts no uploads.
    """

    part: str
    of: Literal["connections", "files", "space", "accept_queue"]
    count: Count


class Audit(Frozen):
    """The bucket and the table against the samples, and what the parts' logs say of the trial.

    ``lost`` names recordings answered 200 whose row or object is missing, and ``lost_scores``
    assessments without their row, of which there are ``scores``; ``orphans``
    names objects without a row, ``inflight`` the uploads that were still inside a worker
    then and may yet write one. ``unheard`` names recordings with row and object of which no
    client was told; None where an earlier lab did not look. ``refused`` counts SQLSTATE 53300
    in Postgres' log; ``shortages`` is what parts ran out of.
    """

    kind: Literal["audit"] = "audit"
    t: Moment
    rows: Count
    objects: Count
    lost: list[str]
    orphans: list[str]
    unheard: list[str] | None = None
    inflight: Count = 0
    refused: Count
    shortages: list[Shortage] = []
    scores: Count = 0
    lost_scores: list[str] = []


class GatewayServing(Frozen):
    """Cloud Run's gateway is up: what makes its instances, and whether their files are memory."""

    kind: Literal["serving"] = "serving"
    t: Moment
    driver: str
    files_are_memory: bool


class GatewayReading(Frozen):
    """How things stood at the gateway, noted when they changed: requests, instances by state."""

    kind: Literal["front"] = "front"
    t: Moment
    queue: Count
    in_flight: Count
    starting: Count
    ready: Count
    stopping: Count


class GatewayBeat(Frozen):
    """A sign of life of Cloud Run's gateway, ten times a second of wall-clock time."""

    kind: Literal["front_beat"] = "front_beat"
    t: Moment


class InstanceEvent(Frozen):
    """A moment in an instance's life.

    ``start_s`` comes with ``ready``, and ``made_s``, the part of it that went by before the
    instance's program ran; ``why`` says what failed or how it ended, ``during`` in
    which state; ``frozen`` is one whose CPU others than the gateway withhold. ``usage``, twice a
    second, and its end carry running totals: ``cpu_s`` and ``throttled_s`` in seconds, and the
    peak of its memory in bytes, its files included.
    """

    kind: Literal["instance"] = "instance"
    t: Moment
    event: Literal[
        "starting", "ready", "start_failed", "paused", "resumed", "idle", "sigterm", "sigkill",
        "stopped", "died", "oom", "frozen", "stuck", "removed", "usage",
    ]  # fmt: skip
    instance: str
    start_s: Moment | None = None
    made_s: Moment | None = None
    why: str = ""
    during: str = ""
    cpu_s: Total | None = None
    throttled_s: Total | None = None
    peak_bytes: Total | None = None


class GatewayRequest(Frozen):
    """A moment of a request at the gateway; durations in seconds.

    ``waited`` and ``cold`` are what the gateway adds to `Sample.stages`; ``took`` is how long
    it held its place (``request_end``), or how long it had been there when it was ``refused``;
    ``instance`` is empty where it never had one.
    """

    kind: Literal["request"] = "request"
    t: Moment
    event: Literal["request_start", "request_end", "refused", "left"]
    instance: str = ""
    waited: Moment | None = None
    cold: Moment | None = None
    took: Moment | None = None
    how: str = ""
    cause: str = ""
    status: Count | None = None


Evidence = Annotated[
    WorkerReading
    | UploadRecord
    | DatabaseReading
    | DatabaseStatements
    | PoolerReading
    | MachineReading
    | PartDown
    | OomKill
    | ProbeRecord
    | LoadDone
    | Injected
    | ProcessFaultRecord
    | GatewayServing
    | GatewayReading
    | GatewayBeat
    | InstanceEvent
    | GatewayRequest
    | Audit,
    Field(discriminator="kind"),
]
EVIDENCE: TypeAdapter[Evidence] = TypeAdapter(Evidence)


class Observation(Frozen):
    """All that is known of one cell's trial, read back from its folder.

    ``beats`` are the generator's signs of life, in real-world seconds after the load started.
    """

    samples: tuple[Sample, ...]
    evidence: tuple[Evidence, ...]
    beats: tuple[float, ...] = ()
