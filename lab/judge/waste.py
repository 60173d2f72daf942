"""Work that the service did for people who had left: nobody tells it that they have.

sent ───────────────── client gives up
       queue ── storage call ─────────────── ended: for nobody
"""

from __future__ import annotations

from collections.abc import Iterator

from lab.judge.statistics import mean
from lab.judge.trial import Trial
from lab.model.evidence import CUT_OFF, UploadRecord


def wasted(trial: Trial) -> float | None:
    """The share of the storage calls ended in the window whose client had been cut off before.

    None where no call ended, or an earlier lab kept no records of them.
    """
    start, end = trial.window
    left = {
        sample.request: sample.sent_at + sample.latency_s
        for sample in trial.observation.samples
        if sample.request and sample.error in CUT_OFF
    }
    return mean(
        ended > left.get(record.request, ended)
        for record in trial.records.values()
        for ended in _calls_ended(record)
        if start <= ended <= end
    )


def _calls_ended(record: UploadRecord) -> Iterator[float]:
    """When an upload's storage calls were over; one that still goes on is none of them."""
    for span in record.spans:
        if span.stage == "gcs" and span != record.standing:
            yield span.begun + span.took
