"""The knob table: each setting of the replica, declared once, here.

The class `Knobs` *is* the table. A field's type holds its unit and bounds, its default is
the column *as found* (what the incident report found in production), and its `Knob` holds
the meaning and the column *recommended* (the report's advice taken literally). CLI,
Compose, documentation and services read this table; nothing else declares a default.
It is longer than 500 lines because a table in two places is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import ceil
from typing import Annotated, Any, Literal, Self, get_args, get_type_hints

from pydantic import Field

from lab.model.base import Frozen
from lab.model.bounds import bounds_of, none_word, unit_of
from lab.model.units import (
    OFF,
    PRESET,
    UNLIMITED,
    AtMost,
    Duration,
    RateLimit,
    Size,
    Span,
    format_size,
)

ENV_PREFIX = "LAB_"


class Preset(StrEnum):
    """The two columns of the knob table."""

    AS_FOUND = "as-found"
    RECOMMENDED = "recommended"


Part = Literal["backend", "nginx", "pgbouncer", "postgres", "cloudrun", "run"]
"""Where a knob belongs; ``run`` is no part of the replica."""


@dataclass(frozen=True)
class Knob:
    """What the table says of a knob beside its type and default.

    Args:
        help: the meaning, for a reader who has not seen the code.
        part: the part of the replica that a change of it restarts; ``run`` restarts none.
        recommended: its value under the preset *recommended*; the same as found if not given.
        also: the parts that read it too, and so restart as well.
    """

    help: str
    part: Part = "backend"
    recommended: Any = None
    also: tuple[Part, ...] = ()


class Knobs(Frozen):
    """One value for each knob: the settings of one cell."""

    workers: Annotated[
        int,
        Field(ge=1, le=16),
        Knob("uvicorn processes, each with a pool of its own", recommended=4),
    ] = 1
    balance: Annotated[
        Literal["shared_socket", "round_robin", "least_conn"],
        Knob(
            "who shares uploads out among the workers: the kernel, to whichever accepts first from "
            "the one socket that all listen on (uvicorn --workers); or nginx, to a port of each "
            "worker's own, in turn, or where the fewest are under way",
            also=("nginx",),
        ),
    ] = "shared_socket"
    gcs_call: Annotated[
        Literal["blocking", "to_thread", "executor", "audio_pool"],
        Knob(
            "where the storage call runs: in the event loop; in the loop's default executor "
            "of min(32, CPUs + 4) threads; in a pool of its own of gcs_threads; or in the "
            "audio threads, shared",
            recommended="to_thread",
        ),
    ] = "blocking"
    gcs_threads: Annotated[
        int, Field(ge=1, le=256), Knob("threads of the pool that gcs_call: executor uses")
    ] = 20
    db_call: Annotated[
        Literal["blocking", "threadpool"],
        Knob(
            "where SQLAlchemy's synchronous calls run: in the event loop, as the report's code "
            "makes them, or in anyio's threads"
        ),
    ] = "blocking"
    db_session: Annotated[
        Literal["hold", "release"],
        Knob("hold keeps the session across the upload (before the fix); release closes it first"),
    ] = "release"
    pool_size: Annotated[
        int,
        Field(ge=1, le=200),
        Knob("connections that a worker's pool keeps", recommended=15),
    ] = 10
    pool_class: Annotated[
        Literal["QueuePool", "NullPool"],
        Knob(
            "SQLAlchemy's pool: QueuePool keeps connections and lends them; NullPool keeps none: "
            "each checkout opens one, without a limit, and its return closes it"
        ),
    ] = "QueuePool"
    max_overflow: Annotated[
        Annotated[int, Field(ge=0, le=200)] | None,
        *UNLIMITED,
        Knob(
            "connections that a worker's pool may open beyond pool_size, or unlimited "
            "(SQLAlchemy's -1)",
            recommended=15,
        ),
    ] = 10
    pool_timeout: Annotated[
        Duration,
        Field(gt=0, le=600),
        Knob("how long a checkout waits for a connection before QueuePool gives up"),
    ] = 10.0
    pool_recycle: Annotated[
        Duration, Field(ge=1, le=86400), Knob("age at which a pooled connection is replaced")
    ] = 3600.0
    pool_pre_ping: Annotated[
        Literal["off", "on"],
        Knob(
            "whether a pooled connection is tried by a SELECT 1 at each checkout, a round trip "
            "more, and replaced if it is dead"
        ),
    ] = "off"
    anyio_threads: Annotated[
        int,
        Field(ge=1, le=256),
        Knob(
            "anyio's threads of an event loop: database calls under db_call: threadpool, and "
            "reading the file of an upload above 1 MB"
        ),
    ] = 40
    keep_alive: Annotated[
        Duration,
        Field(gt=0, le=3600),
        Knob(
            "how long uvicorn keeps an idle connection open: one of nginx under nginx_keepalive, "
            "since all others are used once"
        ),
    ] = 5.0
    global_rate_limit: Annotated[
        RateLimit | None,
        *OFF,
        Knob("requests that one address may make, or off; every worker counts on its own"),
    ] = RateLimit(count=500, per=60.0)
    rate_limit_key: Annotated[
        Literal["peer", "forwarded"],
        Knob(
            "what the global limit takes for the address: the TCP peer (nginx, so all users "
            "share one bucket) or the last entry of X-Forwarded-For, where nginx sends it",
            recommended="forwarded",
        ),
    ] = "peer"
    upload_rate_limit: Annotated[
        RateLimit | None,
        *OFF,
        Knob(
            "uploads that one user may make, or off; every worker counts on its own",
            recommended=RateLimit(count=10, per=60.0),
        ),
    ] = None
    max_inflight_uploads: Annotated[
        Annotated[int, Field(ge=1, le=10000)] | None,
        *OFF,
        Knob(
            "uploads that a worker accepts at once, or off; past it 503 with Retry-After, "
            "unread (refuse says when)",
            recommended=20,
        ),
    ] = None
    refuse: Annotated[
        Literal["before_body", "after_body"],
        Knob(
            "when the backend answers a request that it refuses unread: before_body, at once, and "
            "nginx, which is still sending, may find the connection reset and answer 502 itself; "
            "or after_body, once what is sent has been read and thrown away"
        ),
    ] = "before_body"
    backend_body: Annotated[
        Annotated[Size, Field(ge=1, le=1024**4)] | None,
        *OFF,
        Knob(
            "the largest body that the backend itself takes, past it 413, however long the client "
            "says that it is; or off, no limit"
        ),
    ] = None
    audio_threads: Annotated[int, Field(ge=1, le=256), Knob("threads for audio conversion")] = 10
    speech_threads: Annotated[
        int, Field(ge=1, le=256), Knob("threads for speech recognition; uploads never use them")
    ] = 20
    convert_call: Annotated[
        Literal["blocking", "audio_pool"],
        Knob("where a recording is converted: in the event loop, or in the audio threads"),
    ] = "audio_pool"
    nginx: Annotated[
        Literal["as-found", "recommended"],
        Knob(
            "the nginx configuration: body limit 1 MiB and read timeout 60 s, or 3 MiB, 30 s "
            "and the client's address passed on",
            part="nginx",
            recommended="recommended",
        ),
    ] = "as-found"
    nginx_body: Annotated[
        Annotated[Size, Field(ge=1, le=1024**4)] | Literal["preset"] | None,
        *OFF,
        Knob(
            "the largest body that nginx passes on, past it 413; preset, as nginx says; or off, "
            "no limit",
            part="nginx",
        ),
    ] = PRESET
    nginx_read_timeout: Annotated[
        Annotated[Duration, Field(gt=0, le=86400)] | Literal["preset"] | None,
        *OFF,
        Knob(
            "how long nginx waits for the backend's answer, past it 504; preset, as nginx says; "
            "or off, longer than any load lasts",
            part="nginx",
        ),
    ] = PRESET
    nginx_keepalive: Annotated[
        Annotated[int, Field(ge=1, le=1000)] | None,
        *OFF,
        Knob(
            "idle connections to the backend that nginx keeps for its next requests, over "
            "HTTP/1.1; or off, a connection for each request",
            part="nginx",
        ),
    ] = None
    nginx_proxy_buffer: Annotated[
        Size,
        Field(ge=1024, le=1024**2),
        Knob(
            "nginx's proxy_buffer_size, and each of its eight proxy_buffers: they take the "
            "backend's answer, and nothing of an upload",
            part="nginx",
        ),
    ] = 4096
    nginx_connections: Annotated[
        int,
        Field(ge=64, le=65536),
        Knob(
            "connections that nginx holds at once, its worker_connections: an upload that it "
            "passes on takes two, one to the user and one to the backend",
            part="nginx",
        ),
    ] = 1024
    vm_cpus: Annotated[
        float,
        Field(ge=1, le=64),
        Knob("cores of the VM: the backend may use no more; its default executor is sized by them"),
    ] = 2.0
    vm_memory: Annotated[
        Annotated[Size, Field(ge=64 * 1024**2, le=1024**4)] | None,
        *OFF,
        Knob("memory of the backend, or off (no limit); a worker past it is killed"),
    ] = None
    cloudrun_cpus: Annotated[
        float,
        Field(ge=0.08, le=8),
        Knob("CPU of an instance, as a share of time (CFS quota)", part="cloudrun"),
    ] = 0.5
    cloudrun_memory: Annotated[
        Size,
        Field(ge=128 * 1024**2, le=32 * 1024**3),
        Knob(
            "memory of an instance, swap and temporary files included; past it the kernel kills it",
            part="cloudrun",
            recommended=512 * 1024**2,
        ),
    ] = 256 * 1024**2
    cloudrun_concurrency: Annotated[
        int,
        Field(ge=1, le=1000),
        Knob("requests that an instance is given at once", part="cloudrun"),
    ] = 1
    cloudrun_workers: Annotated[
        int,
        Field(ge=1, le=16),
        Knob(
            "uvicorn processes of an instance, each with a pool of its own; they share its CPU "
            "and memory",
            part="cloudrun",
        ),
    ] = 1
    cloudrun_min_instances: Annotated[
        int, Field(ge=0, le=16), Knob("instances kept warm", part="cloudrun")
    ] = 0
    cloudrun_max_instances: Annotated[
        int, Field(ge=1, le=16), Knob("instances there may be", part="cloudrun")
    ] = 1
    cloudrun_idle: Annotated[
        Duration,
        Field(gt=0, le=3600),
        Knob("how long an instance without requests is kept before it is ended", part="cloudrun"),
    ] = 900.0
    cloudrun_pending: Annotated[
        Duration,
        Field(gt=0, le=3600),
        Knob(
            "how long a request waits for an instance before it is answered 429, or 3.5 mean "
            "start-ups where that is longer",
            part="cloudrun",
        ),
    ] = 10.0
    cloudrun_timeout: Annotated[
        Duration,
        Field(gt=0, le=3600),
        Knob(
            "how long a request may take, queue and start-up included, before it is answered 504",
            part="cloudrun",
        ),
    ] = 300.0
    cloudrun_boost: Annotated[
        Literal["off", "on"],
        Knob("start-up CPU boost: more CPU until 10 s after an instance is ready", part="cloudrun"),
    ] = "off"
    cloudrun_enforce: Annotated[
        Literal["platform", "none"],
        Knob(
            "platform refuses what Cloud Run refuses: below 1 CPU a concurrency above 1, or more "
            "memory than goes with the CPU; none breaks those rules on purpose",
            part="cloudrun",
        ),
    ] = "platform"
    health_probe: Annotated[
        Annotated[Duration, Field(ge=1, le=3600)] | None,
        *OFF,
        Knob(
            "how often /health is asked, while a cell is measured, by who ends what does not "
            "answer and starts it anew: the platform its instances (liveness probe), a load "
            "balancer the VM's backend, through nginx; or off, as the report tells of none",
            part="run",
        ),
    ] = None
    health_timeout: Annotated[
        Duration,
        Field(gt=0, le=3600),
        Knob("how long a health probe waits for the answer", part="run"),
    ] = 1.0
    health_failures: Annotated[
        int,
        Field(ge=1, le=100),
        Knob("how many health probes have to fail in a row", part="run"),
    ] = 3
    db_cap: Annotated[
        int,
        Field(ge=1, le=500),
        Knob("connections that Postgres grants the application", part="postgres"),
    ] = 25
    pooler: Annotated[
        Literal["off", "session", "transaction"],
        Knob(
            "PgBouncer beside Postgres, behind the distance, with its pool_mode: a connection of "
            "Postgres' is lent for as long as a client's is open, or for a transaction; or off, "
            "none",
            part="pgbouncer",
        ),
    ] = "off"
    pooler_size: Annotated[
        int,
        Field(ge=1, le=500),
        Knob(
            "connections of Postgres' that PgBouncer shares among its clients, its "
            "default_pool_size; no more than db_cap",
            part="pgbouncer",
        ),
    ] = 20
    db_rtt: Annotated[
        Span,
        AtMost(600),
        Knob(
            "a round trip to the database; at 25 ms the auth query takes about 50 ms "
            "(BEGIN, SELECT) and the write about 100 ms (BEGIN, INSERT, UPDATE, COMMIT)",
            part="run",
        ),
    ] = Span(low=0.025, high=0.025)
    gcs_latency: Annotated[
        Span, AtMost(3600), Knob("how long storage takes to answer an upload, uniform", part="run")
    ] = Span(low=2.0, high=5.0)
    speech_latency: Annotated[
        Span,
        AtMost(3600),
        Knob("how long the speech service takes to answer an assessment, uniform", part="run"),
    ] = Span(low=1.0, high=3.0)
    leak: Annotated[
        Literal["off", "connections", "pool", "memory", "threads"],
        Knob(
            "for teaching, a leak put in on purpose: an upload leaves behind a connection "
            "beside the pool, one of the pool, 100 KB of memory, or a waiting thread"
        ),
    ] = "off"
    leak_every: Annotated[
        int, Field(ge=1, le=1000), Knob("how many uploads there are to one that leaks")
    ] = 1
    speed: Annotated[
        float,
        Field(ge=1, le=50),
        Knob(
            "divides every delay, timeout, window and duration; results stay in real-world "
            "time, and a cell in which that would be untrue is invalid",
            also=("nginx", "pgbouncer"),
        ),
    ] = 1.0

    @classmethod
    def preset(cls, preset: Preset) -> Self:
        """One column of the table, whole."""
        chosen = {row.name: row.recommended for row in TABLE} if preset == "recommended" else {}
        return cls().model_copy(update=chosen)

    def with_settings(self, settings: Mapping[str, Any]) -> Self:
        """These knobs with some set anew, from values as a spec writes them.

        Raises:
            pydantic.ValidationError: an unknown knob, a wrong unit, or a value out of bounds.
        """
        return type(self).model_validate({**self.as_text(), **settings})

    def contradiction(self) -> tuple[str, str] | None:
        """What these knobs cannot be *together*, and the remedy; None where nothing is.

        Not a validator: knobs are checked one by one where they stand in a spec, before the
        other one that would make a pair possible has been read. Whoever has a cell's whole
        set asks. The platform's rules are those of "Configure CPU limits for services".
        """
        if self.cloudrun_min_instances > self.cloudrun_max_instances:
            return (
                f"cloudrun_min_instances is {self.cloudrun_min_instances}, above "
                f"cloudrun_max_instances, {self.cloudrun_max_instances}",
                "lower one or raise the other",
            )
        if self.cloudrun_enforce == "none":
            return None
        broken = self._platform_refuses()
        if broken is None:
            return None
        return broken, "change one, or set cloudrun_enforce: none to break the rule"

    def _platform_refuses(self) -> str | None:
        cpus, memory = self.cloudrun_cpus, self.cloudrun_memory
        if cpus < 1 and self.cloudrun_concurrency > 1:
            return (
                f"cloudrun_cpus below 1 ({cpus:g}) forces cloudrun_concurrency 1, "
                f"not {self.cloudrun_concurrency}"
            )
        if cpus > 1 and cpus != int(cpus):
            return f"cloudrun_cpus above 1 must be a whole number, not {cpus:g}"
        for below, limit in ((0.5, 512 * 1024**2), (1.0, 1024**3)):
            if cpus < below and memory > limit:
                return (
                    f"cloudrun_memory above {format_size(limit)} ({format_size(memory)}) needs "
                    f"cloudrun_cpus {below:g} or more, not {cpus:g}"
                )
        return None

    @property
    def listeners(self) -> int:
        """How many sockets the VM's backend listens on: one for all workers, or one for each."""
        return 1 if self.balance == "shared_socket" else self.workers

    @property
    def sharing(self) -> int:
        """How many of the VM's workers accept from one socket; 1 where each has its own."""
        return self.workers if self.listeners == 1 else 1

    @property
    def storage_slots(self) -> int:
        """How many storage calls can run at once on the VM, all workers together."""
        return self.workers * self._storage_threads(self.vm_cpus)

    @property
    def instance_slots(self) -> int:
        """How many storage calls can run at once on Cloud Run, all instances together.

        An instance has `cloudrun_workers` processes, whatever `workers` says, and is given no
        more requests than its concurrency.
        """
        threads = self.cloudrun_workers * self._storage_threads(self.instance_cores)
        return self.cloudrun_max_instances * min(self.cloudrun_concurrency, threads)

    @property
    def instance_worker_slots(self) -> int:
        """How many storage calls can run at once in a process of an instance."""
        return min(self.cloudrun_concurrency, self._storage_threads(self.instance_cores))

    @property
    def instance_cores(self) -> int:
        """Cores that an instance counts: its CPU rounded up.

        The platform does not say what a process counts there; it matters to the default
        executor alone (5 threads up to 1 CPU), and at concurrency 1 not even to that.
        """
        return ceil(self.cloudrun_cpus)

    def _storage_threads(self, cores: float) -> int:
        threads = {
            "blocking": 1,
            "to_thread": default_executor_threads(cores),
            "executor": self.gcs_threads,
            "audio_pool": self.audio_threads,
        }
        return threads[self.gcs_call]

    def as_text(self) -> dict[str, Any]:
        """Every knob as a spec would write it; `with_settings` reads it back without loss."""
        return self.model_dump(mode="json")

    def as_env(self) -> dict[str, str]:
        """The environment variables that carry these knobs to a service."""
        return {variable(name): str(value) for name, value in self.as_text().items()}

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """The knobs that an environment carries; one not set there is as found.

        Raises:
            pydantic.ValidationError: a variable whose value the table does not allow.
        """
        given = {row.name: env[row.variable] for row in TABLE if row.variable in env}
        return cls.model_validate(given)


