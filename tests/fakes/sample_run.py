"""A realistic run to test with: 12 cells, workers x pool x db_session, with all four outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

from lab.model.criterion import Criterion
from lab.model.evidence import Audit, Cause, Evidence, LoadDone, Sample
from lab.model.experiment import DEFAULT_FAULTS, Cell, Experiment
from lab.model.fault import Fault, KnobRef, Latency
from lab.model.knobs import Knobs
from lab.model.load import ClosedLoad
from lab.model.physics import pool_connections
from lab.model.readings import DatabaseReading
from lab.model.run import RunRequest, Summary
from lab.model.verdict import Check, Finding, Invalidity, Outcome, Verdict
from lab.store import RunFolder

STARTED = datetime(2026, 11, 24, 8, 15, tzinfo=UTC)
POOLS = {"5+5": (5, 5), "10+10": (10, 10)}
LOAD = ClosedLoad(users=50)  # ramp 5 s, warm-up 10 s, window 60 s: the defaults
CRITERIA = (Criterion.parse("p95 < 10 s"), Criterion.parse("error_rate < 5 %"))

EXPERIMENT = Experiment.model_validate(
    {
        "experiment": "workers-x-pool",
        "about": "which worker and pool sizes carry a class of 50?",
        "knobs": {"gcs_call": "executor", "speed": 5},
        "matrix": {
            "workers": [1, 2, 4],
            "pool": {
                name: {"pool_size": size, "max_overflow": over}
                for name, (size, over) in POOLS.items()
            },
            "db_session": ["hold", "release"],
        },
        "load": LOAD.model_dump(mode="json"),
        "faults": list(DEFAULT_FAULTS),
    }
)


def fault() -> Fault:
    toxic = Latency(type="latency", delay=KnobRef(knob="gcs_latency"))
    return Fault(fault="gcs-latency", about="storage is far", proxy="gcs", toxics=(toxic,))


def cell(workers: int, pool: str, session: str, seed: int = 1) -> Cell:
    axes = {"workers": str(workers), "pool": pool, "db_session": session}
    size, overflow = POOLS[pool]
    settings = {
        "gcs_call": "executor",
        "workers": workers,
        "pool_size": size,
        "max_overflow": overflow,
        "db_session": session,
        "speed": 5,
    }
    return Cell(
        id=",".join(f"{name}={value}" for name, value in axes.items()),
        axes=axes,
        knobs=Knobs().with_settings(settings),
        load=LOAD,
        faults=(fault(),),
        criteria=CRITERIA,
        seed=seed,
    )


def cells() -> tuple[Cell, ...]:
    return tuple(cell(*values) for values in product((1, 2, 4), POOLS, ("hold", "release")))


def create(
    results: Path, of: Sequence[Cell] | None = None, max_users: int | None = None
) -> RunFolder:
    request = RunRequest(
        kind="run" if max_users is None else "threshold",
        started=STARTED,
        spec_file="experiments/workers-x-pool.yaml",
        experiment=EXPERIMENT,
        stack="embedded",
        stack_reason="no container engine answers",
        speed=5.0,
        versions={"lab": "0.1.0", "nginx": "1.31.3", "postgres": "18.6"},
        machine={"cpus": "2", "memory": "7.7 GiB", "python": "3.11.2"},
        git="6b46b3d+",
        arguments=("run", "experiments/workers-x-pool.yaml"),
        max_users=max_users,
    )
    return RunFolder.create(results, cells() if of is None else of, request)


def read_summary(run: RunFolder) -> Summary:
    """``summary.json`` as it was last written."""
    return Summary.model_validate_json((run.path / "summary.json").read_text())


def samples(count: int = 20) -> list[Sample]:
    return [
        Sample(
            planned_at=15.0 + number,
            sent_at=15.001 + number,
            latency_s=3.7,
            status=200,
            error=None,
            bytes=200_000,
            user=number,
            stages={"auth": 0.05, "gcs": 3.5, "write": 0.1},
            recording=f"recording-{number}",
        )
        for number in range(count)
    ]


def evidence() -> list[Evidence]:
    audit = Audit(kind="audit", t=90.0, rows=20, objects=20, lost=[], orphans=[], refused=0)
    return [
        DatabaseReading(t=1.0, connections=12),
        LoadDone(t=75.0, window=(15.0, 75.0), generator_exit=0),
        audit,
    ]


def _metrics(of: Cell) -> tuple[dict[str, float], Cause | None]:
    """Figures as such a cell gives them: held sessions stall, too many connections are refused."""
    workers, size = of.knobs.workers, pool_connections(of.knobs)
    hold, demand = of.knobs.db_session == "hold", workers * size
    cause = Cause.DB_REFUSED if hold and demand > 25 else Cause.POOL_TIMEOUT if hold else None
    rate = 0.7 * workers if hold else min(5.2 * workers, 13.13)
    p50 = 18.4 / workers if hold else max(50 / rate, 3.66)
    attempts = round(rate * 60 * (2 if cause else 1))
    failed = attempts // 2 if cause else attempts // 300
    metrics = {
        "attempts": float(attempts),
        "succeeded": float(attempts - failed),
        "error_rate": failed / attempts,
        "throughput": (attempts - failed) / 60,
        "p50": p50,
        "p95": p50 * 1.52,
        "p99": p50 * 1.83,
        "p95_all": p50 * 1.6,
        f"errors.{cause or Cause.CLIENT_TIMEOUT}": float(failed),
        "auth": 0.0502,
        "write": 0.1013,
        "gcs_latency": 3.512,
        "pg_connections": float(min(demand, 25)),
        "threads_busy": 20.0 * workers,
        "loop_lag": 0.0034,
        "cpu_backend": 0.61,
        "cpu_generator": 0.235,
        "cpu_machine": 0.58,
        "rss_backend": 98.4e6 * workers,
        "net_to_gcs": rate * 200_000,
        "orphans": 3.0 if hold else 0.0,
        "lost": 0.0,
    }
    return metrics, cause


def verdict(of: Cell) -> Verdict:
    metrics, cause = _metrics(of)
    p95, errors = metrics["p95"], metrics["error_rate"]
    findings = (
        Finding(
            criterion="p95 < 10 s",
            outcome="met" if p95 < 10 else "missed",
            value=p95,
            low=p95 * 0.96,
            high=p95 * 1.05,
            reason=f"p95 is {p95:.3g} s, {'under' if p95 < 10 else 'not under'} 10 s",
        ),
        Finding(
            criterion="error_rate < 5 %",
            outcome="missed" if cause else "met",
            value=errors,
            low=errors * 0.9,
            high=errors * 1.2,
            reason=f"{errors:.1%} of {metrics['attempts']:.0f} uploads failed",
        ),
    )
    missed = [finding.reason for finding in findings if finding.outcome == "missed"]
    outcome = Outcome.BROKE if missed else Outcome.HELD
    reasons = tuple(missed) or ("every criterion is met: p95 < 10 s, error_rate < 5 %",)
    if of.axes == {"workers": "4", "pool": "5+5", "db_session": "release"}:
        outcome = Outcome.UNDECIDED
        reasons = ("error_rate < 5 %: 41 uploads are too few; 59 without a failure would show it",)
    if of.axes == {"workers": "4", "pool": "10+10", "db_session": "release"}:
        outcome = Outcome.INVALID
        reasons = ("the generator used 0.94 of its core; it sent late, so the figures are its own",)
    checks = (
        Check(
            name="gcs latency, mean",
            expected="3.5 s +/- 2 %",
            measured=3.512,
            ok=True,
            reason="0.3 % off over 1,204 uploads",
        ),
        Check(
            name="connections granted",
            expected="25",
            measured=None,
            ok=None,
            reason="demand stayed under the cap, so it was not tried",
        ),
    )
    return Verdict(
        cell=of.id,
        outcome=outcome,
        reasons=reasons,
        metrics=metrics,
        findings=findings,
        injected=checks,
    )


def disturbed(of: Cell, reason: str = "this machine was busy") -> Verdict:
    """A verdict on an attempt that another may follow."""
    told = {"outcome": Outcome.INVALID, "reasons": (reason,)}
    found = Invalidity(kind="machine", reason=reason, fitting=2.5)
    return verdict(of).model_copy(update={**told, "invalid": (found,)})


def measure(run: RunFolder, of: Cell, said: Verdict | None = None) -> None:
    """Write a cell as the lab does, from its first to its last file; its usual verdict, or this."""
    folder = run.begin(of)
    with folder.samples.open("w") as file:
        file.writelines(sample.model_dump_json() + "\n" for sample in samples())
    with (folder.logs / "nginx.log").open("w") as log:
        log.write(f"log of an attempt at speed {of.knobs.speed:g}\n")
    folder.write_evidence(evidence())
    folder.finish(said or verdict(of))
    run.write_summary()


def measure_again(run: RunFolder, of: Cell, said: Verdict | None = None) -> None:
    """Keep what is stored of a cell that is invalid, and measure it again, as the lab does."""
    run.cell(of.id).keep_attempt()
    measure(run, of, said)


def stored(results: Path, finished: int = 12) -> RunFolder:
    """A run with its first cells finished."""
    run = create(results)
    for cell in run.cells()[:finished]:
        measure(run, cell)
    run.write_summary()
    return run
