"""How full the threads were that a worker has for storage, speech and conversion, with evidence.

    storage      gcs_call's: the default executor, threads of its own, or those of conversion
    speech       speech_threads
    conversion   audio_threads, which storage calls may share

Each function gets the whole trial; it returns None where the threads were not read.
"""

from __future__ import annotations

from lab.judge.levels import Level, fullness, slots_level
from lab.judge.trial import Trial
from lab.judge.waiting import storage_threads
from lab.model.evidence import WorkerReading
from lab.model.journeys import Journey
from lab.model.knobs import default_executor_threads
from lab.model.physics import at_once, worker_storage_slots
from lab.model.units import percent


def of_storage(trial: Trial, name: str) -> Level | None:
    """How full the threads are that storage calls run in, as many as may be in use."""
    slots = worker_storage_slots(trial.cell)
    full = fullness(trial, lambda r: r.threads_busy, lambda r: r.threads_queued, slots)
    if full is None:
        return None
    level = slots_level(name, "uploads", full, slots)
    return level._replace(evidence=level.evidence + _out_of_reach(trial, slots))


def _out_of_reach(trial: Trial, slots: int) -> str:
    """A phrase for threads that an instance has and its concurrency leaves idle; none: empty."""
    knobs = trial.knobs
    sized = {"executor": knobs.gcs_threads, "audio_pool": knobs.audio_threads}
    threads = sized.get(knobs.gcs_call) or default_executor_threads(knobs.instance_cores)
    if trial.cell.target == "vm" or threads <= slots:
        return ""
    concurrency = f"concurrency {knobs.cloudrun_concurrency}"
    return f" ({slots} of its {threads} threads can be used at once, by {concurrency})"


def converts(trial: Trial) -> bool:
    """Whether the audio threads have recordings to convert."""
    return Journey.CONVERT in trial.cell.load.shares and trial.knobs.convert_call == "audio_pool"


def shared(trial: Trial) -> bool:
    """Whether storage calls and conversions share the audio threads."""
    return trial.knobs.gcs_call == "audio_pool" and converts(trial)


def of_speech(trial: Trial) -> Level | None:
    """How full the threads are that assessments have."""
    if any(reading.speech_busy is None for reading in trial.peak.workers):
        return None
    slots = at_once(trial.cell, trial.knobs.speech_threads)
    full = fullness(trial, lambda r: r.speech_busy or 0, lambda r: r.speech_queued or 0, slots)
    return full and slots_level("speech threads", "assessments", full, slots)


def of_conversion(trial: Trial) -> Level | None:
    """How full the threads are that conversions have, with what storage calls have of them."""
    readings, both = trial.peak.workers, shared(trial)
    if any(reading.audio_busy is None for reading in readings):
        return None

    def queued(reading: WorkerReading) -> int:
        return (reading.audio_queued or 0) + (reading.threads_queued if both else 0)

    def used(reading: WorkerReading) -> int:
        return storage_threads(reading, trial.knobs) if both else reading.audio_busy or 0

    slots = at_once(trial.cell, trial.knobs.audio_threads)
    full = fullness(trial, used, queued, slots)
    if full is None:
        return None
    who = "uploads and conversions, which share them," if both else "conversions"
    level, taken = slots_level("audio threads", who, full, slots), sum(map(used, readings))
    if not both or not taken:
        return level
    of_uploads = percent(sum(reading.threads_busy for reading in readings) / taken)
    evidence = f"{level.evidence}, storage calls had {of_uploads} of what was in use"
    return level._replace(evidence=evidence)
