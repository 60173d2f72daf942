"""How near PgBouncer was to its limit, as its rule of the bottleneck tells it."""

from __future__ import annotations

from lab.judge import pooler
from lab.judge.levels import QUEUED, Level, of_attempts
from lab.judge.trial import Trial
from lab.model.evidence import Cause
from lab.model.physics import SATURATED
from lab.model.units import percent


def pooler_level(trial: Trial) -> Level | None:
    """The connections that were lent, who waited for one, and on whom it gave up.

    None where it was not read; of a load in stages it is of the part with the most users.
    """
    readings, size = trial.peak.pooler, trial.knobs.pooler_size
    gave_up = pooler.given_up(trial)
    gave_up += trial.failed(Cause.DB_REFUSED) if pooler.shields(trial) else 0
    if not readings and not gave_up:
        return None
    lent, waited = pooler.lent(trial.peak), pooler.waited(trial.peak)
    most = max((reading.servers_active for reading in readings), default=size)
    evidence = f"PgBouncer lent {most} of {size} connections at most"
    if most >= size:
        longest = trial.peak.metrics.get("pooler_wait_max", 0.0)
        evidence = f"PgBouncer's {size} connections {percent(lent)} lent, clients waited "
        evidence += f"{percent(waited)} of the time, {longest:.1f} s at most"
    if gave_up:
        evidence += f", and it gave up on {of_attempts(trial, gave_up)}"
    at_limit = gave_up > 0 or (lent >= SATURATED and waited >= QUEUED)
    return Level(1.0 if gave_up else lent, at_limit, evidence)
