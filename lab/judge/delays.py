"""Do calls to storage, speech service and database take what the proxies delay them by?

    storage     every call that a worker recorded, to its end or for as long as it was followed
    speech      the same, of assessments; nothing is said where nobody asked for any
    database    stages that are so many round trips: auth 2, release 1, write 4 (3 if held)

A delay that is too short shows in the mean. One that is too long has to be told from calls that
wait for each other, for a core or for a lock, and that is the replica's own behaviour: it spares
the fastest tenth of the calls, while another delay lengthens these as well. At a speed above 1
the wait is longer than it would be, and what that changes in a result is held within bounds:
here for storage, in `lab.judge.validity` for the database.

Without records, in runs of an earlier lab, successful uploads say what there is to say. Those that
were cut off had the longest calls, so that the mean of the others may be short of the delay.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf, sqrt
from statistics import NormalDist, fmean
from typing import NamedTuple

from lab.judge.followed import call_records, ended_stages, followed_until, load_end
from lab.judge.remedies import CheckRemedy, fitting_speed, slower
from lab.judge.trial import Trial
from lab.model.evidence import CUT_OFF, UploadRecord
from lab.model.experiment import Cell
from lab.model.fault import Latency, ProxyName
from lab.model.fidelity import CALL_SHARE, TICK_WALL_S, keeps_call, keeps_slot
from lab.model.journeys import Journey
from lab.model.physics import STORAGE_TIMEOUT_S, db_trips, quantile
from lab.model.pooler import PoolerReading
from lab.model.speech import SPEECH_TIMEOUT_S
from lab.model.units import Span, format_duration
from lab.model.verdict import Check

MIN_SAMPLES = 20
"""Samples below which a check says nothing."""

ONE_REQUEST = 8 * 1024**2
"""google-cloud-storage sends an object up to 8 MiB in one request, a larger one in several."""


class Called(NamedTuple):
    """A service whose every call waits for one answer, which a proxy delays.

    Args:
        proxy: before it.
        name: in sentences.
        stage: of the call, in the records of ``journey``.
        attempt_s: after so long its client gives an attempt up; ``then``, what it does.
    """

    proxy: ProxyName
    name: str
    stage: str
    journey: Journey
    attempt_s: float
    then: str


STORAGE = Called(
    proxy="gcs",
    name="storage",
    stage="gcs",
    journey=Journey.UPLOAD,
    attempt_s=STORAGE_TIMEOUT_S,
    then=f"storage is tried again after {STORAGE_TIMEOUT_S:g} s: a call is more than its delay",
)
SPEECH = Called(
    proxy="speech",
    name="the speech service",
    stage="speech",
    journey=Journey.ASSESS,
    attempt_s=SPEECH_TIMEOUT_S,
    then=f"a call is given up after {SPEECH_TIMEOUT_S:g} s: those that succeed are the short ones",
)

DB_SHARE = 0.30
DB_TRIP_WALL_S = {"auth": 0.003, "release": 0.002, "write": 0.003}
"""What may be added to a stage that waits for nobody: 30 %, or so much wall time a round trip
where that is more.

