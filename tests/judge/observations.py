"""Observations made by hand: a cell at rest, in which everything is as it should be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from lab.model.causes import Cause
from lab.model.cell import Cell
from lab.model.fault import Fault
from lab.model.observation import (
    Audit,
    DatabaseReading,
    Evidence,
    Injected,
    LoadDone,
    MachineReading,
    Observation,
    Sample,
    Strike,
    WorkerReading,
)

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
    "backend-kill": {"part": "backend", "strike": "kill", "at": "10 s", "for": "5 s"},
    "db-restart": {"part": "postgres", "strike": "restart", "at": "20 s", "for": "0 s"},
}


def fault(name: str) -> Fault:
    return Fault.model_validate({"fault": name, "about": "x"} | FAULTS[name])


def cell(
    *criteria: str,
    load: dict[str, Any] | None = None,
    faults: Sequence[str] = (),
    **settings: Any,
) -> Cell:
    return Cell.model_validate(
        {
            "id": "a",
            "axes": {},
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


def worker(t: float, pid: int = 1, **values: Any) -> WorkerReading:
    fields = set(WorkerReading.model_fields) - {"kind", "t", "pid"}
    return WorkerReading.model_validate(dict.fromkeys(fields, 0) | {"t": t, "pid": pid} | values)


def machine(t: float, share: float = 0.3, **cpu: float) -> MachineReading:
    return MachineReading(
        t=t,
        wall_s=t,
        cpu_share=share,
        cpu_s=cpu,
        memory={"backend": 100},
        throttled_s={"backend": t / 100},
    )


def audit(**values: Any) -> Audit:
    fields = {"t": 90.0, "rows": 0, "objects": 0, "lost": [], "orphans": [], "refused": 0}
    return Audit.model_validate(fields | values)


def armed(of: Cell) -> list[Injected]:
    """What Toxiproxy reads back when it has done as it was told."""
    return [
        Injected(
            t=0,
            proxy=one.proxy,
            enabled=not one.down,
            toxics=[toxic.model_dump(exclude={"proxy"}) for toxic in one.armed(of.knobs)],
        )
        for one in of.faults
        if one.proxy
    ]


def strike(t: float = 25.0, until: float | None = 31.5, **more: Any) -> Strike:
    """The backend killed as ``backend-kill`` plans it, 10 s into the window."""
    fields = {"fault": "backend-kill", "part": "backend", "action": "kill", "t": t, "until": until}
    return Strike.model_validate(fields | more)


def at_rest() -> list[Evidence]:
    """All the evidence that a sound trial leaves."""
    return [
        *(worker(t, cpu_s=t / 20, checked_out=2) for t in (15.0, 45.0, 75.0)),
        *(machine(t, generator=t / 10, backend=t / 20) for t in (15.0, 45.0, 75.0)),
        DatabaseReading(t=30, connections=10),
        LoadDone(t=80, window=WINDOW, generator_exit=0),
        audit(),
    ]


def observation(
    uploads: Iterable[Sample] = (), evidence: Iterable[Evidence] | None = None
) -> Observation:
    return Observation(
        samples=tuple(uploads), evidence=tuple(at_rest() if evidence is None else evidence)
    )
