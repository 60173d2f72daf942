"""How a resource is given more than it had, and nothing else is changed: proof by intervention.

A limit that is one gives way when there is more of it; what only looks full does not. Each rule of
the bottleneck (`lab.judge.bottleneck`) names the relaxation of its resource, from those below.

A relaxation sets knobs of a cell. Where its resource cannot be had alone, it takes back what comes
with it: twice the workers have half the threads and half the pool each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

from lab.model.experiment import Cell
from lab.model.journeys import Journey
from lab.model.knobs import Knobs, default_executor_threads
from lab.model.units import Span, format_size

Settings = dict[str, Any]
"""Knobs, as a spec writes them."""

Change = Callable[[Cell], Settings | None]
"""What a cell's knobs become; None where it has nothing of the kind to be given more of."""


@dataclass(frozen=True)
class Relaxation:
    """More of one resource.

    Args:
        text: what is done, in words: ``twice the threads``.
        change: the knobs that do it.
        real: whether who runs the service could do it. Nobody moves storage nearer, or has the
            database grant more than it was bought with.
        instead: what an operator does where the relaxation is not real: the same limit, lived with.
        serves: whether it makes each upload's own work shorter, so that whatever uploads queue for
            comes free sooner: it proves nothing of another limit.
    """

    text: str
    change: Change
    real: bool = True
    serves: bool = False
    instead: Change | None = None

    @property
    def remedy(self) -> Change | None:
        """What an operator can do; None where that is nothing."""
        return self.change if self.real else self.instead


def doubled(text: str, *names: str) -> Relaxation:
    """Twice of each of these counts; one that is unlimited, or 0, stays."""

    def change(cell: Cell) -> Settings | None:
        had = {name: getattr(cell.knobs, name) for name in names}
        return {name: 2 * count for name, count in had.items() if count} or None

    return Relaxation(text, change)


def switched(text: str, **settings: str) -> Relaxation:
    """Each of these knobs at the value that has no limit; None where all have it already."""

    def change(cell: Cell) -> Settings | None:
        text_of = cell.knobs.as_text()
        return {name: v for name, v in settings.items() if text_of[name] != v} or None

    return Relaxation(text, change)


def halved(text: str, name: str) -> Relaxation:
    """Half of a time that a service takes."""

    def change(cell: Cell) -> Settings | None:
        took: Span = getattr(cell.knobs, name)
        if not took.high:
            return None
        return {name: str(Span(low=took.low / 2, high=took.high / 2))}

    return Relaxation(text, change, real=False, serves=True)


def _loop(cell: Cell) -> Settings | None:
    """Every blocking call out of the event loop, into as many threads as there are users; where
    none blocks, twice the loops."""
    knobs, enough = cell.knobs, min(256, max(1, cell.load.peak_users))
    freed: Settings = {}
    if knobs.gcs_call == "blocking" and Journey.UPLOAD in cell.load.shares:
        freed |= {"gcs_call": "executor", "gcs_threads": enough}
    if knobs.db_call == "blocking":
        threads = max(enough, knobs.anyio_threads)
        freed |= {"db_call": "threadpool", "anyio_threads": threads}
    if knobs.convert_call == "blocking" and Journey.CONVERT in cell.load.shares:
        freed |= {"convert_call": "audio_pool"}
    return freed or _twice_the_workers(cell)


def _twice_the_workers(cell: Cell) -> Settings:
    """Two workers for each, with half of what each had."""
    knobs, name = cell.knobs, "workers" if cell.target == "vm" else "cloudrun_workers"
    halves = ("gcs_threads", "audio_threads", "speech_threads", "pool_size", "max_overflow")
    had = {half: getattr(knobs, half) for half in halves}
    return {
        name: 2 * getattr(knobs, name),
        **{half: ceil(count / 2) for half, count in had.items() if count},
    }


def _own_threads(cell: Cell) -> Settings | None:
    names = {"executor": "gcs_threads", "audio_pool": "audio_threads"}
    name = names.get(cell.knobs.gcs_call)
    return {name: 2 * getattr(cell.knobs, name)} if name else None


def _executor(cell: Cell) -> Settings | None:
    """The default executor's size follows from the cores, so its double is a pool of its own."""
    knobs = cell.knobs
    if knobs.gcs_call != "to_thread":
        return None
    cores = knobs.vm_cpus if cell.target == "vm" else knobs.instance_cores
    return {"gcs_call": "executor", "gcs_threads": 2 * default_executor_threads(cores)}


