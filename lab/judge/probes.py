"""Health probes that failed, and what followed: how near a service was to being ended for it."""

from __future__ import annotations

from collections.abc import Sequence

from lab.judge.levels import Level, of_attempts, times
from lab.judge.trial import Trial
from lab.model.evidence import Cause
from lab.model.probe import ProbeRecord
from lab.model.units import percent


def probed(trial: Trial, lost: tuple[Cause, ...]) -> Level | None:
    """The most probes in a row that failed, of as many as end the service; None: nobody asks.

    Args:
        trial: the evidence.
        lost: the causes of uploads that were inside what was ended.
    """
    if trial.knobs.health_probe is None:
        return None
    failed, ended = trial.probes("failed"), trial.probes("ended")
    if not failed:
        return Level(0.0, False, "every health probe was answered")
    in_row, enough = max(record.in_row for record in failed), trial.knobs.health_failures
    evidence = (
        f"{len(failed)} health probes failed, {in_row} of {enough} in a row at most"
        f" ({failed[0].why})"
    )
    evidence += _ended(trial, ended, lost) if ended else ""
    if busy := trial.metrics.get("loop_busy"):
        evidence += f"; the event loop, which answers them, was {percent(busy)} busy"
    return Level(in_row / enough, bool(ended), evidence)


def _ended(trial: Trial, ended: Sequence[ProbeRecord], lost: tuple[Cause, ...]) -> str:
    """What was ended for it, how often, and what was lost with it, as the end of a phrase."""
    what = "the backend was" if trial.cell.target == "vm" else "instances were"
    with_it = of_attempts(trial, trial.failed(*lost))
    return f", so {what} ended {times(len(ended))}, {with_it} lost with it"
