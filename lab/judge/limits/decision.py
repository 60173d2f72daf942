"""From candidates to one answer, or to *unclear* where two compete.

    rules ─> at their limit ─> less what another explains ─> what explains what was missed

A resource can be full because another is: Postgres refuses connections, so pools cannot
fill; a core is used up, so the event loop is late; uploads queue for something, so nginx
cuts them off. `EXPLAINS` holds these, cause before effect. What is left is asked for what
the cell missed: failures name the resource that made them, each by its cause; slowness is
made by what uploads queue for. Two answers of like weight are no answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set

from lab.judge.limits import (
    backpressure,
    body_limit,
    cpu,
    database_slots,
    default_executor,
    event_loop,
    instance_queue,
    memory,
    own_threads,
    pool,
    proxy_timeout,
    rate_limit,
)
from lab.judge.limits.case import Case
from lab.judge.metrics import PERCENTILES
from lab.model.criterion import Criterion
from lab.model.evidence import Cause
from lab.model.verdict import Bottleneck, Candidate, Finding, Resource

RULES: Mapping[Resource, Callable[[Case], Candidate | None]] = {
    module.RESOURCE: module.rule
    for module in (
        event_loop,
        default_executor,
        own_threads,
        pool,
        database_slots,
        body_limit,
        proxy_timeout,
        rate_limit,
        backpressure,
        instance_queue,
        memory,
        cpu,
    )
}

MADE_BY: Mapping[Cause, Resource] = {
    cause: module.RESOURCE
    for module in (
        pool,
        database_slots,
        body_limit,
        rate_limit,
        backpressure,
        instance_queue,
        memory,
    )
    for cause in module.CAUSES
}
"""The failures that name the resource that made them."""

LATE = (Cause.GATEWAY_TIMEOUT, Cause.CLIENT_TIMEOUT, Cause.REQUEST_TIMEOUT)
"""The failures of uploads that took too long: made by what they queued for."""

QUEUES = (
    Resource.EVENT_LOOP,
    Resource.DEFAULT_EXECUTOR,
    Resource.OWN_THREADS,
    Resource.POOL,
    Resource.CPU,
)
"""What uploads wait for. The others turn uploads away, or cut them off."""

EXPLAINS: Mapping[Resource, tuple[Resource, ...]] = {
    Resource.DATABASE_SLOTS: (Resource.POOL,),
    Resource.CPU: (Resource.EVENT_LOOP,),
    **{queue: (Resource.PROXY_TIMEOUT,) for queue in QUEUES if queue is not Resource.CPU},
}

NEAR = 0.05
"""Levels closer than this are alike: in a closed network the fullest station alone sets the rate
(asymptotic bounds; Lazowska et al., 1984, ch. 5), but not when another is as full."""

RIVAL = 0.5
"""A resource that made at least this share of what the first made is its rival."""


def limiting_factor(case: Case, findings: Sequence[Finding]) -> Bottleneck:
    """Which resource was at its limit in this cell, and by what evidence.

    Args:
        case: the evidence.
        findings: the cell's criteria; without a missed one the answer is what uploads queued
            for, if anything: it would be the first to limit.
    """
    seen = [found for rule in RULES.values() if (found := rule(case))]
    full = _unexplained([one for one in seen if one.at_limit])
    queues = _fullest(one for one in full if one.resource in QUEUES)
    missed = {Criterion.parse(f.criterion).metric for f in findings if f.outcome == "missed"}
    slow = bool(missed & {*PERCENTILES, "throughput"})
    failing = _failing(missed, full)
    answers = _makers(case, full, queues) if failing else []
    # A kill needs no failed upload to be one: an instance may die while it starts.
    killed = [one for one in full if one.resource is Resource.MEMORY and "oom_kills" in missed]
    answers += [one for one in killed if one not in answers]
    if slow or not (failing or killed):
        answers += [one for one in queues if one not in answers]
    if slow and queues:
        # It let in more than what is inside could answer in time, so it did not limit.
        answers = [one for one in answers if one.resource is not Resource.BACKPRESSURE]
    return _answer(case, answers, seen)


def _failing(missed: Set[str], full: Iterable[Candidate]) -> bool:
    """Whether what the cell missed is made by failures: too many connections are, where Postgres
    refused the rest of them."""
    refused = any(one.resource is Resource.DATABASE_SLOTS for one in full)
    return (refused and "pg_connections" in missed) or any(
        name == "error_rate" or name.startswith("errors.") for name in missed
    )


def _unexplained(full: list[Candidate]) -> list[Candidate]:
    """Those that are not full because another is."""
    effects = {effect for one in full for effect in EXPLAINS.get(one.resource, ())}
    return [one for one in full if one.resource not in effects]


def _fullest(queues: Iterable[Candidate]) -> list[Candidate]:
    ordered = sorted(queues, key=lambda one: -one.level)
    return [one for one in ordered if one.level > ordered[0].level - NEAR]


def _makers(case: Case, full: Sequence[Candidate], queues: Sequence[Candidate]) -> list[Candidate]:
    """Who made the failures: the one that made most, and its rivals."""
    by_name = {one.resource: one for one in full}
    made: Counter[Resource] = Counter()
    for cause in Cause:
        count = case.failed(cause)
        if cause in LATE:
            late = [one.resource for one in queues] or [Resource.PROXY_TIMEOUT]
            made.update(dict.fromkeys(late, count))
        else:
            made[_maker(cause, by_name)] += count
    most = max(made.values(), default=0)
    makers = [name for name, count in made.most_common() if count and count >= RIVAL * most]
    return [by_name[name] for name in makers if name in by_name]


def _maker(cause: Cause, full: Mapping[Resource, Candidate]) -> Resource:
    maker = MADE_BY.get(cause, Resource.NONE)
    explained = Resource.DATABASE_SLOTS in full and maker is Resource.POOL
    return Resource.DATABASE_SLOTS if explained else maker


def _answer(case: Case, answers: Sequence[Candidate], seen: Sequence[Candidate]) -> Bottleneck:
    ordered = tuple(sorted(seen, key=lambda one: (not one.at_limit, -one.level)))
    if len(answers) == 1:
        [one] = answers
        idle = [c.evidence for c in seen if c.resource in QUEUES and not c.at_limit]
        words = "; ".join([one.evidence, *idle])
        return Bottleneck(resource=one.resource, evidence=words, candidates=ordered)
    if answers:
        words = f"{len(answers)} compete: " + "; ".join(one.evidence for one in answers)
        return Bottleneck(resource=Resource.UNCLEAR, evidence=words, candidates=ordered)
    return Bottleneck(resource=Resource.NONE, evidence=_nothing(case, ordered), candidates=ordered)


def _nothing(case: Case, ordered: Sequence[Candidate]) -> str:
    """What can be said where no resource was at its limit."""
    queues = sorted((one for one in ordered if one.resource in QUEUES), key=lambda c: -c.level)
    words = ["nothing was at its limit", *(one.evidence for one in queues)]
    other = {cause: case.failed(cause) for cause in Cause if cause not in MADE_BY}
    words += [f"{cause} {count}" for cause, count in other.items() if count]
    if "gcs_latency" in case.metrics:
        words.append(f"storage took {case.metrics['gcs_latency']:.2f} s of an upload")
    return "; ".join(words)
