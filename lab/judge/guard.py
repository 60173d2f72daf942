"""Was it the replica that was measured, or the lab? Reasons for which a cell is invalid."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from lab.judge.lives import instance_reasons
from lab.judge.scaling import scaling
from lab.judge.strikes import prolonged
from lab.judge.window import window_of
from lab.model.causes import Cause
from lab.model.cell import Cell
from lab.model.observation import (
    Audit,
    Evidence,
    FrontReading,
    LoadDone,
    MachineReading,
    Observation,
    PartDown,
    WorkerReading,
)
from lab.model.verdict import Check

BUSY = 0.90
"""Of its one core, the generator's use from which it sends late; of all cores, the machine's."""

LATE_S = 0.25
LATE_SHARE = 0.01
"""How late a request may be sent, in real-world seconds: 0.25 s and 1 % of the median latency.

A user's cycle is at least one answer of storage, 3.5 s in the mean: a quarter second makes
the offered load 7 % less than the cell says, and beside a queue of a minute the 1 % keeps
the same figure from condemning what no longer matters.
"""


def guard(
    cell: Cell, observation: Observation, metrics: Mapping[str, float], checks: Sequence[Check]
) -> list[str]:
    """Sentences, one for each reason why the cell shows nothing; empty where it does."""
    return [
        *_parts(observation.evidence),
        *_evidence(cell, observation.evidence),
        *instance_reasons(cell, observation),
        *_generator(observation.evidence, metrics),
        *_machine(metrics),
        *scaling(cell, metrics, window_of(cell, observation)),
        *prolonged(cell, observation),
        *(f"injected and measured differ: {check.reason}" for check in checks if check.ok is False),
        *_defects(observation, metrics),
    ]


def _parts(evidence: Iterable[Evidence]) -> Iterable[str]:
    for line in evidence:
        if isinstance(line, PartDown):
            yield f"{line.part} was down at {line.t:.1f} s: {line.why}"


def _evidence(cell: Cell, evidence: Sequence[Evidence]) -> Iterable[str]:
    """What has to be there before anything can be said: no evidence is not good evidence.

    On Cloud Run there is no worker to be read where no instance was ever ready.
    """
    needed: dict[type[Evidence], str] = {
        LoadDone: "the load never finished",
        WorkerReading: "no worker was read, so its CPU and pool are unknown",
        MachineReading: "the machine was not read, so the lab's own CPU is unknown",
        Audit: "there was no audit, so lost uploads cannot be ruled out",
    }
    if cell.target == "cloudrun":
        needed[FrontReading] = "the front was not read, so its queue and instances are unknown"
        if not any(isinstance(line, FrontReading) and line.ready for line in evidence):
            del needed[WorkerReading]
    there = {type(line) for line in evidence}
    return (reason for kind, reason in needed.items() if kind not in there)


def _generator(evidence: Iterable[Evidence], metrics: Mapping[str, float]) -> Iterable[str]:
    for line in evidence:
        if isinstance(line, LoadDone) and line.generator_exit:
            yield f"the load generator ended with exit code {line.generator_exit}"
    cpu = metrics.get("cpu_generator", 0.0)
    if cpu >= BUSY:
        yield f"the load generator used {cpu:.2f} of its one core - lower the users or --speed"
    late, allowed = metrics.get("lateness", 0.0), LATE_S + LATE_SHARE * metrics.get("p50", 0.0)
    if late > allowed:
        yield (
            f"the load generator sent {late:.2f} s late (p95; {allowed:.2f} s is allowed)"
            " - lower the users or --speed"
        )


def _machine(metrics: Mapping[str, float]) -> Iterable[str]:
    share = metrics.get("cpu_machine", 0.0)
    if share > BUSY:
        yield f"this machine's CPU was {share:.0%} in use - stop other programs or lower --speed"


def _defects(observation: Observation, metrics: Mapping[str, float]) -> Iterable[str]:
    """What the replica must never do, whatever its settings."""
    if lost := int(metrics.get("lost", 0)):
        yield f"{lost} uploads were answered 200 but are not there: a defect of the replica"
    broken = sum(sample.error == Cause.INTERNAL_ERROR for sample in observation.samples)
    if broken:
        yield f"{broken} answers were 500 without a cause: a defect of the replica"
