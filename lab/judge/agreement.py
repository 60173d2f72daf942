"""Do the samples agree with the audit, with the workers' records, and with themselves?

Each upload that was answered 200 has stored one recording, by its id, and a worker has recorded
it before it was answered, as it does of other journeys. So the audit must have as many as there are
such samples, and each of them its record; where they differ the samples, or the evidence, are not
of this trial.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from lab.judge.trial import Trial, successes
from lab.model.evidence import Sample

AGAIN = " - the samples are damaged: run the cell again"


def disagreements(trial: Trial) -> Iterator[str]:
    """Sentences, one for each way in which samples and evidence contradict each other."""
    samples = trial.observation.samples
    yield from _repeated("recording", (sample.recording for sample in samples))
    yield from _repeated("request", (sample.request for sample in samples))
    yield from _against_audit(trial, successes(trial.samples))
    for journey in trial.cell.load.journeys:
        yield from _against_records(trial.of(journey))


def _against_records(trial: Trial) -> Iterator[str]:
    """Each success of a journey has its record, where the workers recorded any of it."""
    good = successes(trial.samples) if trial.records else []
    if unrecorded := [sample.request for sample in good if _unrecorded(trial, sample)]:
        yield (
            f"{len(unrecorded)} {trial.noun} were answered 200, but no worker recorded that"
            f" ({unrecorded[0]} is the first){AGAIN}"
        )


def _repeated(what: str, ids: Iterable[str | None]) -> Iterator[str]:
    """Where an id that belongs to one upload stands in several samples."""
    counts = Counter(name for name in ids if name is not None)
    if repeated := [name for name, count in counts.items() if count > 1]:
        yield (
            f"{len(repeated)} {what}s stand in more than one sample"
            f" ({repeated[0]} is the first){AGAIN}"
        )


def _against_audit(trial: Trial, good: list[Sample]) -> Iterator[str]:
    """Objects of the bucket are of uploads that were answered, unheard of, or without a row.

    Recordings that retention removed count among the objects. An earlier lab did not count the
    unheard, so that at most as many can have been answered as are left.
    """
    audit = trial.audit
    if audit is None or not (audit.objects or any(sample.recording for sample in good)):
        return
    stored = audit.objects - len(audit.orphans) - len(audit.unheard or ()) + len(audit.lost)
    agree = len(good) == stored if audit.unheard is not None else len(good) <= stored
    if not agree:
        yield (
            f"{len(good)} uploads were answered 200 by the samples, but {stored} by the audit"
            f"{AGAIN}"
        )


def _unrecorded(trial: Trial, sample: Sample) -> bool:
    """Whether an upload that was answered 200, and had an id, has no record that says so."""
    record = trial.record_of(sample)
    return sample.request is not None and (record is None or record.status != sample.status)
