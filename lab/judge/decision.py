"""From candidates to one answer, or to *unclear* where two compete.

    candidates ─> at their limit ─> less those that are full because another is
                                       ├─> criteria on failures: who made them
                                       └─> criteria on slowness: what uploads queued for

The rules, one a resource, stand in `lab.judge.bottleneck`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence, Set

from lab.judge.bottleneck import RULES, Rules
from lab.judge.trial import Trial
from lab.model.criterion import Criterion
from lab.model.evidence import Cause
from lab.model.physics import PERCENTILES
from lab.model.verdict import Bottleneck, Candidate, Finding, Resource

NEAR = 0.05
"""Levels closer than this count as equal: in a closed network the fullest station alone sets the
rate (asymptotic bounds; Lazowska et al., 1984, ch. 5), but not when another is as full."""

RIVAL = 0.5
"""A resource that made at least this share of what the first made is its rival."""

LATE = (Cause.GATEWAY_TIMEOUT, Cause.CLIENT_TIMEOUT, Cause.REQUEST_TIMEOUT)
"""The failures of uploads that took too long: made by what they queued for."""


def bottleneck(trial: Trial, findings: Sequence[Finding], rules: Rules = RULES) -> Bottleneck:
    """Which resource was at its limit in this trial, and by what evidence.

    Args:
        trial: the evidence.
        findings: the cell's criteria; without a missed one the answer is what uploads queued
            for, if anything: it would be the first to limit.
        rules: what is looked at.
    """
    candidates = [held for rule in rules.values() if (held := rule.candidate(trial))]
    at_limit = [c for c in candidates if c.at_limit]
    effects = {effect for c in at_limit for effect in rules[c.resource].explains}
    full = [c for c in at_limit if c.resource not in effects]
    queues = sorted((c for c in full if rules[c.resource].queue), key=lambda c: -c.level)
    queues = [c for c in queues if c.level > queues[0].level - NEAR]
    missed = {Criterion.parse(f.criterion).metric for f in findings if f.outcome == "missed"}
    slow = bool(missed & {*PERCENTILES, "throughput"})
    failing = _failing(missed, full)
    answers = _makers(trial, full, queues, rules) if failing else []
    # A kill needs no failed upload to be one: an instance may die while it starts.
    killed = [c for c in full if c.resource is Resource.MEMORY and "oom_kills" in missed]
    answers += [c for c in killed if c not in answers]
    if slow or not (failing or killed):
        answers += [c for c in queues if c not in answers]
    if slow and queues:
        # It let in more than what is inside could answer in time, so it did not limit.
        answers = [c for c in answers if c.resource is not Resource.BACKPRESSURE]
    return _answer(trial, answers, candidates, rules)


def _failing(missed: Set[str], full: Iterable[Candidate]) -> bool:
    """Whether a missed criterion is about failed uploads; one of connections is, where Postgres
    refused more of them."""
    refused = any(c.resource is Resource.DATABASE_SLOTS for c in full)
    return (refused and "pg_connections" in missed) or any(
        name == "error_rate" or name.startswith("errors.") for name in missed
    )


def _makers(
    trial: Trial, full: Sequence[Candidate], queues: Sequence[Candidate], rules: Rules
) -> list[Candidate]:
    """Who made the failures: the one that made most, and its rivals."""
    made: Counter[Resource] = Counter()
    for cause in Cause:
        count = trial.failed(cause)
        if cause in LATE:
            late = [c.resource for c in queues] or [Resource.PROXY_TIMEOUT]
            made.update(dict.fromkeys(late, count))
        else:
            made[_maker(cause, full, rules)] += count
    largest = max(made.values(), default=0)
    makers = [
        resource for resource, count in made.most_common() if count and count >= RIVAL * largest
    ]
    by_resource = {c.resource: c for c in full}
    return [by_resource[resource] for resource in makers if resource in by_resource]


def _maker(cause: Cause, full: Iterable[Candidate], rules: Rules) -> Resource:
    """The resource that a failure names, or that which explains why it is full."""
    named = (rule.resource for rule in rules.values() if cause in rule.causes)
    maker = next(named, Resource.NONE)
    explained_by = (c.resource for c in full if maker in rules[c.resource].explains)
    return next(explained_by, maker)


def _answer(
    trial: Trial, answers: Sequence[Candidate], candidates: Sequence[Candidate], rules: Rules
) -> Bottleneck:
    ordered = tuple(sorted(candidates, key=lambda c: (not c.at_limit, -c.level)))
    resource, evidence = Resource.NONE, _nothing(trial, ordered, rules)
    if len(answers) == 1:
        [answer] = answers
        idle = [c for c in candidates if rules[c.resource].queue and not c.at_limit]
        resource, evidence = answer.resource, "; ".join(c.evidence for c in [answer, *idle])
    elif answers:
        resource = Resource.UNCLEAR
        evidence = f"{len(answers)} compete: " + "; ".join(c.evidence for c in answers)
    return Bottleneck(resource=resource, evidence=evidence, candidates=ordered)


def _nothing(trial: Trial, ordered: Sequence[Candidate], rules: Rules) -> str:
    """What can be said where no resource was at its limit."""
    queues = sorted((c for c in ordered if rules[c.resource].queue), key=lambda c: -c.level)
    phrases = ["nothing was at its limit", *(c.evidence for c in queues)]
    named = {cause for rule in rules.values() for cause in rule.causes}
    counts = {cause: trial.failed(cause) for cause in Cause if cause not in named}
    phrases += [f"{cause} {count}" for cause, count in counts.items() if count]
    if "gcs_latency" in trial.metrics:
        phrases.append(f"storage took {trial.metrics['gcs_latency']:.2f} s of an upload")
    return "; ".join(phrases)