def _pool(cell: Cell) -> Settings | None:
    knobs = cell.knobs
    if knobs.pool_class != "QueuePool" or knobs.max_overflow is None:
        return None
    return {"pool_size": 2 * knobs.pool_size, "max_overflow": 2 * knobs.max_overflow}


def _memory(cell: Cell) -> Settings | None:
    name = "vm_memory" if cell.target == "vm" else "cloudrun_memory"
    limit = getattr(cell.knobs, name)
    return {name: format_size(2 * limit)} if limit else None


def _cpu(cell: Cell) -> Settings:
    name = "vm_cpus" if cell.target == "vm" else "cloudrun_cpus"
    return {name: 2 * getattr(cell.knobs, name)}


def _split(cell: Cell) -> Settings | None:
    knobs = cell.knobs
    even = cell.target == "vm" and knobs.workers > 1 and knobs.balance != "least_conn"
    return {"balance": "least_conn"} if even else None


def _instances(cell: Cell) -> Settings | None:
    instances = 2 * cell.knobs.cloudrun_max_instances
    return {"cloudrun_max_instances": instances} if cell.target == "cloudrun" else None


def _of_vm(relaxation: Relaxation) -> Relaxation:
    """The same where the target is the VM."""

    def change(cell: Cell) -> Settings | None:
        return relaxation.change(cell) if cell.target == "vm" else None

    return Relaxation(relaxation.text, change, relaxation.real, relaxation.serves)


def _cap(cell: Cell) -> Settings:
    return {"db_cap": 2 * cell.knobs.db_cap}


def _within_cap(cell: Cell) -> Settings | None:
    """Pools that together have no more connections than Postgres grants."""
    knobs = cell.knobs
    processes = knobs.workers
    if cell.target == "cloudrun":
        processes = knobs.cloudrun_max_instances * knobs.cloudrun_workers
    each = knobs.db_cap // processes
    return {"pool_size": each, "max_overflow": 0} if each else None


MORE_SLOTS = Relaxation("twice the connections of Postgres", _cap, real=False, instead=_within_cap)
FREE_LOOP = Relaxation("no blocking call in the event loop, or twice the loops", _loop)
MORE_THREADS = Relaxation("twice the threads", _own_threads)
MORE_EXECUTOR = Relaxation(
    "twice the default executor's threads, as a pool of their own", _executor
)
LARGER_POOL = Relaxation("twice the pool", _pool)
MORE_MEMORY = Relaxation("twice the memory", _memory)
MORE_CPU = Relaxation("twice the CPU", _cpu)
EVEN_SPLIT = Relaxation("uploads shared evenly among the workers", _split)
MORE_INSTANCES = Relaxation("twice the instances", _instances)
NO_BODY_LIMIT = switched("no limit of the body", nginx_body="off", backend_body="off")
NO_TIMEOUT = _of_vm(switched("nginx waits as long as it takes", nginx_read_timeout="off"))
NO_RATE_LIMIT = switched("no rate limit", global_rate_limit="off", upload_rate_limit="off")
NO_BACKPRESSURE = switched("every upload is taken in", max_inflight_uploads="off")
NO_LEAK = switched("nothing leaks", leak="off")
NO_PROBE = switched("nobody probes the health", health_probe="off")
NEARER_STORAGE = halved("storage half as far", "gcs_latency")
NEARER_DATABASE = halved("the database half as far", "db_rtt")
NEARER_SPEECH = halved("the speech service half as far", "speech_latency")


TOGETHER = (
    ("gcs_call", "gcs_threads"),
    ("db_call", "anyio_threads"),
    ("pool_size", "max_overflow"),
)
"""Knobs that say nothing without each other: one change, to who decides on it."""


def grouped(settings: Mapping[str, Any]) -> list[Settings]:
    """Settings as changes of which each can be taken back alone, in their order."""
    groups: dict[tuple[str, ...], Settings] = {}
    for name, value in settings.items():
        key = next((names for names in TOGETHER if name in names), (name,))
        groups.setdefault(key, {})[name] = value
    return list(groups.values())


def differing(knobs: Knobs, settings: Mapping[str, Any]) -> Settings:
    """Those of the settings that change something, as a spec writes them.

    Raises:
        pydantic.ValidationError: a value out of bounds.
    """
    before, after = knobs.as_text(), knobs.with_settings(settings).as_text()
    return {name: after[name] for name in settings if after[name] != before[name]}
