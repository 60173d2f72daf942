"""Stored runs in which every picture of a report has something to show, made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from math import sin
from pathlib import Path

from lab.model.distribution import Latencies, TimeSpent
from lab.model.experiment import Cell
from lab.model.verdict import (
    Bottleneck,
    Candidate,
    Crossing,
    Outcome,
    Resource,
    Series,
    StageResult,
    Timeline,
    Verdict,
)
from lab.store import RunFolder
from tests.fakes import sample_run

BINS = 90


def series(bins: int = BINS, workers: int = 1) -> Series:
    """A load that rises and stays, and threads that fill up on the way."""
    rise = [min(1.0, (index + 1) / 20) for index in range(bins)]
    wave = [1 + sin(index / 3) / 5 for index in range(bins)]
    counts = [round(50 * share) for share in rise]
    return Series(
        start=0.0,
        bin_s=1.0,
        window_s=5.0,
        users=counts,
        sent=[round(5 * share * more, 3) for share, more in zip(rise, wave, strict=True)],
        answered=[round(4 * share * more, 3) for share, more in zip(rise, wave, strict=True)],
        errors=[0.0 if index < 40 else 0.5 for index in range(bins)],
        p95=[None, None, *(round(3 + 9 * share, 3) for share in rise[2:])],
        pg_connections=[round(12 * share) for share in rise],
        pool_checked_out=[round(9 * share) for share in rise],
        uploads_inflight=counts,
        cpu_backend=[round(0.6 * share, 3) for share in rise],
        rss_backend=[round(98.4e6 * workers + 1e5 * index) for index in range(bins)],
        loop_lag=[round(0.004 * more, 6) for more in wave],
        threads_busy=[min(20 * workers, round(30 * workers * share)) for share in rise],
        gcs_latency=[None, None, *(round(3.5 * more, 3) for more in wave[2:])],
        pg_active=[1] * bins,
        pg_idle=[round(11 * share) for share in rise],
        pg_in_transaction=[0] * bins,
        loop_busy=[round(0.4 * more, 3) for more in wave],
        anyio_busy=[0] * bins,
    )


def limit() -> Bottleneck:
    """The storage threads, and what was looked at beside them."""
    levels = {
        Resource.OWN_THREADS: 1.0,
        Resource.EVENT_LOOP: 0.42,
        Resource.POOL: 0.45,
        Resource.DATABASE_SLOTS: 0.48,
        Resource.NGINX_CONNECTIONS: 0.098,
        Resource.STORAGE: 0.31,
        Resource.CPU: 0.6,
        Resource.BODY_LIMIT: 0.0,
    }
    candidates = tuple(
        Candidate(
            resource=resource,
            level=level,
            at_limit=level >= 1,
            evidence=f"{resource} at {level:.0%}",
            waited=level if level >= 1 else 0.0,
        )
        for resource, level in levels.items()
    )
    return Bottleneck(
        resource=Resource.OWN_THREADS, evidence="storage threads 100 % busy", candidates=candidates
    )


def course(bins: int = BINS, workers: int = 1, *, staged: bool = False) -> Timeline:
    """The series, a crossing, and, of a load that has them, stages."""
    crossing = Crossing(
        criterion="p95 < 10 s", t=31.0, users=50, since=22.0, since_users=48, value=10.4, samples=20
    )
    stages = tuple(
        StageResult(
            index=index,
            users=users,
            start=index * 30.0,
            end=index * 30.0 + 30,
            outcome=Outcome.HELD if users < 50 else Outcome.BROKE,
            reasons=(),
            metrics={"throughput": users / 11, "p50": users / 9, "p95": users / 4, "error_rate": 0},
        )
        for index, users in enumerate((10, 30, 50))
    )
    return Timeline(
        stages=stages if staged else (), series=series(bins, workers), crossings=(crossing,)
    )


def verdict(of: Cell, bins: int = BINS, *, staged: bool = False) -> Verdict:
    """The usual verdict on a cell, with all that pictures are made of."""
    usual = sample_run.verdict(of)
    told = {
        "limit": limit() if usual.outcome is not Outcome.INVALID else None,
        "course": course(bins, of.knobs.workers, staged=staged),
        "time_spent": (
            TimeSpent(station="loop", mean=0.2, slow=0.4, failed=0.3),
            TimeSpent(station="threads", mean=2.1, slow=6.25, failed=9.7),
            TimeSpent(station="storage", mean=3.512, slow=4.4, failed=None),
            TimeSpent(station="database", mean=0.176, slow=0.2, failed=0.02),
        ),
        "latencies": Latencies(
            edges=[3.0, 3.3, 3.6, 3.9, 4.3, 4.7, 5.1],
            succeeded=[4, 18, 30, 22, 9, 2],
            failed=[0, 0, 1, 0, 0, 3],
        ),
    }
    return usual.model_copy(update=told)


def cells(count: int) -> tuple[Cell, ...]:
    """So many cells of three axes, as many as there may be of the first."""
    made = []
    for index in range(count):
        of = sample_run.cells()[index % 12]
        axes = {"round": str(index // 12), **of.axes} if count > 12 else of.axes
        named = ",".join(f"{name}={label}" for name, label in axes.items())
        made.append(of.model_copy(update={"id": named, "axes": axes}))
    return tuple(made)


def stored(
    results: Path, of: Sequence[Cell] | None = None, bins: int = BINS, *, staged: bool = False
) -> RunFolder:
    """A whole run of these cells, or of the usual twelve."""
    chosen = cells(12) if of is None else of
    run = sample_run.create(results, chosen)
    for cell in chosen:
        folder = run.begin(cell)
        folder.write_evidence(sample_run.evidence())
        folder.finish(verdict(cell, bins, staged=staged))
    run.write_summary()
    return run
