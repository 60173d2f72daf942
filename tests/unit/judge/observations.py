"""Observations made by hand: a cell at rest, in which everything is as it should be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from lab.judge.trial import Trial
from lab.model.evidence import (
    Audit,
    Cause,
    DatabaseReading,
    Evidence,
    GatewayReading,
    GatewayRequest,
    GatewayServing,
    Injected,
    InstanceEvent,
    LoadDone,
    MachineReading,
    Observation,
    ProcessFaultRecord,
    Sample,
    UploadRecord,
    WorkerReading,
)
from lab.model.experiment import Cell
from lab.model.fault import Fault
from lab.model.load import Window

WINDOW = (15.0, 75.0)
STAGES = {"pool_wait": 0.001, "auth": 0.05, "release": 0.025, "gcs_queue": 0.2, "gcs": 3.5}
STAGES |= {"pool_wait2": 0.002, "write": 0.1}

FAULTS: dict[str, dict[str, Any]] = {
    "gcs-latency": {
        "proxy": "gcs",
        "toxics": [{"type": "latency", "delay": {"knob": "gcs_latency"}}],
    },
    "db-distance": {"proxy": "db", "toxics": [{"type": "latency", "delay": {"knob": "db_rtt"}}]},
    "gcs-down": {"proxy": "gcs", "down": True},
    "speech-latency": {
        "proxy": "speech",
        "toxics": [{"type": "latency", "delay": {"knob": "speech_latency"}}],
    },
    "speech-slow": {"proxy": "speech", "toxics": [{"type": "latency", "delay": "8 s - 14 s"}]},
    "backend-kill": {"part": "backend", "strike": "kill", "at": "10 s", "for": "5 s"},
    "db-restart": {"part": "postgres", "strike": "restart", "at": "20 s", "for": "0 s"},
}


def fault(name: str) -> Fault:
    return Fault.model_validate({"fault": name, "about": "x"} | FAULTS[name])


def cell(
    *criteria: str,
    load: dict[str, Any] | None = None,
    faults: Sequence[str] = (),
    target: str = "vm",
    **settings: Any,
) -> Cell:
    return Cell.model_validate(
        {
            "id": "a",
            "axes": {},
            "target": target,
            "knobs": {"gcs_call": "executor"} | settings,
            "load": load or {"users": 5},
            "faults": [fault(name) for name in faults],
            "criteria": criteria or ("p95 < 10 s", "error_rate < 5 %"),
            "seed": 1,
        }
    )


def sample(
    sent: float = 20.0, latency: float = 4.0, error: Cause | None = None, **more: Any
) -> Sample:
    status = {None: 200, Cause.CLIENT_TIMEOUT: 0, Cause.CONNECTION: 0}.get(error, 503)
    values: dict[str, Any] = {
        "planned_at": sent,
        "sent_at": sent,
        "latency_s": latency,
        "status": status,
        "error": error,
        "bytes": 200_000,
        "user": 0,
    }
    return Sample.model_validate(values | more)


def samples(count: int, *, failed: int = 0, cause: Cause = Cause.POOL_TIMEOUT) -> list[Sample]:
    """That many uploads in the window, the first of them failed, with every stage as injected."""
    errors = [cause] * failed + [None] * (count - failed)
    return [
        sample(WINDOW[0] + 50 * i / count, 3.0 + i / count, error, stages={} if error else STAGES)
        for i, error in enumerate(errors)
    ]


def record(
    request: str,
    status: int | None = 200,
    cause: str | None = None,
    spans: Iterable[tuple[str, float, float]] = (),
    **more: Any,
) -> UploadRecord:
    """What a worker recorded of an upload: answered, if not said otherwise."""
    fields = {"t": 80.0, "worker": 1, "handed": None, "arrived": 20.0, "spans": list(spans)}
    values = {"request": request, "status": status, "cause": cause}
    return UploadRecord.model_validate(fields | values | more)


def cut_off(
    count: int, cause: Cause = Cause.GATEWAY_TIMEOUT, latency: float = 60.0
) -> list[Sample]:
    """That many uploads in the window that were cut off, named cut-0, cut-1 …, a second apart."""
    return [
        sample(WINDOW[0] + number, latency, cause, request=f"cut-{number}")
        for number in range(count)
    ]


def worker(t: float, pid: int = 1, **values: Any) -> WorkerReading:
    fields = set(WorkerReading.model_fields) - {"kind", "t", "pid", "instance", "inside"}
    return WorkerReading.model_validate(dict.fromkeys(fields, 0) | {"t": t, "pid": pid} | values)


def machine(t: float, share: float = 0.3, **cpu: float) -> MachineReading:
    return MachineReading(t=t, wall_s=t, cpu_share=share, cpu_s=cpu)


def container(t: float, memory: int, throttled_s: float) -> MachineReading:
    """As `machine`, where an engine reads the backend's container too."""
    own = {"memory": {"backend": memory}, "throttled_s": {"backend": throttled_s}}
    return machine(t, generator=t / 10).model_copy(update=own)


