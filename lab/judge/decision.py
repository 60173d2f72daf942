"""From candidates to one answer, or to *unclear* where two compete.

    a missed criterion on   names
    latency                 what the late uploads waited for
    what waits raise        what all uploads waited for: uploads in flight, arrivals not sent
    failures                who made them; of those that were timed out, what they waited for
    a rate                  who turned uploads away, or else what all of them waited for
    any other figure        the resource whose figure it is

Criteria on uploads come first. Those on another journey are answered in the same way, by what its
requests waited for or failed by: where no criterion on uploads is missed, that is the answer.

A cell that missed nothing has the resource that uploads queued for, if any was full: it would be
the first to limit. The rules, one a resource, stand in `lab.judge.bottleneck`; whose a wait was,
in `lab.judge.waiting`. All times are real-world seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from math import fsum, inf, sqrt
from statistics import stdev

from lab.judge.bottleneck import RULES, Rules
from lab.judge.levels import of_attempts
from lab.judge.metrics import latency
from lab.judge.trial import Trial
from lab.judge.waiting import TIMED_OUT, Life, Station, Waiting, excess
from lab.model.criterion import Criterion
from lab.model.evidence import CUT_OFF, SERVICE_CAUSES, Cause, Sample
from lab.model.journeys import Journey
from lab.model.metrics import BY_NAME, status_of, with_percentiles
from lab.model.physics import PERCENTILES
from lab.model.units import percent
from lab.model.verdict import Bottleneck, Candidate, Finding, Resource

NEAR = 0.05
"""Levels closer than this count as equal: in a closed network the fullest station alone sets the
rate (asymptotic bounds; Lazowska et al., 1984, ch. 5), but not when another is as full."""

RIVAL = 0.5
"""A resource that made at least this share of what the first made is its rival."""

ALIKE = 0.10
"""Two shares of the time by which uploads were late that differ by less are not told apart.

What lies between two stages is laid to the event loop whatever else the worker did, and a moment
of a wait is known as well as ten readings a second show it."""

BATCHES = 10
"""Uploads that are late together wait for the same, so a share's error is taken from as many
batches of them (batch means; Law, Simulation Modeling and Analysis, ch. 9)."""

HARDLY = 0.10
"""A share of their lives below which uploads as good as never waited."""

MIN_SHARE = 0.05
"""The smallest share that is worth a word."""

RATES = (
    *("throughput", "succeeded", "attempts", "attempt_rate"),
    *("utilisation", "utilisation_split"),
)
LATENCIES = (*PERCENTILES, *with_percentiles("wait"), "uploads_inflight", "dropped")
"""The metrics that waits lower, and those that waits raise: an open load's ``max_in_flight`` drops
arrivals because those in flight wait."""

FAILURES: Mapping[str, Collection[Cause]] = {
    "error_rate": frozenset(Cause),
    **{f"errors.{cause}": {cause} for cause in Cause},
    "status.NNN": frozenset(Cause),
    "unseen_failures": SERVICE_CAUSES,
    "unheard": CUT_OFF,
    "wasted": CUT_OFF,
    "orphans": CUT_OFF | {Cause.POOL_TIMEOUT, Cause.DB_REFUSED, Cause.DB_ERROR},
}
"""The metrics that count failures, and of which causes; an orphan's came after its storage call."""

GAVE_UP: Mapping[Cause, Station] = {
    Cause.POOL_TIMEOUT: Station.POOL,
    Cause.NO_INSTANCE: Station.GATEWAY,
}
"""The failures of uploads that were given up in a queue, and which."""

NO_QUEUE = (Resource.STORAGE, Resource.DATABASE, Resource.SPEECH, Resource.NONE)
"""What an upload is not kept waiting by."""

BY_WAITING = (*TIMED_OUT, *GAVE_UP)
"""The failures that are made by what the upload waited for."""

LIFE = ("waited", "served")
"""The two parts of a life."""

Seconds = dict[Resource, float]
"""Of one upload, the seconds that each resource made it wait, or late."""


def bottleneck(trial: Trial, findings: Sequence[Finding], rules: Rules = RULES) -> Bottleneck:
    """Which resource was at its limit in this trial, and by what evidence.

    Args:
        trial: the evidence.
        findings: the cell's criteria.
        rules: what is looked at.
    """
    by_journey: dict[Journey, list[Criterion]] = {Journey.UPLOAD: []}
    for finding in findings:
        criterion = Criterion.parse(finding.criterion)
        if finding.outcome == "missed":
            by_journey.setdefault(criterion.journey, []).append(criterion)
    decisions = [Decision(trial.of(of), missed, rules) for of, missed in by_journey.items()]
    return answer_of(decisions)


