"""Did several workers of one socket share uploads as they would at speed 1?

    the cell's `lab.model.split.Split`  what a model said of each speed, before it was measured
    readings of each worker             how uneven the uploads inside were

A speed at which the model has latency elsewhere than at speed 1 is refused, whatever was measured:
of a window's uploads no more than the noise tells how they were shared. One that the model allows
is refused where they were shared more evenly than the model has it at any speed that it allows, by
more than chance would have it: then there is more work in the event loops than the model knew of.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import fsum
from statistics import fmean

from lab.judge.remedies import too_fast
from lab.judge.trial import Trial
from lab.judge.workers import several
from lab.model.fidelity import ALLOWED, keeps_split
from lab.model.split import Split
from lab.model.units import percent
from lab.model.verdict import Invalidity

ERRORS = 2.0
"""Standard deviations of a window's lead that are left to chance: one window in forty is beyond."""

FEWER_SHARE = "lower the users, or give each worker its own socket (balance)"


def lead_inside(trial: Trial) -> float | None:
    """The share of the uploads inside all workers that are inside the fullest one, in the mean.

    None without several workers, where not each was read, where one was replaced, and where
    nothing was inside.
    """
    lives = trial.by_worker
    if not several(trial) or len(lives) != trial.knobs.workers:
        return None
    inside = [fmean(reading.inflight for reading in life) for life in lives]
    return max(inside) / fsum(inside) if fsum(inside) > 0 else None


def too_even(trial: Trial) -> Iterator[Invalidity]:
    """The reason why this speed has workers share too evenly, if it does."""
    cell, speed, split = trial.cell, trial.knobs.speed, trial.cell.split
    if split is None or speed == 1:
        return

    def keeps(at: float) -> bool:
        return keeps_split(cell.knobs.sharing, at, split)

    lead = lead_inside(trial)
    if not keeps(speed):
        measured = "" if lead is None else f" ({percent(lead)} measured)"
        what = (
            f"at speed {speed:g} {cell.knobs.sharing} workers of one socket share uploads more"
            f" evenly than at 1: of those inside, {percent(split.lead_at(speed))} would be in the"
            f" fullest{measured}, {percent(split.lead_at(1))} at 1, and latency"
            f" {percent(split.moved_at(speed))} off ({percent(ALLOWED)} is allowed)"
        )
        yield too_fast(cell, what, keeps, instead=FEWER_SHARE)
    elif lead is not None:
        seen = split.speed_of(lead + ERRORS * _spread(trial, split))
        if not keeps(seen):
            what = (
                f"at speed {speed:g} {cell.knobs.sharing} workers of one socket shared uploads more"
                f" evenly than is true: of those inside, {percent(lead)} were in the fullest, where"
                f" {percent(split.lead_at(speed))} were expected and {percent(split.lead_at(1))} at"
                f" 1, so that latency is {percent(split.moved_at(seen))} off or more"
                f" ({percent(ALLOWED)} is allowed)"
            )
            # So much work at this speed as the model has at the one that is seen.
            yield too_fast(cell, what, lambda at: keeps(seen * at / speed), instead=FEWER_SHARE)


def _spread(trial: Trial, split: Split) -> float:
    start, end = trial.window
    return split.spread_at(trial.knobs.speed, end - start)
