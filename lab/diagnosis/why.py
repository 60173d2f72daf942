"""The limit that the judge named, put to the proof.

    the cell as it is ─> more of what is named ─> more of each other that may be it ─> the answer
                                     └─ nothing alone moves it ─> more of two ─┘

`Proof.next` is a pure function from the trials so far to the next one, or to the answer, so a
diagnosis that was interrupted goes on from what is stored. Those come first that are most likely,
and none that could not change the answer: what was nowhere near its limit, or makes an upload's own
work shorter, which any queue is the better for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations

from lab.diagnosis.trials import (
    RATE,
    Impossible,
    Moved,
    changed,
    effect_of,
    is_outdone,
    label_of,
    relaxation_of,
    relaxed_settings,
)
from lab.model.criterion import Criterion
from lab.model.diagnosis import RELAXED, Diagnosis, Effect, RelaxedTrial, Untried
from lab.model.experiment import Cell
from lab.model.run import CellResult
from lab.model.units import percent
from lab.model.verdict import Bottleneck, Candidate, Finding, Outcome, Resource

LIKELY = 0.5
"""The level from which on a resource may be the limit."""

WAITED = 0.05
"""Or the share of what uploads were late for."""

ALONE: Mapping[Effect | None, str] = {
    "moved": "moves it",
    "unmoved": "does not move it",
    "unclear": "does not tell",
    "unmeasured": "could not be measured",
    None: "was not tried",
}
"""What more of one resource did, in words."""

NAMES_NONE = (Resource.NONE, Resource.UNCLEAR)

Resources = tuple[Resource, ...]


@dataclass(frozen=True)
class Proof:
    """A diagnosis under way.

    Args:
        cell: which.
        before: what was measured of it as it is.
        trials: what was measured with more of some resources, by these.
        refused: why the stack cannot make a trial, by its resources.
        spent: whether no further trial is to be made.
    """

    cell: Cell
    before: CellResult
    trials: Mapping[Resources, CellResult] = field(default_factory=dict)
    refused: Mapping[Resources, str] = field(default_factory=dict)
    spent: bool = False

    def next(self) -> Cell | Diagnosis:
        """The next trial to be made, or the answer."""
        if not self.missed or self.before.verdict is not Outcome.BROKE:
            return self._nothing_to_prove()
        for resources in self._wanted():
            if resources not in self.trials and not self.spent:
                trial = self._trial(resources)
                if isinstance(trial, Cell):
                    return trial
        return self._answer()

    @cached_property
    def missed(self) -> list[Criterion]:
        """The criteria that the cell missed."""
        missed = (f for f in self.before.findings if f.outcome == "missed")
        return [Criterion.parse(finding.criterion) for finding in missed]

    @property
    def named(self) -> Resource | None:
        """The limit that the judge named; None where it named none."""
        limit = self._limit.resource
        return None if limit in NAMES_NONE else limit

    @property
    def _limit(self) -> Bottleneck:
        return self.before.limit or Bottleneck(resource=Resource.NONE, evidence="")

    def _trial(self, resources: Resources) -> Cell | Impossible:
        if resources in self.refused:
            return Impossible(self.refused[resources])
        settings = relaxed_settings(self.cell, resources)
        if isinstance(settings, Impossible):
            return settings
        return changed(self.cell, RELAXED, label_of(resources), settings)

    # What is tried, in order.

    def _wanted(self) -> Iterator[Resources]:
        """What is worth a trial by what is known so far."""
        yield from self._singles
        if not any(self._effect(one) == "moved" for one in self._singles):
            for pair in self._pairs:
                yield pair
                if self._effect(pair) == "moved":
                    yield from self._of_pair(pair)
                    return

    @property
    def _singles(self) -> list[Resources]:
        return [(resource,) for resource in (*self._first, *self._others)]

    def _of_pair(self, pair: Resources) -> list[Resources]:
        """Each of two that move it together, which nothing else gave reason to try alone."""
        return [(one,) for one in pair if (one,) not in self._singles]

    @property
    def _first(self) -> list[Resource]:
        return [self.named] if self.named else []

    @cached_property
    def _others(self) -> list[Resource]:
        """The others that may be the limit, the likeliest first."""
        likely = [c for c in self._limit.candidates if _may_be(c) and c.resource != self.named]
        likely.sort(key=lambda c: (not c.at_limit, -(c.waited or 0.0), -c.level))
        return [c.resource for c in likely]

    @property
    def _pairs(self) -> list[Resources]:
        """Two at once: the named one with what was the limit once there was more of it, and then
        any two that may be.

        Those are not tried where no figure can move, because of none it is known how well it is
        known, as in a burst or in stages: what each one does alone stays open then, and with it
        what the limit is, unless all that was missed is met.
        """
        pairs = combinations((*self._first, *self._others), 2) if self._figures_known else ()
        return list(dict.fromkeys((*self._behind, *pairs)))

    @property
    def _figures_known(self) -> bool:
        """Whether a figure of what was missed, or the rate, has an error that is known."""
        return not {RATE, *(one.name for one in self.missed)}.isdisjoint(self.before.spreads)

    @property
    def _behind(self) -> list[Resources]:
        """The named one with the limit that stood right behind it."""
        trial = self.trials.get((self.named,)) if self.named else None
        if self.named is None or trial is None or trial.limit is None:
            return []
        behind = trial.limit.resource
        relaxation = relaxation_of(behind)
        lifts = behind != self.named and relaxation and not relaxation.serves
        return [(self.named, behind)] if lifts else []

    # What came of it.

    def _effect(self, resources: Resources) -> Effect | None:
        trial = self.trials.get(resources)
        return self._moved(trial).effect if trial else None

    def _moved(self, trial: CellResult) -> Moved:
        return effect_of(self.missed, trial, self.before)

    def _told(self) -> tuple[RelaxedTrial, ...]:
        """The trials in the order in which they are made, however they were read."""
        ordered = [one for one in self._wanted() if one in self.trials]
        return tuple(self._row(one, self.trials[one]) for one in ordered)

    def _row(self, resources: Resources, trial: CellResult) -> RelaxedTrial:
        moved = self._moved(trial)
        settings = relaxed_settings(self.cell, resources)
        texts = (r.text for one in resources if (r := relaxation_of(one)))
        return RelaxedTrial(
            id=trial.id,
            relaxed=resources,
            what=", ".join(texts),
            settings={} if isinstance(settings, Impossible) else settings,
            outcome=trial.verdict,
            limit=trial.limit.resource if trial.limit else None,
            effect=moved.effect,
            changes=moved.changes,
            reason=moved.reason,
        )

    def _untried(self) -> tuple[Untried, ...]:
        """What was not tried, and why; where there is nothing to prove, nothing is missing."""
        untried: list[Untried] = []
        if self.before.verdict is not Outcome.BROKE:
            return ()
        for candidate in self._limit.candidates:
            resource = candidate.resource
            if (resource,) in self.trials:
                continue
            if why := self._why_not(candidate):
                untried.append(Untried(resource=resource, why=why))
        return tuple(untried)

    def _why_not(self, candidate: Candidate) -> str:
        resource = candidate.resource
        relaxation = relaxation_of(resource)
        if resource != self.named and relaxation and relaxation.serves:
            return "an upload's own work: any queue is the better for less of it"
        if resource != self.named and relaxation is None and candidate.at_limit:
            return f"at its limit, and nothing gives more of it alone: {candidate.evidence}"
        if resource != self.named and not _may_be(candidate):
            return f"nowhere near its limit: {candidate.evidence}"
        trial = self._trial((resource,))
        return trial.why if isinstance(trial, Impossible) else "no time was left"

    def _answer(self) -> Diagnosis:
        pairs = [two for two in self._pairs if self._effect(two) == "moved"]
        singles = [*self._singles, *(self._of_pair(pairs[0]) if pairs else ())]
        moved = [one for (one,) in singles if self._effect((one,)) == "moved"]
        open_ends = [label_of(one) for one in singles if self._open(one)]
        if self.named and moved == [self.named] and not open_ends:
            return self._diagnosis("proven", (self.named,), _proven(self, self.named))
        if len(moved) > 1:
            return self._diagnosis("shared", tuple(moved), _either(self, moved))
        if moved and not (open_ends and moved != [self.named]):
            if moved == [self.named]:
                return self._diagnosis("undecided", tuple(moved), _others_open(self, open_ends))
            outcome = "withdrawn" if self.named else "proven"
            return self._diagnosis(outcome, tuple(moved), _another(self, moved[0]))
        if pairs:
            alone = [
                label_of((one,)) for one in pairs[0] if not self._surely_not_alone(one, pairs[0])
            ]
            if alone:
                return self._diagnosis("undecided", pairs[0], _others_open(self, alone))
            return self._diagnosis("shared", pairs[0], _together(self, pairs[0]))
        open_ends += [] if moved else [label_of(two) for two in self._pairs if self._open(two)]
        if open_ends or not self.trials:
            return self._diagnosis("undecided", tuple(moved), _others_open(self, open_ends))
        return self._diagnosis("withdrawn", (), _nothing(self))

    def _open(self, resources: Resources) -> bool:
        """Whether it is not known what more of it does, and could be."""
        effect = self._effect(resources)
        if effect is None:  # what is named is not withdrawn because nobody could try it
            return resources == (self.named,) or isinstance(self._trial(resources), Cell)
        return effect in ("unclear", "unmeasured") and not self._outdone(resources)

    def _surely_not_alone(self, resource: Resource, pair: Resources) -> bool:
        """Whether one of two that together move it does not do so alone, as far as it can be had
        alone: what tells nothing alone still misses what both meet, or is outdone where both surely
        did twice as much."""
        if self._effect((resource,)) != "unclear":
            return self._effect((resource,)) is not None or not self._open((resource,))
        one, both = self.trials[resource,], self.trials[pair]
        held = {f.criterion for f in both.findings if f.outcome == "met"}
        still = {f.criterion for f in one.findings if f.outcome == "missed"}
        if not {*map(str, self.missed)}.isdisjoint(held & still):
            return True
        return is_outdone(self.missed, one, both, self.before)

    def _outdone(self, resources: Resources) -> bool:
        """Whether it tells nothing alone, and something that moved it surely did twice as much."""
        if self._effect(resources) != "unclear":
            return False
        trial = self.trials[resources]
        movers = (one for one in self._singles if self._effect(one) == "moved")
        return any(is_outdone(self.missed, trial, self.trials[one], self.before) for one in movers)

    def _diagnosis(self, outcome: str, limit: Resources, text: str) -> Diagnosis:
        return Diagnosis.model_validate(
            {
                "id": self.cell.id,
                "outcome": outcome,
                "verdict": self.before.verdict,
                "named": self.named,
                "limit": limit,
                "missed": tuple(map(str, self.missed)),
                "trials": self._told(),
                "untried": self._untried(),
                "text": text,
            }
        )

    def _nothing_to_prove(self) -> Diagnosis:
        outcome = "invalid" if self.before.verdict is Outcome.INVALID else "unbroken"
        if self.before.verdict is Outcome.UNDECIDED:
            outcome = "undecided"
        reason = self.before.reasons[0] if self.before.reasons else "nothing was measured"
        text = f"{self.cell.id} is {self.before.verdict}: {reason}."
        if outcome == "unbroken":
            text = f"{self.cell.id} held, so it has no limit to prove; {nearest(self.before)}."
        return self._diagnosis(outcome, (), text)

    def sentence(self, resources: Resources) -> str:
        """What more of some resources did: ``twice the threads: p95 0.5 x (0.47 .. 0.53)``."""
        row = self._row(resources, self.trials[resources])
        then = f"; the limit then is {row.limit}" if row.limit else ""
        return f"{row.what}: {row.reason}, {row.outcome}{then}"

    @property
    def goes_on(self) -> bool:
        """Whether there is a trial that was left out for want of time."""
        return self.spent and isinstance(replace(self, spent=False).next(), Cell)

    @property
    def telling(self) -> list[Resource]:
        """The named one and those that moved it, of what was tried."""
        singles = [one for one in (*self._first, *self._others) if (one,) in self.trials]
        return [one for one in singles if one == self.named or self._effect((one,)) == "moved"]

    def unmoved(self) -> str:
        """What did not move it, in a few words; empty where nothing else was tried."""
        names = [str(one) for (one, *more) in self.trials if not more and self._stayed(one)]
        outdone = [label_of(one) for one in self._singles if self._outdone(one)]
        missing = [str(one) for one in self._others if (one,) not in self.trials]
        texts = [
            *([f"More of {' or '.join(names)} did not."] if names else []),
            *([f"More of {' or '.join(outdone)} did less than half of that."] if outdone else []),
            *([f"More of {' or '.join(missing)} could not be tried."] if missing else []),
        ]
        return " ".join(texts) or "Nothing else was near its limit."

    def pairs_unmoved(self) -> str:
        """Which two together did not move it either; empty where none were tried."""
        tried = [pair for pair in self._pairs if pair in self.trials]
        if not tried:
            return ""
        if len(tried) == len(self._pairs):
            return " Nor did any two of them."
        return f" Nor did {' or '.join(map(label_of, tried))} together."

    def alone(self, pair: Resources) -> str:
        """What is known of each of two resources without the other."""
        effects = {one: self._effect((one,)) for one in pair}
        if set(effects.values()) == {"unmoved"}:
            return "neither alone moves it"
        return ", ".join(f"{one} alone {ALONE[effect]}" for one, effect in effects.items())

    def _stayed(self, resource: Resource) -> bool:
        return self._effect((resource,)) == "unmoved"


def _may_be(candidate: Candidate) -> bool:
    """Whether a resource may be the limit, so that more of it is worth a trial."""
    relaxation = relaxation_of(candidate.resource)
    if relaxation is None or relaxation.serves:
        return False
    near = candidate.at_limit or candidate.level >= LIKELY
    return near or (candidate.waited or 0.0) >= WAITED


def nearest(cell: CellResult) -> str:
    """Which criterion of a cell that held is nearest to being missed."""
    shares = {finding.criterion: _near(finding) for finding in cell.findings}
    known = {criterion: share for criterion, share in shares.items() if share is not None}
    if not known:
        return "none of its criteria says how near it is to being missed"
    criterion = max(known, key=lambda name: known[name])
    return f"nearest to being missed is {criterion}, at {percent(known[criterion])} of its bound"


def _near(finding: Finding) -> float | None:
    """How near a figure is to its bound, 1 being there."""
    criterion, value = Criterion.parse(finding.criterion), finding.value
    if value is None or not criterion.bound:
        return None
    if criterion.op in ("<", "<="):
        return value / criterion.bound
    return criterion.bound / value if value else None


# The answer in words.


def _subject(proof: Proof) -> str:
    missed = " and ".join(map(str, proof.missed))
    return f"{proof.cell.id} misses {missed}"


def _proven(proof: Proof, named: Resource) -> str:
    told = proof.sentence((named,))
    return f"{_subject(proof)}, and the limit is {named}, proven: {told}. {proof.unmoved()}"


def _either(proof: Proof, moved: Sequence[Resource]) -> str:
    each = ". ".join(f"More of {one}: {proof.sentence((one,))}" for one in moved)
    names = f"{', '.join(moved[:-1])} and {moved[-1]}"
    way = "either" if len(moved) == 2 else "each"
    return f"{_subject(proof)}, and {names} share the limit: {way} moves it. {each}."


def _together(proof: Proof, pair: Resources) -> str:
    told = proof.sentence(pair)
    first, second = pair
    return (
        f"{_subject(proof)}, and {first} and {second} share the limit: {proof.alone(pair)}, and"
        f" both together move it. With {told}."
    )


def _another(proof: Proof, moved: Resource) -> str:
    told = proof.sentence((moved,))
    named = f"{proof.named}, which was named, is withdrawn" if proof.named else "no limit was named"
    proven = "is the limit" if proof.named else "is the limit, proven"
    return f"{_subject(proof)}; {named}, and {moved} {proven}: {told}. {proof.unmoved()}"


def _nothing(proof: Proof) -> str:
    named = f"{proof.named}, which was named, is withdrawn" if proof.named else "no limit was named"
    return f"{_subject(proof)}; {named}: {proof.unmoved()}{proof.pairs_unmoved()}"


def _others_open(proof: Proof, open_ends: Sequence[str]) -> str:
    told = "".join(f" More of {one}: {proof.sentence((one,))}." for one in proof.telling)
    missing = ", ".join(open_ends) or "every resource"
    more = " `lab why --resume` goes on with what was not tried." if proof.goes_on else ""
    return (
        f"{_subject(proof)}, and what the limit is stays open: nothing tells of {missing}.{told}"
        f"{more}"
    )
