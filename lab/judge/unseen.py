"""Between which two ends a figure lies of which not all could be seen, and why.

    errors.<cause>    what clients saw, and what the service recorded; an upload that was cut
    unseen_failures   off, and of which nothing is recorded, may have failed of any cause; of a
                      rate limit, no more than were sent beyond what it lets through
    pool_wait,        an upload that was cut off waited for as long as its worker recorded, or
    gcs_queue         else for any part of its life; so for their percentiles
    cold_uploads      one that was cut off does not say whether it waited for a cold instance
    cold_start_…      an instance that was still starting has no start-up time yet
    orphans, unheard  an upload that is inside a worker at the audit may yet end in one of them

The causes that nginx and the gateway name are seen whole: they refuse nobody who has left, and
whoever they refuse is told.

A claim is met only where it is true of both ends: nothing holds because nobody looked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import fsum

from lab.judge import gateway
from lab.judge.stages import STATISTICS, WAITS, accept_waits
from lab.judge.trial import Trial
from lab.model.evidence import CUT_OFF, SERVICE_CAUSES, Audit, Cause, Sample
from lab.model.journeys import Journey

BY_THE_LAB = 50
"""Requests that the lab itself may have sent to a worker before the load, to see it ready."""


@dataclass(frozen=True)
class Range:
    """A figure that lies between two ends, in its metric's unit.

    Args:
        value: what was seen of it.
        low: the least that it can be.
        high: the most; None where nothing bounds it.
        why: a sentence that says what could not be seen.
        seen_by: a phrase on who saw ``value``, where not everybody did.
    """

    value: float
    low: float
    high: float | None
    why: str
    seen_by: str = ""


def between(metric: str, trial: Trial) -> Range | None:
    """The range of a figure that was measured; None of one that is seen whole, or not at all."""
    value = trial.metrics.get(metric)
    of = RANGES.get(metric)
    return None if value is None or of is None else of(value, trial)


def _cause(cause: Cause, _value: float, trial: Trial) -> Range:
    failed = len(trial.failed_of(cause))
    seen = sum(sample.error is cause for sample in trial.sent)
    why = f"{_cut_off(trial)}, so whether they met {cause} is not known"
    seen_by = "" if failed == seen else f"users saw {seen}"
    return Range(failed, failed, failed + len(trial.unanswered), why, seen_by)


def _rate_limited(value: float, trial: Trial) -> Range:
    """As of any cause, but of no more than the limits can have refused."""
    seen = _cause(Cause.RATE_LIMITED, value, trial)
    most = max(seen.low, beyond_limits(trial))
    return replace(seen, high=min(seen.low + len(trial.unanswered), most))


def beyond_limits(trial: Trial) -> int:
    """The most requests that limits of rate can have refused: all but the first of each key.

    A key is let through so often in any window, whatever comes; and refusals do not count. One
    address for all users is the case in which most are refused.
    """
    knobs, sent = trial.knobs, trial.observation.samples
    users = Counter(sample.user for sample in sent if sample.journey is Journey.UPLOAD)
    most = 0
    if limit := knobs.global_rate_limit:
        most += max(0, len(sent) + BY_THE_LAB - limit.count)
    if limit := knobs.upload_rate_limit:
        most += sum(max(0, count - limit.count) for count in users.values())
    return most


def _unseen_failures(value: float, trial: Trial) -> Range:
    why = f"{_cut_off(trial)}, so whether it would have failed them is not known"
    return Range(value, value, value + len(trial.unanswered), why)


def _cut_off(trial: Trial) -> str:
    cut, sent = len(trial.unanswered), len(trial.sent)
    return f"{cut} of {sent} {trial.noun} were cut off before the service answered"


def _wait(stages: Sequence[str], end: str, value: float, trial: Trial) -> Range | None:
    """A mean wait in seconds, or the percentile whose name ends so, of all that waited, those that
    were cut off among them."""
    told = [waited(sample.stages.items(), stages) for sample in trial.sent]
    untold = [
        ends
        for sample, seconds in zip(trial.sent, told, strict=True)
        if seconds is None and sample.error in CUT_OFF
        for ends in _untold(sample, stages, value, trial)
    ]
    if not untold:
        return None
    all_ends = [(seconds, seconds) for seconds in told if seconds is not None] + untold
    lows, highs = zip(*all_ends, strict=True)
    low, high = STATISTICS[end](lows), STATISTICS[end](highs)
    why = f"{_cut_off(trial)}, so how long they waited is not known"
    return Range(value, low or 0.0, high, why)


def _accept_wait(end: str, value: float, trial: Trial) -> Range | None:
    """A mean, or a percentile, of which those are left out that no worker ever had; they waited as
    long as they were there, or not at all."""
    never = [s for s in trial.sent if s.error in CUT_OFF and trial.record_of(s) is None]
    if not never:
        return None
    came = accept_waits(trial)
    low = STATISTICS[end]([*came, *(0.0 for _ in never)])
    high = STATISTICS[end]([*came, *(sample.latency_s for sample in never)])
    why = f"{len(never)} of {len(trial.sent)} {trial.noun} were cut off before a worker had them"
    return Range(value, low or 0.0, max(value, high or 0.0), why)


def _untold(
    sample: Sample, stages: Sequence[str], mean: float, trial: Trial
) -> list[tuple[float, float]]:
    """The ends of a wait that the client was not told of, in seconds; none where there was none.

    One that is still open lasted no longer than its client did, and does not lower the most that
    the mean can be.
    """
    record = trial.record_of(sample)
    recorded = waited(((s.stage, s.took) for s in record.spans), stages) if record else None
    if not trial.ended(sample):
        return [(recorded or 0.0, max(recorded or 0.0, sample.latency_s, mean))]
    return [] if recorded is None else [(recorded, recorded)]


def waited(spans: Iterable[tuple[str, float]], stages: Sequence[str]) -> float | None:
    """Seconds in some stages together; None where there was none of them."""
    seconds = [took for stage, took in spans if stage in stages]
    return fsum(seconds) if seconds else None


def _cold_uploads(value: float, trial: Trial) -> Range | None:
    if trial.cell.target == "vm":
        return None
    silent = sum(s.error in CUT_OFF and "queue" not in s.stages for s in trial.sent)
    why = (
        f"{silent} of {len(trial.sent)} uploads were cut off before the gateway said how they"
        " waited"
    )
    return Range(value, value, value + silent, why)


def _longest_start(value: float, trial: Trial) -> Range | None:
    starting = _never_ready(trial)
    return Range(value, value, None, _not_started(starting)) if starting else None


def _mean_start(value: float, trial: Trial) -> Range | None:
    starting = _never_ready(trial)
    return Range(value, 0.0, None, _not_started(starting)) if starting else None


def _never_ready(trial: Trial) -> int:
    ready = {line.instance for line in trial.instance_events if line.event == "ready"}
    return len(set(gateway.cold_starts(trial)) - ready)


def _not_started(count: int) -> str:
    return (
        f"of the cold starts {count} had not come to their end, so how long they take is not known"
    )


def _audited(of: Callable[[Audit], int], value: float, trial: Trial) -> Range | None:
    """What the audit counted, and so many more as may have come to it since."""
    if trial.audit is None:
        return None
    why = f"{trial.audit.inflight} uploads were still inside the workers at the audit"
    return Range(value, value, value + of(trial.audit), why)


RANGES: Mapping[str, Callable[[float, Trial], Range | None]] = {
    **{f"errors.{cause}": partial(_cause, cause) for cause in SERVICE_CAUSES},
    f"errors.{Cause.RATE_LIMITED}": _rate_limited,
    **{f"accept_wait{end}": partial(_accept_wait, end) for end in STATISTICS},
    **{
        name + end: partial(_wait, stages, end)
        for name, stages in WAITS.items()
        for end in STATISTICS
    },
    "unseen_failures": _unseen_failures,
    "cold_uploads": _cold_uploads,
    "cold_start_s": _mean_start,
    "cold_start_made": _mean_start,
    "cold_start_max": _longest_start,
    "orphans": partial(_audited, lambda audit: min(audit.inflight, len(audit.orphans))),
    "unheard": partial(_audited, lambda audit: audit.inflight),
}
"""The metrics that may be more than was seen of them, and their ranges, given what was seen."""