A release is a round trip and nothing else; in the others ORM and driver work, and Postgres
writes. It is enough to show that the right delay is injected; what the addition does to a result
at a high speed is weighed by `lab.judge.validity`."""

WAITED = 0.5
"""Share of PgBouncer's readings in which a client waits, above which a stage's time is a wait."""

FAST = 0.10
"""The share of the calls that is taken to have waited for no other call."""

ERRORS = 4
"""Standard errors that a figure may be off by chance: once in 30 000 times, two-sided."""

OTHER_DELAY = "let nothing else set toxics, and see with `lab calibrate` if the proxy keeps to them"
TOO_LONG = f"{OTHER_DELAY}; if it does, use fewer threads or users, or stop other programs"
BUSY = CheckRemedy(TOO_LONG, "machine")
NOTHING = CheckRemedy("")


def only_delay(cell: Cell, proxy: ProxyName) -> Span | None:
    """The delay of a proxy's answers; None where the cell's faults do anything else to them.

    A process fault is more: a pause lengthens every stage that it falls into, and after a
    restart connections are made anew.
    """
    if cell.process_faults:
        return None
    faults = [fault for fault in cell.faults if fault.proxy == proxy]
    if len(faults) != 1 or faults[0].down or len(faults[0].toxics) != 1:
        return None
    toxic = faults[0].toxics[0]
    if not isinstance(toxic, Latency) or toxic.stream != "downstream" or toxic.toxicity != 1:
        return None
    return toxic.span(cell.knobs)


def make_check(
    name: str,
    expected: str,
    measured: float | None,
    ok: bool | None,
    reason: str,
    remedy: CheckRemedy,
) -> Check:
    """A check; where it is not ok its reason ends with what to do, and it says of what kind."""
    rounded = None if measured is None else round(float(measured), 6)
    check = Check(name=name, expected=expected, measured=rounded, ok=ok, reason=reason)
    if ok is not False:
        return check
    said = {"reason": f"{reason} - {remedy.text}", "kind": remedy.kind, "fitting": remedy.fitting}
    return check.model_copy(update=said)


def _too_few(name: str, expected: str, count: int) -> Check:
    reason = f"{name}: {count} samples say too little, {MIN_SAMPLES} are needed"
    return Check(name=name, expected=expected, measured=None, ok=None, reason=reason)


# Storage, and the speech service.


class DelayedCall(NamedTuple):
    """A call of one request; ``took`` is no more than the ``limit`` until which it was followed."""

    took: float
    limit: float


@dataclass(frozen=True)
class DelayedCalls:
    """All that is known of the calls.

    Args:
        calls: those that succeeded, and those that were under way when the load ended.
        survivors: whether calls that nothing is known of took longer than these.
    """

    calls: Sequence[DelayedCall]
    survivors: bool

    def telling(self, span: Span) -> list[DelayedCall]:
        """The calls that were followed for long enough to show anything of this delay."""
        return [call for call in self.calls if call.took < call.limit or call.limit > span.low]


def delayed_calls(trial: Trial, of: Called = STORAGE) -> DelayedCalls:
    """The workers' records of them; of an earlier lab, those of successful uploads."""
    if records := call_records(trial, of.journey):
        return DelayedCalls(_recorded(trial, records, of.stage), survivors=False)
    calls = [
        DelayedCall(sample.stages["gcs"], inf)
        for sample in trial.succeeded
        if "gcs" in sample.stages and sample.bytes <= ONE_REQUEST
    ]
    return DelayedCalls(calls, survivors=any(trial.causes[cause] for cause in CUT_OFF))


def _recorded(trial: Trial, records: Sequence[UploadRecord], stage: str) -> list[DelayedCall]:
    """Calls of a size that one request takes; an upload that left no sample has the largest."""
    sizes = {sample.request: sample.bytes for sample in trial.observation.samples}
    largest, followed = trial.cell.load.audio.high, followed_until(trial)
    seen: list[DelayedCall] = []
    for record in records:
        if sizes.get(record.request or None, largest) <= ONE_REQUEST:
            seen += _of_record(record, stage, *followed(record))
    if all(call.took < call.limit for call in seen):
        return [DelayedCall(call.took, inf) for call in seen]  # each was followed to its end
    return seen


def _of_record(
    record: UploadRecord, stage: str, until: float, newest: float
) -> Iterator[DelayedCall]:
    """A call that fails is none: how long it took says nothing of the delay."""
    ended = [(span.begun, span.took) for span in ended_stages(record) if span.stage == stage]
    span = record.standing
    standing = [(span.begun, inf)] if span and span.stage == stage else []
    for begun, took in ended + standing:
        if begun < until and begun <= newest:
            yield DelayedCall(min(took, until - begun), until - begun)


def followed_delay(span: Span, limit: float) -> tuple[float, float]:
    """Mean and variance of a delay that is uniform in ``span``, followed up to ``limit``.

    They are the first two moments of min(X, limit), a sample with type I censoring.
    """
    low, width = span.low, span.high - span.low
    if limit <= low or not width:
        return min(low, limit), 0.0
    end = min(limit, span.high)
    beyond = (span.high - end) / width
    mean = (end**2 - low**2) / (2 * width) + end * beyond
    square = (end**3 - low**3) / (3 * width) + end**2 * beyond
    return mean, max(0.0, square - mean**2)


def storage_check(trial: Trial) -> Iterable[Check]:
    """The mean within 4 standard errors and 4 %, and nothing faster than the fastest."""
    if span := only_delay(trial.cell, "gcs"):
        yield _CallFigures(trial, STORAGE, span, delayed_calls(trial)).check()


def speech_check(trial: Trial) -> Iterable[Check]:
    """The same of the speech service, where anybody had something assessed."""
    if (span := only_delay(trial.cell, "speech")) and call_records(trial, Journey.ASSESS):
        yield _CallFigures(trial, SPEECH, span, delayed_calls(trial, SPEECH)).check()