def default_executor_threads(cpus: float) -> int:
    """Threads of asyncio's default executor on a machine of ``cpus`` cores.

    The rule is ThreadPoolExecutor's, min(32, cores + 4), since Python 3.8. It counts the
    *host's* cores, also inside a container, so the service sizes it by the VM it stands for.
    """
    return min(32, int(cpus) + 4)


def variable(name: str) -> str:
    """The environment variable of a knob: ``pool_size`` travels as ``LAB_POOL_SIZE``."""
    return ENV_PREFIX + name.upper()


@dataclass(frozen=True)
class KnobRow:
    """A row of the table, derived from the class above for those who print or check it.

    ``unit`` is the kind of value (``duration``, ``count``, ``choice`` …); ``bounds`` is text
    for people; ``default`` and ``recommended`` are values of the knob's Python type, whose None,
    where it may be that, a spec writes as ``none_as``.
    """

    name: str
    variable: str
    unit: str
    none_as: str
    bounds: str
    default: Any
    recommended: Any
    part: Part
    also: tuple[Part, ...]
    help: str


def _rows() -> tuple[KnobRow, ...]:
    rows = []
    hints = get_type_hints(Knobs, include_extras=True)
    for name in Knobs.model_fields:
        kind, *metadata = get_args(hints[name])
        knob = next(extra for extra in metadata if isinstance(extra, Knob))
        default = Knobs.model_fields[name].default
        rows.append(
            KnobRow(
                name=name,
                variable=variable(name),
                unit=unit_of(kind, metadata),
                none_as=none_word(metadata),
                bounds=bounds_of(kind, tuple(metadata)),
                default=default,
                recommended=default if knob.recommended is None else knob.recommended,
                part=knob.part,
                also=knob.also,
                help=knob.help,
            )
        )
    return tuple(rows)


TABLE: tuple[KnobRow, ...] = _rows()