def audit(**values: Any) -> Audit:
    fields: dict[str, Any] = {"t": 90.0, "rows": 0, "objects": 0, "refused": 0}
    fields |= {"lost": [], "orphans": [], "unheard": []}
    return Audit.model_validate(fields | values)


def armed(of: Cell) -> list[Injected]:
    """What Toxiproxy reads back when it has done as it was told."""
    return [
        Injected(
            t=0,
            proxy=one.proxy,
            enabled=not one.down,
            toxics=[toxic.model_dump(exclude={"proxy"}) for toxic in one.to_toxics(of.knobs)],
        )
        for one in of.faults
        if one.proxy
    ]


def strike(t: float = 25.0, until: float | None = 31.5, **more: Any) -> ProcessFaultRecord:
    """The backend killed as ``backend-kill`` plans it, 10 s into the window."""
    fields = {"fault": "backend-kill", "part": "backend", "action": "kill", "t": t, "until": until}
    return ProcessFaultRecord.model_validate(fields | more)


def at_rest() -> list[Evidence]:
    """All the evidence that a sound trial leaves."""
    return [
        *(worker(t, cpu_s=t / 20, checked_out=2) for t in (15.0, 45.0, 75.0)),
        *(container(t, memory=100, throttled_s=t / 100) for t in (15.0, 45.0, 75.0)),
        DatabaseReading(t=30, connections=10),
        record("one of the ramp", t=9.0, arrived=5.0),
        LoadDone(t=80, window=WINDOW, generator_exit=0),
        audit(),
    ]


def observation(
    uploads: Iterable[Sample] = (), evidence: Iterable[Evidence] | None = None
) -> Observation:
    return Observation(
        samples=tuple(uploads), evidence=tuple(at_rest() if evidence is None else evidence)
    )


MIB = 1024**2


def front(t: float, **values: int) -> GatewayReading:
    fields = dict.fromkeys(("queue", "in_flight", "starting", "ready", "stopping"), 0)
    return GatewayReading.model_validate(fields | {"t": t} | values)


def instance(t: float, event: str, **values: Any) -> InstanceEvent:
    return InstanceEvent.model_validate({"t": t, "event": event, "instance": "instance-1"} | values)


def request(t: float, event: str, **values: Any) -> GatewayRequest:
    named = {} if event == "refused" else {"instance": "instance-1"}
    return GatewayRequest.model_validate({"t": t, "event": event} | named | values)


def usage(t: float, cores: float = 0.2, peak: float = 90, **values: Any) -> InstanceEvent:
    """Running totals of an instance that began at 0 s, uses so many cores, and waits for half."""
    totals = {"cpu_s": t * cores, "throttled_s": t * cores / 2, "peak_bytes": peak * MIB}
    return instance(t, "usage", **totals | values)


def refused(sent: float = 0.0, **values: Any) -> Sample:
    """An upload that no instance took within 10 s."""
    fields = {"status": 429, "stages": {"queue": 10.0}, **values}
    return sample(sent, 10.0, Cause.NO_INSTANCE, **fields)


def one_instance() -> list[Evidence]:
    """What a front tells of a burst at rest: one instance from zero, one upload at a time.

    It listens after 2 s, serves three uploads of 4 s each, and refuses who has waited 10 s.
    """
    life = [
        instance(0.0, "starting"),
        instance(2.0, "ready", start_s=2.0, made_s=0.5),
        *(usage(float(t)) for t in range(15)),
    ]
    served = [
        line
        for t in (2.0, 6.0, 10.0)
        for line in (
            request(t, "request_start", waited=t, cold=2.0),
            request(t + 4, "request_end", took=4.0, how="answered"),
        )
    ]
    standing = [
        front(0.0, queue=1, starting=1),
        front(0.1, queue=5, starting=1),
        front(2.0, queue=4, in_flight=1, ready=1),
        front(14.0, ready=1),
    ]
    late = [request(10.0, "refused", took=10.0, cause="no_instance", status=429)] * 2
    up = GatewayServing(t=-3.0, driver="process", files_are_memory=True)
    return [up, *life, *served, *standing, *late]


def burst() -> list[Sample]:
    """The users' side of `one_instance`."""
    served = [
        sample(0.0, t + 4, stages={"queue": t, "cold": 2.0, **STAGES}) for t in (2.0, 6.0, 10.0)
    ]
    return [*served, refused(), refused()]


def on_cloudrun(*criteria: str, **settings: Any) -> Cell:
    return cell(*criteria, load={"burst": 5}, target="cloudrun", **settings)


def measured(of: Cell, metrics: dict[str, float], window: Window = WINDOW) -> Trial:
    """A trial of which nothing is known but its metrics, and the window that they are of."""
    trial = Trial(of, observation())
    vars(trial).update(metrics=metrics, window=window)
    return trial
