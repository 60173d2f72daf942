"""From candidates to one answer, or to *unclear* where two compete.

    a missed criterion on      names
    latency                    what the late uploads waited for
    failures                   who made them; of those cut off, what they waited for
    a rate                     who turned uploads away, or else what all of them waited for
    any other figure           the resource whose figure it is

A cell that missed nothing has the resource that uploads queued for, if any was full: it would be
the first to limit. The rules, one a resource, stand in `lab.judge.bottleneck`; whose a wait was,
in `lab.judge.waiting`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from math import fsum, inf, sqrt
from statistics import fmean, stdev

from lab.judge.bottleneck import RULES, Rules
from lab.judge.levels import percent
from lab.judge.metrics import latency
from lab.judge.trial import Trial
from lab.judge.waiting import CUT_OFF, Station, Waiting, excess
from lab.model.criterion import Criterion
from lab.model.evidence import Cause, Sample
from lab.model.physics import PERCENTILES
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

TOLD = 0.05
"""The smallest share that is worth a word."""

RATES = ("throughput", "succeeded", "attempts", "utilisation")
LATENCIES = (*PERCENTILES, "wait", "wait_p95", "uploads_inflight")
"""The metrics that waits lower, and those that waits raise."""

GAVE_UP: Mapping[Cause, Station] = {
    Cause.POOL_TIMEOUT: Station.POOL,
    Cause.NO_INSTANCE: Station.GATEWAY,
}
"""The failures of uploads that were given up in a queue, and which."""

NOBODY = (Resource.STORAGE, Resource.DATABASE, Resource.NONE)
"""What an upload is not kept waiting by."""

WAITED = (*CUT_OFF, *GAVE_UP)
"""The failures that are made by what the upload waited for."""

Shares = dict[Resource, float]
"""Seconds, or uploads, by the resource that made them."""


def bottleneck(trial: Trial, findings: Sequence[Finding], rules: Rules = RULES) -> Bottleneck:
    """Which resource was at its limit in this trial, and by what evidence.

    Args:
        trial: the evidence.
        findings: the cell's criteria.
        rules: what is looked at.
    """
    missed = [Criterion.parse(f.criterion) for f in findings if f.outcome == "missed"]
    return Decision(trial, missed, rules).answer()


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
        failures_first = sorted(self.missed, key=lambda c: c.metric in (*LATENCIES, *RATES))
        named = list(dict.fromkeys(chain.from_iterable(map(self._named, failures_first))))
        if not self.missed:
            named = self._queues()
        if self._slow and len(named) > 1:
            # It let in more than what is inside could answer in time, so it did not limit.
            named = [resource for resource in named if resource is not Resource.BACKPRESSURE]
        return self._bottleneck([r for r in named if r in self.candidates])

    @cached_property
    def _slow(self) -> bool:
        return any(criterion.metric in (*LATENCIES, *RATES) for criterion in self.missed)

    def _named(self, criterion: Criterion) -> list[Resource]:
        """The resources that a missed criterion names; more than one compete."""
        name = criterion.metric
        if name in LATENCIES:
            return leading(self._late)
        if name == "error_rate":
            return self._makers(Cause)
        if name.startswith("errors."):
            return self._makers([Cause(name.removeprefix("errors."))])
        if name in RATES:
            refused = self._enough_with_failures(criterion)
            return self._makers(Cause) if refused else leading(self._all_waits)
        asked = (r for r, rule in self.rules.items() if name in rule.metrics)
        at_hand = [self.candidates[r] for r in asked if r in self.candidates]
        fullest = sorted(at_hand, key=lambda candidate: not candidate.at_limit)
        return [self._explained(candidate.resource) for candidate in fullest[:1]]

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
    def _late(self) -> list[Shares]:
        """By how much each late upload was late, by resource: of every missed percentile."""
        timeout = self.trial.cell.load.timeout
        bounds = [(c.metric, c.bound) for c in self.missed if c.metric in PERCENTILES]
        late = [
            self._excess(sample, bound)
            for metric, bound in bounds
            for sample in self.trial.sent
            if (latency(sample, metric, timeout) or 0.0) >= bound
        ]
        return late or self._all_waits

    @cached_property
    def _all_waits(self) -> list[Shares]:
        """All that uploads waited; where they hardly waited, what was done for them."""
        lives = [self._waiting.life(s) for s in self.trial.sent if not s.error or s.error in WAITED]
        waited, served = fsum(life.waited for life in lives), fsum(life.served for life in lives)
        hardly = waited < ALIKE * (waited + served)
        return [self._by_resource(life.service if hardly else life.waits) for life in lives]

    @cached_property
    def _cut_off(self) -> dict[Cause, list[Shares]]:
        """What each upload that was cut off, or gave up in a queue, had waited for by then."""
        return {
            cause: [self._until_cut(s) for s in self.trial.sent if s.error == cause]
            for cause in WAITED
            if self.trial.causes[cause]
        }

    def _until_cut(self, sample: Sample) -> Shares:
        if station := GAVE_UP.get(sample.error or Cause.CLIENT_TIMEOUT):
            return self._by_resource(self._waiting.queued(sample, station))
        shares = self._excess(sample, sample.latency_s)
        if sample.error is Cause.GATEWAY_TIMEOUT:
            # While nobody kept it waiting there is nobody to blame but who cut it off.
            nobody = [shares.pop(r) for r in NOBODY if r in shares]
            shares[Resource.PROXY_TIMEOUT] = fsum(nobody)
        return shares

    def _excess(self, sample: Sample, bound: float) -> Shares:
        life = self._waiting.life(sample)
        return self._by_resource(excess(life, bound, self._service_s))

    @cached_property
    def _service_s(self) -> float:
        """Seconds that what is done for an upload takes, in the mean of those answered."""
        served = [self._waiting.life(sample).served for sample in self.trial.succeeded]
        return fmean(served) if served else self.trial.knobs.gcs_latency.mean

    def _by_resource(self, seconds: Mapping[Station, float]) -> Shares:
        """The same by resource, where one that is full because another is counts as that one."""
        shares: Shares = {}
        for station, s in seconds.items():
            resource = self._explained(self._resource(station))
            shares[resource] = shares.get(resource, 0.0) + s
        return shares

    def _resource(self, station: Station) -> Resource:
        of = (
            r for r, rule in self.rules.items() if station in rule.stations and r in self.candidates
        )
        return next(of, Resource.NONE)

    def _explained(self, resource: Resource) -> Resource:
        """The resource that makes this one full, if one does that is at its limit; else itself."""
        why = (r for r, c in self.candidates.items() if c.at_limit)
        return next((r for r in why if resource in self.rules[r].explains), resource)

    # Failures: who made them?

    def _makers(self, causes: Iterable[Cause]) -> list[Resource]:
        """The one that made most of the failures, and its rivals."""
        made: Counter[Resource] = Counter()
        for cause in causes:
            count = self.trial.causes[cause]
            for resource in self._of_cause(cause) if count else ():
                made[resource] += count
        most = max(made.values(), default=0)
        return [resource for resource, count in made.most_common() if count >= RIVAL * most]

    def _of_cause(self, cause: Cause) -> list[Resource]:
        """What made the failures of one cause."""
        if cause in self._cut_off and (waited := leading(self._cut_off[cause])):
            return waited
        rules = (r for r, rule in self.rules.items() if cause in rule.causes)
        maker = next(rules, Resource.NONE)
        if maker in self.candidates and self.candidates[maker].at_limit:
            return [self._explained(maker)]
        return [Resource.NONE]  # as a worker's death that nobody saw

    # The answer in words.

    def _queues(self) -> list[Resource]:
        """What uploads queued for; the fullest, and those as full."""
        full = [
            c
            for c in self.candidates.values()
            if c.at_limit
            and self.rules[c.resource].queue
            and self._explained(c.resource) == c.resource
        ]
        most = max((c.level for c in full), default=0.0)
        ordered = sorted(full, key=lambda c: -c.level)
        return [c.resource for c in ordered if c.level > most - NEAR]

    @cached_property
    def _blamed(self) -> list[Shares]:
        """Of each upload that was late or cut off, by how much, by resource."""
        late = self._late if any(c.metric in LATENCIES for c in self.missed) else []
        too_few = [c for c in self.missed if c.metric in RATES]
        rates = [] if all(map(self._enough_with_failures, too_few)) else self._all_waits
        return [*late, *rates, *chain.from_iterable(self._cut_off.values())] if self.missed else []

    def _bottleneck(self, answers: Sequence[Resource]) -> Bottleneck:
        shares = shares_of(self._blamed)
        candidates = {
            resource: candidate.model_copy(
                update={
                    "at_limit": candidate.at_limit or resource in answers,
                    "waited": round(shares.get(resource, 0.0), 3) if shares else None,
                }
            )
            for resource, candidate in self.candidates.items()
        }
        ordered = tuple(sorted(candidates.values(), key=lambda c: (not c.at_limit, -c.level)))
        resource, evidence = Resource.NONE, self._nothing(ordered)
        if len(answers) == 1:
            answer = candidates[answers[0]]
            idle = [c for c in self.candidates.values() if self._is_idle_queue(c, answer)]
            resource = answer.resource
            evidence = "; ".join([answer.evidence, *self._told(), *(c.evidence for c in idle)])
        elif answers:
            resource = Resource.UNCLEAR
            words = [candidates[answer].evidence for answer in answers]
            evidence = f"{len(answers)} compete: " + "; ".join([*words, *self._told()])
        return Bottleneck(resource=resource, evidence=evidence, candidates=ordered)

    def _is_idle_queue(self, candidate: Candidate, answer: Candidate) -> bool:
        """Whether it is worth a phrase that uploads did not queue for this one."""
        is_queue = bool(self.rules[candidate.resource].queue)
        return is_queue and not candidate.at_limit and candidate.resource != answer.resource

    def _told(self) -> list[str]:
        """What uploads had waited for, and how the workers shared them, as phrases."""
        phrases = []
        shares = shares_of(self._blamed)
        told = [r for r in sorted(shares, key=lambda r: -shares[r]) if shares[r] >= TOLD]
        if told:
            parts = ", ".join(f"{str(r).replace('_', ' ')} {percent(shares[r])}" for r in told)
            phrases.append(f"what {len(self._blamed)} uploads were late for: {parts}")
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


def split_of(trial: Trial) -> list[str]:
    """How many of the uploads that count each of several workers had, most first, as a phrase."""
    records = (trial.record_of(sample) for sample in trial.sent)
    counts = sorted(Counter(r.worker for r in records if r).values(), reverse=True)
    if len(counts) < 2:
        return []
    *most, last = (str(count) for count in counts)
    return [f"the workers had {', '.join(most)} and {last} of the uploads"]


def shares_of(blamed: Sequence[Shares]) -> Shares:
    """Each resource's share of all the seconds, from 0 to 1."""
    total = fsum(chain.from_iterable(shares.values() for shares in blamed))
    if not total:
        return {}
    resources = dict.fromkeys(chain.from_iterable(blamed))
    return {r: fsum(shares.get(r, 0.0) for shares in blamed) / total for r in resources}