def answer_of(decisions: Sequence[Decision]) -> Bottleneck:
    """The answer to the first decision, which is on uploads, or if they missed nothing, to those on
    other journeys; what limits these is said in any case.

    Args:
        decisions: one a journey, the others only where it missed something.
    """
    uploads, *others = decisions
    if not others:
        return uploads.answer()
    told = [(other, other.answer()) for other in others]
    phrases = [
        f"{other.trial.noun}: {answer.resource}, {answer.evidence}" for other, answer in told
    ]
    if uploads.missed:
        first = uploads.answer()
        evidence = "; ".join([first.evidence, *phrases])
        return first.model_copy(update={"evidence": evidence})
    [first, *_] = [answer for _, answer in told]
    if len({answer.resource for _, answer in told}) == 1:
        evidence = "; ".join([first.evidence, *phrases[1:]])
        return first.model_copy(update={"evidence": evidence})
    evidence = f"{len(told)} journeys differ: {'; '.join(phrases)}"
    return first.model_copy(update={"resource": Resource.UNCLEAR, "evidence": evidence})


@dataclass(frozen=True, eq=False)
class Decision:
    """The way to one answer, for the criteria that a trial missed."""

    trial: Trial
    missed: Sequence[Criterion]
    rules: Rules

    @cached_property
    def candidates(self) -> dict[Resource, Candidate]:
        """Every resource that there is evidence of."""
        held = (rule.candidate(self.trial) for rule in self.rules.values())
        return {candidate.resource: candidate for candidate in held if candidate}

    def answer(self) -> Bottleneck:
        """The resource that what was missed names, if it is one."""
        failures_first = sorted(self.missed, key=_is_slowness)
        named = list(dict.fromkeys(chain.from_iterable(map(self._named, failures_first))))
        if not self.missed:
            named = self._queues()
        if self._slow and len(named) > 1:
            # It let in more than what is inside could answer in time, so it did not limit.
            named = [resource for resource in named if resource is not Resource.BACKPRESSURE]
        return self._bottleneck([r for r in named if r in self.candidates or r is Resource.NONE])

    @cached_property
    def _slow(self) -> bool:
        return any(map(_is_slowness, self.missed))

    def _named(self, criterion: Criterion) -> list[Resource]:
        """The resources that a missed criterion names; more than one compete."""
        name = criterion.metric
        if not self._asks_for_better(criterion):
            return []  # as a p95 that was to be above its bound
        if name in LATENCIES:
            return leading(self._late or self._all_waits)
        if BY_NAME[name].name in FAILURES:
            return self._makers(self._counts(name))
        if name in RATES:
            if self._enough_with_failures(criterion):
                return self._makers(self.trial.causes)
            return leading(self._all_waits) if self._waited else []  # the load offers too little
        return self._owner(name)

    def _asks_for_better(self, criterion: Criterion) -> bool:
        """Whether a claim is missed because there is too little of a rate, or too much of else."""
        value = self.trial.metrics.get(criterion.metric, inf)
        too_little = criterion.op in (">", ">=") or (
            criterion.op == "==" and value < criterion.bound
        )
        return too_little == (criterion.metric in RATES)

    def _owner(self, metric: str) -> list[Resource]:
        """The resource whose figure a metric is; of several, one that is at its limit."""
        owners = (r for r, rule in self.rules.items() if metric in rule.metrics)
        read = [self.candidates[r] for r in owners if r in self.candidates]
        full_first = sorted(read, key=lambda candidate: not candidate.at_limit)
        return [self._explained(candidate.resource) for candidate in full_first[:1]]

    def _enough_with_failures(self, criterion: Criterion) -> bool:
        """Whether a rate is too low because uploads failed, and would be enough had none."""
        if not self.trial.causes:
            return False
        good = 1 - self.trial.metrics["error_rate"]
        value = self.trial.metrics[criterion.metric]
        return criterion.satisfied_by(value / good if good else inf)

    # Waits: whose were they?

    @cached_property
    def _waiting(self) -> Waiting:
        return Waiting(self.trial)

    @cached_property
    def _late(self) -> list[Seconds]:
        """By how much each upload was late that missed a percentile, in the order of sending.

        Those that were timed out would have been later still, whatever the criterion counts.
        """
        bounds = [(c.metric, c.bound) for c in self.missed if c.metric in PERCENTILES]
        late = []
        for sample in sorted(self.trial.sent, key=lambda sample: sample.sent_at):
            if bounds and sample.error in TIMED_OUT:
                late.append(self._until_ended(sample))
            else:
                late += [self._excess(sample, b) for m, b in bounds if self._took(sample, m) >= b]
        return late

    def _took(self, sample: Sample, percentile: str) -> float:
        return latency(sample, percentile, self.trial.timeout) or 0.0

    @cached_property
    def _all_waits(self) -> list[Seconds]:
        """All that uploads waited; where they hardly waited, what was done for them."""
        lives = self._lives
        return [self._by_resource(life.waits if self._waited else life.service) for life in lives]

    @cached_property
    def _lives(self) -> list[Life]:
        seen = (s for s in self.trial.sent if s.error is None or s.error in BY_WAITING)
        return [self._waiting.life(sample) for sample in seen]

    @cached_property
    def _waited(self) -> bool:
        """Whether uploads waited for a share of their lives that is worth a word."""
        waited, served = (fsum(getattr(life, of) for life in self._lives) for of in LIFE)
        return bool(waited >= HARDLY * (waited + served))

    @cached_property
    def _ended_by_waiting(self) -> dict[Cause, list[Seconds]]:
        """What each upload that was timed out, or gave up in a queue, had waited for by then."""
        return {
            cause: [
                self._until_ended(sample) for sample in self.trial.sent if sample.error is cause
            ]
            for cause in BY_WAITING
            if self.trial.causes[cause]
        }

    def _until_ended(self, sample: Sample) -> Seconds:
        if station := GAVE_UP.get(sample.error or Cause.CLIENT_TIMEOUT):
            return self._by_resource(self._waiting.in_queue(sample, station))
        seconds = self._excess(sample, sample.latency_s)
        if sample.error is Cause.GATEWAY_TIMEOUT:
            # While nobody kept it waiting there is nobody to blame but who cut it off.
            unqueued = [seconds.pop(r) for r in NO_QUEUE if r in seconds]
            seconds[Resource.PROXY_TIMEOUT] = fsum(unqueued)
        return seconds

    def _excess(self, sample: Sample, bound: float) -> Seconds:
        life = self._waiting.life(sample)
        return self._by_resource(excess(life, bound, self._rest_s(life)))

    def _rest_s(self, life: Life) -> float:
        """Seconds of storage still to come, in the mean, of an upload that has had so many.

        A delay is uniform between its ends, and so is what is left of one that goes on.
        """
        if self.trial.journey is not Journey.UPLOAD:
            return 0.0
        delay, had = self.trial.knobs.gcs_latency, life.service.get(Station.STORAGE, 0.0)
        return max(0.0, (max(delay.low, had) + delay.high) / 2 - had)

    def _by_resource(self, stations: Mapping[Station, float]) -> Seconds:
        """The same by resource, where one that is full because another is counts as that one."""
        seconds: Seconds = {}
        for station, s in stations.items():
            resource = self._explained(self._resource(station))
            seconds[resource] = seconds.get(resource, 0.0) + s
        return seconds

    def _resource(self, station: Station) -> Resource:
        at_station = (r for r in self.candidates if station in self.rules[r].stations)
        return next(at_station, Resource.NONE)

    def _explained(self, resource: Resource) -> Resource:
        """The resource that makes this one full, if one does that is at its limit; else itself."""
        why = (r for r, c in self.candidates.items() if c.at_limit and self._made_enough(r))
        return next((r for r in why if resource in self.rules[r].explains), resource)

    def _made_enough(self, resource: Resource) -> bool:
        """Whether one that explains by its failures made about as many as there were by waiting."""
        causes = self.rules[resource].causes
        made, waited = (sum(self.trial.causes[c] for c in of) for of in (causes, BY_WAITING))
        return not causes or made >= RIVAL * waited

    # Failures: who made them?

    def _counts(self, metric: str) -> Mapping[Cause, int]:
        """How many uploads a metric of failures counts, by cause.

        What only the service knows of is counted where that is what the metric is of.
        """
        if status := status_of(metric):
            answered = (s for s in self.trial.sent if s.status == status)
            return Counter(cause for s in answered if (cause := self.trial.cause_of(s)))
        causes = FAILURES[metric]
        if metric.startswith("errors."):
            return {cause: len(self.trial.failed_of(cause)) for cause in causes}
        counted = self._unseen if metric == "unseen_failures" else self.trial.causes
        return {cause: counted[cause] for cause in causes}

    @cached_property
    def _unseen(self) -> Counter[Cause]:
        """The causes that the service named for uploads which were cut off before they heard."""
        unseen = self.trial.unseen_causes.values()
        return Counter({cause: sum(of[cause] for of in unseen) for cause in SERVICE_CAUSES})

    def _makers(self, counts: Mapping[Cause, int]) -> list[Resource]:
        """The one that made most of so many failures, and its rivals."""
        made: Counter[Resource] = Counter()
        for cause in Cause:
            count = counts.get(cause, 0)
            for resource in self._of_cause(cause) if count else ():
                made[resource] += count
        most = max(made.values(), default=0)
        return [resource for resource, count in made.most_common() if count >= RIVAL * most]

    def _of_cause(self, cause: Cause) -> list[Resource]:
        """What made the failures of one cause."""
        ended = self._ended_by_waiting.get(cause, ())
        if waited := leading(self._late if cause in TIMED_OUT and self._late else ended):
            return waited
        makers = [r for r, c in self.candidates.items() if cause in self.rules[r].causes]
        seen = [r for r in makers if self.candidates[r].at_limit or self._unseen[cause]]
        # None is left as of a worker's death that nobody saw.
        return list(dict.fromkeys(map(self._explained, seen))) or [Resource.NONE]

    # The answer in words.

    def _queues(self) -> list[Resource]:
        """What uploads queued for; the fullest, and those as full."""
        full = [c for r, c in self.candidates.items() if c.at_limit and self.rules[r].queue]
        most = max((c.level for c in full), default=0.0)
        ordered = sorted(full, key=lambda c: -c.level)
        named = (self._explained(c.resource) for c in ordered if c.level > most - NEAR)
        return list(dict.fromkeys(named))

    @cached_property
    def _blamed(self) -> list[Seconds]:
        """Of each upload that was late or ended by waiting, what made it so, in seconds."""
        if not self.missed:
            return []
        ended = chain.from_iterable(
            seconds
            for cause, seconds in self._ended_by_waiting.items()
            if not (self._late and cause in TIMED_OUT)  # who is among the late
        )
        by_rate = [c for c in self.missed if c.metric in RATES]
        waits = not all(map(self._enough_with_failures, by_rate)) or any(
            c.metric in LATENCIES and not self._late for c in self.missed
        )
        return [*self._late, *(self._all_waits if waits else []), *ended]

    @cached_property
    def _shares(self) -> dict[Resource, float]:
        return shares_of(self._blamed)

    def _bottleneck(self, answers: Sequence[Resource]) -> Bottleneck:
        judged = (self._with_share(candidate, answers) for candidate in self.candidates.values())
        ordered = tuple(sorted(judged, key=lambda c: (not c.at_limit, -c.level)))
        resource, evidence = Resource.NONE, self._nothing(ordered)
        if len(answers) == 1 and answers[0] in self.candidates:
            [resource] = answers
            phrases = [self._evidence(resource), *self._waited_for()]
            evidence = "; ".join([*phrases, *self._idle_queues(resource)])
        elif len(answers) > 1:
            resource = Resource.UNCLEAR
            phrases = [self._evidence(answer) for answer in answers]
            evidence = f"{len(answers)} compete: " + "; ".join([*phrases, *self._waited_for()])
        return Bottleneck(resource=resource, evidence=evidence, candidates=ordered)

    def _evidence(self, resource: Resource) -> str:
        """A resource's evidence; of one whose failures no client was told of, how many they are."""
        if resource is Resource.NONE:
            return "what no resource made"
        candidate = self.candidates[resource]
        unseen = sum(self._unseen[cause] for cause in self.rules[resource].causes)
        if candidate.at_limit or not unseen:
            return candidate.evidence
        failed = f"{of_attempts(self.trial, unseen)} failed of it, cut off before they were told"
        return f"{candidate.evidence}, and {failed}"

    def _with_share(self, candidate: Candidate, answers: Sequence[Resource]) -> Candidate:
        """The same with its share of what was waited; who is named is at its limit."""
        at_limit = candidate.at_limit or candidate.resource in answers
        waited = round(self._shares.get(candidate.resource, 0.0), 3) if self._shares else None
        return candidate.model_copy(update={"at_limit": at_limit, "waited": waited})

    def _idle_queues(self, answer: Resource) -> list[str]:
        """Phrases on the queues that were not full: that nobody stood there is worth a word."""
        others = (c for r, c in self.candidates.items() if self.rules[r].queue and r != answer)
        return [candidate.evidence for candidate in others if not candidate.at_limit]

    def _waited_for(self) -> list[str]:
        """What uploads had waited for, and how the workers shared them, as phrases."""
        shares, phrases = self._shares, []
        largest = [r for r in sorted(shares, key=lambda r: -shares[r]) if shares[r] >= MIN_SHARE]
        if largest:
            parts = ", ".join(f"{str(r).replace('_', ' ')} {percent(shares[r])}" for r in largest)
            late = f"what {len(self._blamed)} {self.trial.noun} were late for"
            phrases.append(f"{late}: {parts}")
        return [*phrases, *split_of(self.trial)]

    def _nothing(self, ordered: Sequence[Candidate]) -> str:
        """What can be said where no resource was at its limit."""
        queues = sorted(
            (c for c in ordered if self.rules[c.resource].queue), key=lambda c: -c.level
        )
        phrases = ["nothing was at its limit", *(c.evidence for c in queues)]
        named = {cause for rule in self.rules.values() for cause in rule.causes}
        causes = self.trial.causes
        phrases += [
            f"{cause} {causes[cause]}" for cause in Cause if causes[cause] and cause not in named
        ]
        if "gcs_latency" in self.trial.metrics:
            phrases.append(f"storage took {self.trial.metrics['gcs_latency']:.2f} s of an upload")
        return "; ".join([*phrases, *split_of(self.trial)])


