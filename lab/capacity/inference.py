"""What a cell's trials say of its threshold: a posterior for each criterion, and their least.

    trials ─┬─ measured times ─> model ─> belief ─┐
            └─ shares ────────────────────────────┴─> posterior ─> fits? ─no─> by the bound, counts

A latency's criterion is believed of by the model. Where trials contradict it, or the network has
something that the model does not know, the capacity bound stands for it, and where they contradict
that too, or there is none, counts alone. All other criteria are by counts. Every step is a function
of the trials, whose order is of no account.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import fsum, inf, log, sqrt

from lab.capacity.belief import Belief, by_bound, by_counts
from lab.capacity.expected import LOOP_FULL, WARMUP_LOOP_S
from lab.capacity.fitted import (
    CellKey,
    MeasuredTimes,
    NetworkModel,
    believed,
    correction_of,
    lead_of,
)
from lab.capacity.posterior import Posterior, posterior, quantile
from lab.capacity.shown import (
    MINUTE_S,
    OF_LATENCY,
    Shown,
    has_moved,
    shown,
    storage_of,
    unsteadiness,
)
from lab.errors import UsageError
from lab.model.capacity import CapacityTrial
from lab.model.criterion import Criterion
from lab.model.experiment import Cell
from lab.model.journeys import Journey
from lab.model.physics import countable_share, max_processes
from lab.model.verdict import Outcome

MAX_STRAIN = 3.1
"""Standard normal deviations of a misfit that chance leaves once in a thousand trials."""

MAX_FACTOR = 3.0
"""How many times as much as simulated batches the measured ones may scatter."""

MAX_OFF = 3.0
"""How many scales of its prior a threshold may be from where it was expected."""

MAX_MOVED = 3
"""So many trials whose stage times moved are made again; after that they are how this cell is."""

BY_LOOP = 3
"""By which power of the share of its time that a loop works a threshold follows what it works for.
In simulations of the replica: hardly at a half, in proportion where it has no room."""

OUTRIGHT = 8.0
"""How many independent uploads a trial stands for of what is counted outright, as a peak is: one of
them misses such a criterion with all of them, or with none."""

OUTRIGHT_SHARE = 0.5


@dataclass(frozen=True)
class Inference:
    """What is known of a cell's threshold by its trials.

    Args:
        cell: whose.
        trials: the valid ones.
        max_users: the search goes no higher.
        by_model: whether the cell's network is simulated at all.
        beside: trials of other cells whose stages take as long, for as long as there are none of
            its own.
    """

    cell: Cell
    trials: tuple[CapacityTrial, ...]
    max_users: int
    by_model: bool = True
    beside: tuple[CapacityTrial, ...] = ()

    @property
    def workers(self) -> int:
        """Processes among which users are split."""
        return max_processes(self.cell)

    @cached_property
    def moved(self) -> tuple[CapacityTrial, ...]:
        """Trials whose stage times moved within them."""
        return tuple(trial for trial in self.trials if has_moved(trial))

    @cached_property
    def used(self) -> tuple[CapacityTrial, ...]:
        """The trials that count: all, where too many moved to leave them out."""
        if len(self.moved) > MAX_MOVED:
            return self.trials
        return tuple(trial for trial in self.trials if not has_moved(trial))

    @cached_property
    def criteria(self) -> tuple[CriterionPosterior, ...]:
        """What is left open of each criterion."""
        return tuple(self._of(criterion) for criterion in self.cell.criteria)

    @cached_property
    def first(self) -> CriterionPosterior:
        """The criterion that breaks first, most likely."""
        return min(self.criteria, key=lambda one: one.posterior.median)

    @property
    def basis(self) -> CriterionPosterior:
        """What the answer rests on: of the criteria on a latency the first to break, if any."""
        told = [one for one in self.criteria if one.posterior.belief.basis != "counts"]
        return min(told, key=lambda one: one.posterior.median, default=self.first)

    def quantile(self, p: float) -> float:
        """Users below whom the cell breaks with probability p; infinite where it may never."""
        return quantile([one.posterior for one in self.criteria], p)

    @cached_property
    def correction(self) -> float:
        """What the threshold at speed 1 is, as a multiple of that at the trials' speed, by the
        model; 1 where the answer does not rest on it."""
        basis, measured = self.basis, self._measured
        median = basis.posterior.median
        if basis.posterior.belief.basis != "model" or not (self.used and measured):
            return 1.0
        lead = lead_of(self._key, measured, self.used)
        model = NetworkModel(self._key, measured.coarse(), lead.share)
        users = max(1, round(min(median, self.max_users)))
        return correction_of(model, users, basis.criterion.bound)

    @property
    def start(self) -> float:
        """Where the first trial is made: the least t0; of what nothing is known, ten users; and one
        user where more files are refused for their size than may fail."""
        if self._fails_alone:
            return 1.0
        told = [one.posterior.belief for one in self.criteria]
        told = [belief for belief in told if belief.basis != "counts"]
        return min((belief.users for belief in told), default=float(min(10, self.max_users)))

    @property
    def _fails_alone(self) -> bool:
        bounds = [c.bound for c in self.cell.criteria if c.name == "error_rate" and c.op in "<="]
        try:
            return any(NetworkModel(self._key).network.oversize > bound for bound in bounds)
        except UsageError:
            return False

    @property
    def warmup(self) -> float:
        """Seconds after the ramp until a trial counts."""
        return self.basis.posterior.belief.warmup

    def _of(self, criterion: Criterion) -> CriterionPosterior:
        """By the first belief that the trials do not contradict; by counts nothing does."""
        shares = [told for trial in self.used if (told := self._shown(criterion, trial))]
        why = ""
        for believe in (self._by_model, self._by_bound):
            belief, problem = believe(criterion, shares)
            if belief is not None:
                found = posterior(belief, shares, self.max_users)
                problem = misfit_of(found)
                if not problem:
                    return CriterionPosterior(criterion, found, why)
            why = problem or why
        allowed = self._allowed(criterion) or OUTRIGHT_SHARE
        belief = by_counts(allowed, self.workers, self.max_users)
        return CriterionPosterior(criterion, posterior(belief, shares, self.max_users), why)

    def _shown(self, criterion: Criterion, trial: CapacityTrial) -> Shown | None:
        if self._allowed(criterion) is not None:
            return shown(criterion, trial, self._storage)
        outcomes = {c.outcome for c in trial.criteria if c.criterion == str(criterion)}
        if not outcomes & {Outcome.HELD, Outcome.BROKE}:
            return None
        share = float(Outcome.BROKE in outcomes)
        return Shown(trial.id, trial.users, trial.window / 60, int(OUTRIGHT), share)

    @cached_property
    def _storage(self) -> list[float]:
        return storage_of(self.used)

    @cached_property
    def _key(self) -> CellKey:
        return CellKey.of(self.cell)

    @cached_property
    def _measured(self) -> MeasuredTimes | None:
        own = MeasuredTimes.of(self.used)
        if own or not (found := MeasuredTimes.of(self.beside)):
            return own
        return replace(found, cpu=None)  # which is another at another speed

    def _by_model(self, criterion: Criterion, shares: Sequence[Shown]) -> tuple[Belief | None, str]:
        """What the model expects; else why it is not asked."""
        if not on_curve(criterion) or not self.by_model:
            return None, ""
        if len(self.moved) > MAX_MOVED:
            return None, "the stage times move within trials"
        asked = criterion.bound, self._allowed(criterion) or OUTRIGHT_SHARE
        try:
            lead = lead_of(self._key, self._measured, self.used)
            belief = believed(self._key, self._measured, lead, asked, self.max_users)
        except UsageError as error:
            return None, error.what
        return self._drifting(belief, shares), ""

    def _by_bound(self, criterion: Criterion, shares: Sequence[Shown]) -> tuple[Belief | None, str]:
        """What the capacity bound says; else why it is not asked."""
        if not on_curve(criterion) or self.cell.target != "vm":
            return None, ""
        try:
            rate = NetworkModel(self._key, self._measured).rate
        except UsageError as error:
            return None, error.what
        allowed = self._allowed(criterion) or OUTRIGHT_SHARE
        belief = by_bound(rate, criterion.bound, allowed, self.workers)
        return self._drifting(belief, shares), ""

    def _drifting(self, belief: Belief, shares: Sequence[Shown]) -> Belief:
        """A belief with what is not known of the cell's times, and what they move by.

        The database's hold the loop: the nearer that is to its limit, the more a threshold follows
        them (`BY_LOOP`).
        """
        loop_share = NetworkModel(self._key, self._measured).loop_share
        if loop_share >= LOOP_FULL:
            belief = replace(belief, warmup=max(belief.warmup, WARMUP_LOOP_S))
        follows = loop_share**BY_LOOP
        drift = unsteadiness(self.trials) * follows**2
        minutes = fsum(trial.window for trial in self.used) / MINUTE_S
        return belief.drifting(drift, minutes, self._storage_error(belief, shares))

    def _storage_error(self, belief: Belief, shares: Sequence[Shown]) -> float:
        """How far log t may be off because storage's answers are known from few: in the mean, and
        in what makes uploads late by itself."""
        if not self._measured or not self._storage:
            return 0.0
        own = max((shown.by_storage for shown in shares), default=0.0)
        odds = sqrt(own / len(self._storage) / (belief.allowed * (1 - belief.allowed)))
        return max(self._measured.storage_error, odds / belief.shape.slope)

    def _allowed(self, criterion: Criterion) -> float | None:
        """The share of uploads that may be beyond the bound; None of what is counted outright."""
        return countable_share(criterion, self.cell.load.timeout_of(criterion.journey))


@dataclass(frozen=True)
class CriterionPosterior:
    """One criterion: what is left open of it, and why more than its belief's basis was given up."""

    criterion: Criterion
    posterior: Posterior
    why: str = ""


def on_curve(criterion: Criterion) -> bool:
    """Whether a model has a curve of it: a share of uploads that take too long."""
    return (
        criterion.metric in OF_LATENCY
        and criterion.journey is Journey.UPLOAD
        and criterion.op in ("<", "<=")
    )


def misfit_of(found: Posterior) -> str:
    """Why trials contradict what was believed; empty where they do not."""
    belief, median = found.belief, found.median
    name = {"model": "the model", "bound": "the capacity bound"}[belief.basis]
    if median == inf or abs(log(median / belief.users)) > MAX_OFF * belief.sigma:
        return f"trials put the threshold far from the {belief.users:.0f} users of {name}"
    if found.factor > MAX_FACTOR:
        return f"shares vary {found.factor:.1f} times as much as {name} says"
    if found.strain > MAX_STRAIN:
        return f"trials do not lie on the curve of {name}"
    return ""