def leading(blamed: Sequence[Shares]) -> list[Resource]:
    """The resource with the largest share, and those that cannot be told from it.

    Args:
        blamed: seconds by resource of each upload, in the order of their sending.
    """
    shares = shares_of(blamed)
    ordered = sorted(shares, key=lambda resource: -shares[resource])
    if not ordered or ordered[0] is Resource.NONE:
        return []
    first = ordered[0]
    return [r for r in ordered if r is not Resource.NONE and _alike(first, r, shares, blamed)]


def _alike(first: Resource, other: Resource, shares: Shares, blamed: Sequence[Shares]) -> bool:
    """Whether the difference of two shares is within what is known of them.

    The difference is a ratio of two sums over uploads, so its error is that of a ratio estimator:
    of what each batch differs from the ratio's share of it (Cochran, Sampling Techniques, ch. 6).
    """
    apart = shares[first] - shares[other]
    size = max(1, len(blamed) // BATCHES)
    batches = [blamed[start : start + size] for start in range(0, len(blamed), size)]
    totals = [fsum(chain.from_iterable(s.values() for s in batch)) for batch in batches]
    off = [
        fsum(s.get(first, 0.0) - s.get(other, 0.0) for s in batch) - apart * total
        for batch, total in zip(batches, totals, strict=True)
    ]
    error = stdev(off) * sqrt(len(off)) / fsum(totals) if len(off) > 1 else 0.0
    return apart <= max(ALIKE, 2 * error)