@dataclass(frozen=True)
class _CallFigures:
    """The calls' times against the delay, all in seconds."""

    trial: Trial
    of: Called
    span: Span
    known: DelayedCalls

    def check(self) -> Check:
        """The check, from what is wrong, if anything is."""
        name, reason = (
            f"{self.of.proxy} latency",
            f"{self.of.name} took {self.mean:.3f} s in the mean of {len(self.took)}",
        )
        if len(self.took) < MIN_SAMPLES:
            return _too_few(name, self._wanted, len(self.took))
        if self.span.high >= self.of.attempt_s:
            return make_check(name, self._wanted, None, None, self.of.then, NOTHING)
        if self.cut:
            reason += f", {self.cut} of which were under way when the load ended"
        wrong, remedy = self._too_short() or self._too_long() or ("", NOTHING)
        return make_check(name, self._wanted, self.mean, not wrong, reason + wrong, remedy)

    @cached_property
    def calls(self) -> list[DelayedCall]:
        """The calls that show anything of the delay."""
        return self.known.telling(self.span)

    @cached_property
    def took(self) -> list[float]:
        """How long each took, as far as it was followed."""
        return [call.took for call in self.calls]

    @cached_property
    def mean(self) -> float:
        """The mean of them; 0 of none."""
        return fmean(self.took) if self.took else 0.0

    @cached_property
    def cut(self) -> int:
        """How many were followed, but not to their end."""
        return sum(call.took == call.limit for call in self.calls)

    @cached_property
    def moments(self) -> list[tuple[float, float]]:
        """Mean and variance that each would have by the delay alone."""
        return [followed_delay(self.span, call.limit) for call in self.calls]

    @property
    def expected(self) -> float:
        """What the mean is by the delay alone."""
        return fmean(mean for mean, _ in self.moments) if self.moments else self.span.mean

    @property
    def allowed(self) -> float:
        """How far the mean may be off, in either direction."""
        error = sqrt(sum(variance for _, variance in self.moments)) / len(self.moments)
        return ERRORS * error + CALL_SHARE * self.expected + self._tick

    @property
    def _tick(self) -> float:
        return TICK_WALL_S * self.trial.knobs.speed

    @property
    def _wanted(self) -> str:
        mean = "mean so far" if self.cut else "mean"
        expected, low = (format_duration(round(s, 3)) for s in (self.expected, self.span.low))
        return f"{mean} {expected}, none under {low}"

    @property
    def _injected(self) -> str:
        return f", {self.expected:.3f} s ± {self.allowed:.3f} s was injected"

    def _too_short(self) -> tuple[str, CheckRemedy] | None:
        """What is said of a delay that is too short, and what to do; None where it is not.

        Calls that nothing is known of took longer than these: then the mean shows nothing.
        """
        short = not self.known.survivors and self.mean < self.expected - self.allowed
        said = self._injected if short else ""
        if min(self.took) < self.span.low - self._tick:
            said += f"; the fastest took {min(self.took):.3f} s"
        return (said, CheckRemedy(OTHER_DELAY)) if said else None

    def _too_long(self) -> tuple[str, CheckRemedy] | None:
        """By the mean, or where calls were cut off, which tells less, by the fastest of them.

        On Cloud Run nothing is: an instance that waits for CPU lengthens every stage.
        """
        longer = self.mean > self.expected + self.allowed
        if self.trial.cell.target != "vm" or not (longer or self.cut):
            return None
        fast, most = fast_tenth(self.took), fastest_allowed(self.span, 1, len(self.took))
        speed, delay = self.trial.knobs.speed, self.span.mean
        added = (fast - most) / speed  # to each call, in wall-clock seconds
        if not keeps_call(speed, added, delay):
            remedy = _shorter(self.trial.cell, lambda s: keeps_call(s, added, delay))
            return f"{self._injected}; even the fastest tenth took {fast:.3f} s", remedy
        wall_s = (self.mean - self.expected) / speed
        return self._longer_than_real(wall_s) if longer else None

    def _longer_than_real(self, wall_s: float) -> tuple[str, CheckRemedy] | None:
        """What a wait of so many wall-clock seconds adds to an upload that is not real."""
        whole_s = self.trial.metrics.get("p50", 0.0) if self.of is STORAGE else 0.0
        upload = max(whole_s, self.span.mean)

        def true(speed: float) -> bool:
            return keeps_slot(speed, wall_s, upload)

        speed = self.trial.knobs.speed
        if true(speed):
            return None
        fitting = fitting_speed(speed, true)
        return self._injected, CheckRemedy(slower(self.trial.cell, fitting), "speed", fitting)