def _is_slowness(criterion: Criterion) -> bool:
    return criterion.metric in (*LATENCIES, *RATES)


def split_of(trial: Trial) -> list[str]:
    """How many of the uploads that count each of several workers had, most first, as a phrase."""
    records = (trial.record_of(sample) for sample in trial.sent)
    counts = sorted(Counter(r.worker for r in records if r).values(), reverse=True)
    if len(counts) < 2:
        return []
    *most, last = (str(count) for count in counts)
    return [f"the workers had {', '.join(most)} and {last} of the {trial.noun}"]


def shares_of(blamed: Sequence[Seconds]) -> dict[Resource, float]:
    """Each resource's share of all the seconds of all uploads, from 0 to 1; of none, nothing."""
    total = _total(blamed)
    if not total:
        return {}
    resources = dict.fromkeys(chain.from_iterable(blamed))
    return {r: fsum(seconds.get(r, 0.0) for seconds in blamed) / total for r in resources}


def leading(blamed: Sequence[Seconds]) -> list[Resource]:
    """The resource with the largest share, and those that cannot be told from it; or none of them.

    Args:
        blamed: seconds by resource of each upload, in the order of their sending.
    """
    shares = shares_of(blamed)
    ordered = sorted(shares, key=lambda resource: -shares[resource])
    return [r for r in ordered if _alike(ordered[0], r, shares, blamed)]


def _alike(
    first: Resource, other: Resource, shares: Mapping[Resource, float], blamed: Sequence[Seconds]
) -> bool:
    """Whether the difference of two shares is within what is known of them.

    The difference is a ratio of two sums over uploads, so its error is that of a ratio estimator:
    of what each batch differs from the ratio's share of it (Cochran, Sampling Techniques, ch. 6).
    Twice that is about 95 %.
    """
    apart = shares[first] - shares[other]
    size = max(1, len(blamed) // BATCHES)
    batches = [blamed[start : start + size] for start in range(0, len(blamed), size)]
    off = [
        fsum(s.get(first, 0.0) - s.get(other, 0.0) for s in batch) - apart * _total(batch)
        for batch in batches
    ]
    error = stdev(off) * sqrt(len(off)) / _total(blamed) if len(off) > 1 else 0.0
    return apart <= max(ALIKE, 2 * error)


def _total(blamed: Sequence[Seconds]) -> float:
    return fsum(chain.from_iterable(seconds.values() for seconds in blamed))
