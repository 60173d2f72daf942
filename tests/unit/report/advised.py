"""Runs of the report's advice made by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from lab.judge.comparison import compared
from lab.model.run import CellResult, Summary
from lab.model.verdict import Bottleneck, Outcome, Resource, Spread
from tests.unit.report.results import Decision, limited, result, summary

KNOWN = Spread(error=0.02, batches=10)
BASELINE = "case=as-found"
LOAD = {"users": 50, "ramp": "0 s", "warmup": "0 s", "window": "90 s"}
LOOP = limited(Resource.EVENT_LOOP, "event loop busy 99 %")
THREADS = limited(Resource.DEFAULT_EXECUTOR, "6 of 6 threads busy")


def cell(
    label: str,
    rate: float,
    p95: float,
    failed: float,
    limit: Bottleneck | None = None,
    target: Literal["vm", "cloudrun"] = "vm",
    more: Mapping[str, float] | None = None,
    **knobs: Any,
) -> CellResult:
    """A cell of the axis ``advice``, with its figures known to 2 %."""
    findings: dict[str, Decision] = {
        "p95 < 10 s": "met" if p95 < 10 else "missed",
        "error_rate < 5 %": "met" if failed < 0.05 else "missed",
    }
    broke = "missed" in findings.values()
    figures = {"throughput": rate, "p95": p95, "error_rate": failed, "attempts": 400.0}
    made = result(
        label,
        Outcome.BROKE if broke else Outcome.HELD,
        figures | dict(more or {}),
        findings,
        load=LOAD,
        limit=limit,
        axes={"advice": label},
        target=target,
        **knobs,
    )
    share = Spread(error=0.01, batches=10, effective=400.0)
    spreads = {"throughput": KNOWN, "p95": KNOWN, "error_rate": share}
    return made.model_copy(
        update={"spreads": spreads, "baseline": "" if label == "as-found" else BASELINE}
    )


LIMITS: dict[str, Any] = {"upload_rate_limit": "10/min", "nginx": "recommended"}
WHOLE: dict[str, Any] = {"gcs_call": "to_thread", "workers": 4, "pool_size": 15, "max_overflow": 15}
CUT = {"errors.gateway_timeout": 300.0}
NOBODY = {"errors.rate_limited": 0.0, "attempt_rate": 5.5}


def on_the_vm() -> Summary:
    """to_thread and workers carry it, the read timeout harms, the pool does nothing."""
    late = CUT | {"capacity": 0.27}
    pushed = {"capacity": 0.27, "errors.overloaded": 90.0}
    every = WHOLE | LIMITS
    loop, small = every | {"gcs_call": "blocking"}, every | {"pool_size": 10, "max_overflow": 10}
    refused = {"pg_connections": 25.0, "errors.db_refused": 12.0}
    timeout: dict[str, Any] = {"nginx_read_timeout": "30 s"}
    pressure: dict[str, Any] = {"max_inflight_uploads": 20}
    cells = (
        cell("as-found", 0.2, 58, 0.5, LOOP, more={"errors.gateway_timeout": 150.0}),
        cell("read-timeout", 0.1, 58, 0.75, LOOP, more=late, **timeout),
        cell("rate-limit", 0.2, 58, 0.5, LOOP, more=NOBODY, upload_rate_limit="10/min"),
        cell("to_thread", 1.6, 31, 0.16, THREADS, gcs_call="to_thread"),
        cell("pool-15+15", 0.201, 58, 0.5, LOOP, pool_size=15, max_overflow=15),
        cell("backpressure", 0.2, 58, 0.5, LOOP, more=pushed, **pressure),
        cell("all", 6.0, 9, 0.01, more=NOBODY | refused, **every),
        cell("all-but-to_thread", 1.0, 40, 0.3, LOOP, more=CUT, **loop),
        cell("all-but-pool-15+15", 6.02, 9, 0.01, **small),
        cell("all-but-rate-limit", 7.0, 8, 0.01, **WHOLE, nginx="recommended"),
    )
    return compared(summary(*cells))


def on_cloud_run() -> Summary:
    """One request at a time, whatever is advised."""
    spared = {"memory_instance": 120e6, "oom_kills": 0.0}
    cells = (
        cell("as-found", 0.26, 14, 0.8, target="cloudrun", more=spared),
        cell("memory-512-MiB", 0.26, 14, 0.8, target="cloudrun", cloudrun_memory="512 MiB"),
        cell("to_thread", 0.262, 14, 0.8, target="cloudrun", gcs_call="to_thread"),
    )
    return compared(summary(*cells))
