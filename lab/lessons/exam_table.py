"""The faults and settings that an examination may hide: a row each.

A row is a whole cell: what is wrong with it follows from its own figures, and so does a cure.
Where nothing else is said, nothing is a limit for the few users that there are (`FREE`), so that
what a row sets is. ``limit`` is what `lab why` would name; ``also`` are other names for the same,
which pass. Two rows of a kind differ in what can be seen of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lab.model.replica import Target

Settings = Mapping[str, Any]

FREE: Settings = {
    "global_rate_limit": "off",
    "gcs_call": "executor",
    "gcs_threads": 40,
    "db_call": "threadpool",
}
"""None of it is a limit for twenty users."""

LOAD: Settings = {
    "users": 8,
    "ramp": "2 s",
    "warmup": "15 s",
    "window": "60 s",
    "audio": "50 KB",
}
CALM: Settings = {"backoff": "5 s"}
"""Who is refused at once does not come back at once."""

HELD: Settings = {"db_session": "hold", "max_overflow": 0, "pool_timeout": "120 s"}
"""A connection for each upload, for which the others wait, and do not give up."""

EVEN: Settings = {"workers": 2, "balance": "least_conn"}
FAILS = ("error_rate < 5 %",)
SPEECH = ("gcs-latency", "db-distance", "speech-latency")

FAR: Settings = {
    "db_rtt": "200 ms",
    "gcs_latency": "1 s",
    "pool_size": 20,
    "max_overflow": 20,
    "db_cap": 100,
}
"""A database that is far, and storage that is not."""

STAGING: Settings = {
    "cloudrun_cpus": 1,
    "cloudrun_memory": "512 MiB",
    "cloudrun_concurrency": 20,
    "gcs_call": "executor",
    "gcs_threads": 20,
}
FIXED = (
    *("gcs_latency", "db_rtt", "speech_latency", "db_cap", "speed", "leak", "leak_every"),
    *("cloudrun_pending", "cloudrun_enforce", "vm_cpus", "vm_memory", "pooler", "pooler_size"),
)
"""What nobody who runs the service can change, or what was bought: no cure."""


@dataclass(frozen=True)
class HiddenFault:
    """A row.

    Args:
        name: in kebab-case; shown once it is graded.
        limit: the resource that is to be named.
        knobs: over `FREE`, and *as found* below it.
        criteria: what the service owes, as a spec writes it.
        cure: real knobs with which it holds.
        says: why it is the limit, told once it is graded.
        load: over `LOAD`, or a burst.
        also: other resources that pass for the name.
        faults: by name.
        target: where it runs.
    """

    name: str
    limit: str
    knobs: Settings
    criteria: Sequence[str]
    cure: Settings
    says: str
    load: Settings = field(default_factory=dict)
    also: Sequence[str] = ()
    faults: Sequence[str] = ("gcs-latency", "db-distance")
    target: Target = "vm"

    @property
    def whole_load(self) -> dict[str, Any]:
        """The load as a spec writes it."""
        return dict(self.load) if "burst" in self.load else {**LOAD, **self.load}

    def spec(self, name: str) -> dict[str, Any]:
        """The whole spec under a name that gives nothing away."""
        base = FREE if self.target == "vm" else {}
        return {
            "experiment": name,
            "about": "what limits it?",
            "target": self.target,
            "preset": "as-found",
            "knobs": {"speed": "auto", **base, **self.knobs},
            "load": self.whole_load,
            "faults": list(self.faults),
            "criteria": list(self.criteria),
        }


THREADS = "All calls to storage go through a few threads of their own, and queue for them."
LOOP = "The call to storage is made in the event loop, which stands for as long as it takes."
EXECUTOR = "The calls run in the loop's default executor, which has a few threads more than cores."
POOL = "Each upload holds its connection through the call to storage, and the pool is small."
SLOTS = "The pools may open more connections than the database grants, and it refuses the others."
RATE = "A limit counts more uploads in a minute than it lets pass, though nobody abuses anything."
BODY = "Files are larger than what is taken, and are refused for it."
PROXY = "nginx gives up before storage has answered, which is its usual time."
PRESSURE = "The service lets in fewer at once than it could serve, and refuses the others."
ANYIO = (
    "Each database step takes one of anyio's threads, and there are too few for so far a database."
)
SPEAKS = "Assessments wait for the threads that ask the speech service."
QUEUE = (
    "Instances have fewer places than there are requests, which wait until the platform gives up."
)

OWN_CURE = {"gcs_threads": 30}
TO_EXECUTOR = {"gcs_call": "executor", "gcs_threads": 30}
RELEASE = {"db_session": "release"}

HIDDEN_FAULTS = (
    # Threads for storage.
    HiddenFault(
        "two-threads", "own_threads", {"gcs_threads": 2}, ("p95 < 10 s",), OWN_CURE, THREADS
    ),
    HiddenFault(
        "four-threads",
        "own_threads",
        {"gcs_threads": 4},
        ("p95 < 9 s",),
        OWN_CURE,
        THREADS,
        load={"users": 16},
    ),
    HiddenFault(
        "threads-of-two-workers",
        "own_threads",
        {**EVEN, "gcs_threads": 2},
        ("p95 < 8 s",),
        OWN_CURE,
        THREADS,
        load={"users": 14},
    ),
    HiddenFault(
        "threads-beside-readers",
        "own_threads",
        {"gcs_threads": 2},
        ("p95 < 9 s",),
        OWN_CURE,
        THREADS,
        load={"users": 10, "mix": {"upload": "80 %", "progress": "20 %"}},
    ),
    HiddenFault(
        "threads-shared-with-audio",
        "audio_threads",
        {"gcs_call": "audio_pool", "audio_threads": 3},
        ("p95 < 9 s",),
        {"audio_threads": 30},
        "Uploads share the few threads that convert audio.",
        load={"users": 12},
        also=("own_threads",),
    ),
    # The default executor.
    HiddenFault(
        "default-executor",
        "default_executor",
        {"gcs_call": "to_thread"},
        ("p95 < 8 s",),
        TO_EXECUTOR,
        EXECUTOR,
        load={"users": 16},
    ),
    HiddenFault(
        "default-executor-of-many",
        "default_executor",
        {"gcs_call": "to_thread"},
        ("p95 < 10 s",),
        TO_EXECUTOR,
        EXECUTOR,
        load={"users": 24},
    ),
    HiddenFault(
        "two-default-executors",
        "default_executor",
        {**EVEN, "gcs_call": "to_thread"},
        ("p95 < 8 s",),
        TO_EXECUTOR,
        EXECUTOR,
        load={"users": 34},
    ),
    # The event loop.
    HiddenFault(
        "blocking-call",
        "event_loop",
        {"gcs_call": "blocking"},
        ("p95 < 12 s",),
        TO_EXECUTOR,
        LOOP,
        load={"window": "120 s"},
    ),
    HiddenFault(
        "blocking-call-of-four-workers",
        "event_loop",
        {"gcs_call": "blocking", "workers": 4, "balance": "least_conn"},
        ("p95 < 7 s",),
        TO_EXECUTOR,
        LOOP,
        load={"users": 14, "window": "90 s"},
    ),
    HiddenFault(
        "blocking-call-beside-readers",
        "event_loop",
        {"gcs_call": "blocking"},
        ("p95(progress) < 1 s",),
        TO_EXECUTOR,
        "Who only reads waits behind uploads: their call to storage stands in the loop.",
        load={"users": 6, "window": "150 s", "mix": {"upload": "40 %", "progress": "60 %"}},
    ),
    HiddenFault(
        "blocking-queries",
        "event_loop",
        {"db_call": "blocking", "db_rtt": "100 ms"},
        ("p95 < 9 s",),
        {"db_call": "threadpool"},
        "Every query stands in the event loop for its round trips, and the database is far.",
        load={"users": 16},
    ),
    # anyio's threads.
    HiddenFault(
        "two-anyio-threads",
        "anyio_threads",
        {**FAR, "anyio_threads": 2},
        ("p95 < 8 s",),
        {"anyio_threads": 40},
        ANYIO,
        load={"users": 16},
    ),
    HiddenFault(
        "three-anyio-threads",
        "anyio_threads",
        {**FAR, "anyio_threads": 3},
        ("p95 < 8 s",),
        {"anyio_threads": 40},
        ANYIO,
        load={"users": 26},
    ),
    # The pool.
    HiddenFault("pool-of-two", "pool", {**HELD, "pool_size": 2}, ("p95 < 12 s",), RELEASE, POOL),
    HiddenFault(
        "pool-of-five",
        "pool",
        {**HELD, "pool_size": 5},
        ("p95 < 10 s",),
        RELEASE,
        POOL,
        load={"users": 20},
    ),
    HiddenFault(
        "pool-that-gives-up",
        "pool",
        {"db_session": "hold", "pool_size": 2, "max_overflow": 1, "pool_timeout": "5 s"},
        FAILS,
        RELEASE,
        POOL,
        load={"users": 12, **CALM},
    ),
    HiddenFault(
        "pool-that-freezes-the-loop",
        "pool",
        {"db_call": "blocking", "db_session": "hold", "pool_size": 3, "max_overflow": 0},
        FAILS,
        RELEASE,
        "The pool is empty, and who waits for it stands in the loop, so nobody gives one back.",
        load={"users": 8, "window": "120 s", **CALM},
        also=("event_loop",),
    ),
    # The database's slots.
    HiddenFault(
        "database-of-five",
        "database_slots",
        {"db_session": "hold", "db_cap": 5},
        FAILS,
        RELEASE,
        SLOTS,
        load=CALM,
    ),
    HiddenFault(
        "two-pools-in-one-database",
        "database_slots",
        {**EVEN, "db_session": "hold", "db_cap": 12},
        FAILS,
        RELEASE,
        SLOTS,
        load={"users": 20, **CALM},
    ),
    # What is refused for its size.
    HiddenFault(
        "large-files",
        "body_limit",
        {},
        FAILS,
        {"nginx_body": "8 MiB"},
        BODY,
        load={"audio": "1.5 MB", **CALM},
    ),
    HiddenFault(
        "some-large-files",
        "body_limit",
        {},
        FAILS,
        {"nginx_body": "8 MiB"},
        BODY,
        load={"audio": "100 KB - 2 MB", **CALM},
    ),
    HiddenFault(
        "body-limit-of-the-service",
        "body_limit",
        {"nginx_body": "8 MiB", "backend_body": "400 KB"},
        FAILS,
        {"backend_body": "off"},
        BODY,
        load={"audio": "200 KB - 900 KB", **CALM},
    ),
    # What is refused for its rate.
    HiddenFault(
        "three-a-minute",
        "rate_limit",
        {"upload_rate_limit": "3/min"},
        FAILS,
        {"upload_rate_limit": "60/min"},
        RATE,
        load=CALM,
    ),
    HiddenFault(
        "ten-a-minute",
        "rate_limit",
        {"upload_rate_limit": "10/min"},
        FAILS,
        {"upload_rate_limit": "60/min"},
        RATE,
        load={"users": 6, "warmup": "60 s", "window": "90 s", **CALM},
    ),
    HiddenFault(
        "one-address",
        "rate_limit",
        {"global_rate_limit": "60/min"},
        FAILS,
        {"global_rate_limit": "off"},
        "The global limit counts all users as one address: that of the proxy before them.",
        load={"users": 10, "warmup": "40 s", **CALM},
    ),
    # Who gives up.
    HiddenFault(
        "impatient-proxy",
        "proxy_timeout",
        {"nginx_read_timeout": "5 s", "gcs_latency": "6 s - 8 s"},
        FAILS,
        {"nginx_read_timeout": "60 s"},
        PROXY,
    ),
    HiddenFault(
        "nearly-patient-proxy",
        "proxy_timeout",
        {"nginx_read_timeout": "4 s", "gcs_latency": "3 s - 6 s"},
        FAILS,
        {"nginx_read_timeout": "60 s"},
        PROXY,
        load=CALM,
    ),
    # Who is not let in.
    HiddenFault(
        "three-at-once",
        "backpressure",
        {"max_inflight_uploads": 3},
        FAILS,
        {"max_inflight_uploads": 40},
        PRESSURE,
        load=CALM,
    ),
    HiddenFault(
        "two-at-once-in-two-workers",
        "backpressure",
        {**EVEN, "max_inflight_uploads": 2},
        FAILS,
        {"max_inflight_uploads": 40},
        PRESSURE,
        load={"users": 10, **CALM},
    ),
    HiddenFault(
        "proxy-of-few-connections",
        "nginx_connections",
        {"nginx_connections": 64, "gcs_threads": 60},
        FAILS,
        {"nginx_connections": 1024},
        "An upload takes two of nginx's connections, and it has too few for so many at once.",
        load={"users": 44, **CALM},
    ),
    # The speech service.
    HiddenFault(
        "two-speech-threads",
        "speech_threads",
        {"speech_threads": 2},
        ("p95(assess) < 8 s",),
        {"speech_threads": 20},
        SPEAKS,
        load={"users": 10, "mix": {"assess": "100 %"}},
        faults=SPEECH,
    ),
    HiddenFault(
        "four-speech-threads",
        "speech_threads",
        {"speech_threads": 4},
        ("p95(assess) < 8 s",),
        {"speech_threads": 30},
        SPEAKS,
        load={"users": 20, "mix": {"assess": "100 %"}},
        faults=SPEECH,
    ),
    # Cloud Run.
    HiddenFault(
        "one-place",
        "instance_queue",
        {},
        ("errors.no_instance == 0",),
        STAGING,
        QUEUE,
        load={"burst": 14, "audio": "50 KB", "timeout": "45 s"},
        target="cloudrun",
    ),
    HiddenFault(
        "two-places",
        "instance_queue",
        {"cloudrun_max_instances": 2},
        ("errors.no_instance == 0",),
        STAGING,
        QUEUE,
        load={"burst": 20, "audio": "50 KB", "timeout": "45 s"},
        target="cloudrun",
    ),
    HiddenFault(
        "three-pools-in-one-database",
        "database_slots",
        {**STAGING, "cloudrun_max_instances": 3, "db_session": "hold"},
        ("errors.db_refused == 0",),
        RELEASE,
        SLOTS,
        load={"users": 60, "ramp": "5 s", "warmup": "5 s", "window": "30 s", **CALM},
        target="cloudrun",
    ),
)
"""Every row; a seed draws one of them."""