# What waited for nobody.


def fast_tenth(took: Iterable[float]) -> float:
    """The slowest of the fastest tenth."""
    return quantile(sorted(took), FAST)


def fastest_allowed(span: Span, trips: int, count: int) -> float:
    """How long the fastest tenth of calls may take by the delay alone, in seconds.

    One delay is uniform, and the sum of several is taken for normal: its lower decile is then not
    under the true one. A quantile's standard error is sqrt(p (1 - p) / n) / f, with the density f
    there (David and Nagaraja, Order Statistics, 2003, ch. 10).
    """
    width = span.high - span.low
    decile, one_by_density = span.low + FAST * width, width
    if trips > 1:
        normal, deviation = NormalDist(), width * sqrt(trips / 12)
        z = normal.inv_cdf(FAST)
        decile, one_by_density = trips * span.mean + z * deviation, deviation / normal.pdf(z)
    return decile + ERRORS * sqrt(FAST * (1 - FAST) / count) * one_by_density


# The database.


def stage_times(trial: Trial) -> Mapping[str, Sequence[float]]:
    """Seconds that each stage took in every upload that got to its end while the load went on."""
    times: dict[str, list[float]] = defaultdict(list)
    if records := call_records(trial):
        end = load_end(trial)
        for span in (span for record in records for span in ended_stages(record)):
            if span.begun + span.took <= end:
                times[span.stage].append(span.took)
    else:
        for sample in trial.succeeded:
            for stage, took in sample.stages.items():
                times[stage].append(took)
    return times


def database_checks(trial: Trial) -> Iterable[Check]:
    """Stages that are so many round trips: auth 2, release 1, write 4 (3 in an open session)."""
    span = only_delay(trial.cell, "db")
    if span is None:
        return
    times = stage_times(trial)
    for stage, trips in db_trips(trial.knobs).items():
        if took := times.get(stage):
            yield _stage(trial, stage, trips, span, took)


def _stage(trial: Trial, stage: str, trips: int, span: Span, took: Sequence[float]) -> Check:
    """The mean at least what the round trips take, less a tick each; the fastest not much more."""
    speed, expected, mean = trial.knobs.speed, trips * span.mean, fmean(took)
    share, wall_s = DB_SHARE * expected, DB_TRIP_WALL_S[stage] * trips
    more, less = max(share, wall_s * speed), TICK_WALL_S * trips * speed
    text = f"{expected * 1000:.0f} ms, up to {more * 1000:.0f} ms more"
    if len(took) < MIN_SAMPLES:
        return _too_few(stage, text, len(took))
    reason = f"{stage} took {mean * 1000:.1f} ms in the mean of {len(took)}, expected {text}"
    if mean < expected - less:
        return make_check(stage, text, mean, False, reason, CheckRemedy(OTHER_DELAY))
    fast, most = fast_tenth(took), fastest_allowed(span, trips, len(took))
    if trial.cell.target == "vm" and fast > most + more and not _pooler_queued(trial):
        added = (fast - most) / speed  # by each upload, in wall-clock seconds
        reason += f"; even the fastest tenth took {fast * 1000:.1f} ms"
        remedy = _shorter(trial.cell, lambda s: added * s <= max(share, wall_s * s))
        return make_check(stage, text, mean, False, reason, remedy)
    if mean > expected + more:
        reason += f"; the fastest tenth took {fast * 1000:.1f} ms: the delay is right, calls waited"
    return make_check(stage, text, mean, True, reason, NOTHING)


def _pooler_queued(trial: Trial) -> bool:
    """Whether clients waited in PgBouncer so often that even the fastest calls may have."""
    readings = trial.evidence(PoolerReading)
    return sum(reading.clients_waiting > 0 for reading in readings) > WAITED * len(readings)


def _shorter(cell: Cell, fits: Callable[[float], bool]) -> CheckRemedy:
    """What makes a stage shorter: a lower speed where it is work that takes too long."""
    fitting = fitting_speed(cell.knobs.speed, fits)
    if fitting is None:
        return BUSY
    return CheckRemedy(
        f"{slower(cell, fitting)}; if that does not help, {TOO_LONG}", "speed", fitting
    )
