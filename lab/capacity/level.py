"""What the trials at one number of users show together: does it hold there, or break?

Each criterion's counts are turned into an e-value for either side (`lab.model.evalues`), so a
search may look after every trial, and go on for as long as it is undecided. A trial is a row of
minutes that are nearly independent: a longer trial shows more in proportion to its length, and its
correlation is that of a minute, divided by its minutes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import exp, inf, log, sqrt

from lab.model.capacity import CapacityTrial, CriterionCount
from lab.model.evalues import CORRELATION, ODDS, Side, bets, correlation_within, mean_bet
from lab.model.verdict import Outcome


def confidence(count: CriterionCount, correlation: float = CORRELATION) -> float:
    """How sure one trial alone is of its side: 1 - 1/e of the larger e-value, from 0 to 1.

    Args:
        count: a criterion in that trial.
        correlation: between its uploads.
    """
    alone = CriterionEvidence((count,), (correlation,))
    e = max(alone.log_e("held"), alone.log_e("broke"))
    return round(max(0.0, 1 - exp(-e)), 6)


@dataclass(frozen=True)
class LoadLevel:
    """All valid trials at one number of users; ``correlation`` is that within `BATCH_S`."""

    users: int
    trials: tuple[CapacityTrial, ...]
    correlation: float = CORRELATION

    @property
    def sent(self) -> int:
        """Uploads sent in the windows of all trials."""
        return sum(trial.sent for trial in self.trials)

    @property
    def rate(self) -> float:
        """Uploads a second."""
        return self.sent / sum(trial.window for trial in self.trials)

    @property
    def overhead(self) -> float:
        """What a trial takes beside its window, in real-world seconds: the mean."""
        return sum(trial.spent - trial.window for trial in self.trials) / len(self.trials)

    @property
    def side(self) -> Side | None:
        """Where it seems to be; None while a criterion that is not seen missed has no evidence.

        At least one criterion that seems missed makes it broke.
        """
        sides = [criterion.side for criterion in self._criteria]
        if "broke" in sides:
            return "broke"
        return "held" if sides and None not in sides else None

    def log_e(self, side: Side) -> float:
        """Of the cell: all criteria must hold, or any must break.

        To show that all hold takes the least of their evidence. That some one breaks is
        bet on each in equal parts.
        """
        return self._of_all([criterion.log_e(side) for criterion in self._criteria], side)

    def crossed(self) -> str | None:
        """The criterion that most surely breaks."""
        worst = max(self._criteria, key=lambda criterion: criterion.log_e("broke"), default=None)
        return worst.name if worst else None

    def gain(self, side: Side, window: float, hope: float = 0.0) -> float:
        """What one more trial of such a window, that goes as those before, would add to `log_e`.

        Args:
            side: what is to be shown.
            window: of that trial, in real-world seconds.
            hope: by how many standard errors the share is better for that side than it seems.
        """
        more = round(self.rate * window) / self.sent if self.sent else 0.0
        within = correlation_within(window, self.correlation)
        foreseen = [criterion.foreseen(side, more, within, hope) for criterion in self._criteria]
        return self._of_all(foreseen, side) - self.log_e(side)

    def _of_all(self, evidence: Sequence[float], side: Side) -> float:
        if not evidence:
            return 0.0
        return min(evidence) if side == "held" else max(evidence) - log(len(evidence))

    @cached_property
    def _criteria(self) -> list[CriterionEvidence]:
        by_criterion = zip(*(trial.criteria for trial in self.trials), strict=True)
        within = tuple(correlation_within(trial.window, self.correlation) for trial in self.trials)
        return [CriterionEvidence(counts, within) for counts in by_criterion]


@dataclass(frozen=True)
class CriterionEvidence:
    """One criterion in all trials at one number of users, with the correlation in each."""

    trials: tuple[CriterionCount, ...]
    correlations: tuple[float, ...]

    @property
    def name(self) -> str:
        return self.trials[0].criterion

    @cached_property
    def counts(self) -> list[tuple[int, int, float]]:
        """Of the trials that counted uploads; empty for what is counted outright."""
        return [
            (count.violations, count.samples, within)
            for count, within in zip(self.trials, self.correlations, strict=True)
            if count.violations is not None and count.samples
        ]

    @cached_property
    def side(self) -> Side | None:
        """Where the share of violations lies, or what was counted outright."""
        if self.counts:
            return "broke" if self._violations / self._samples >= self._allowed else "held"
        outcomes = [count.outcome for count in self.trials]
        if Outcome.BROKE in outcomes:
            return "broke"
        return "held" if Outcome.HELD in outcomes else None

    def log_e(self, side: Side) -> float:
        """Evidence for a side. What is counted outright is certain: once missed is missed."""
        if self._is_share:
            return mean_bet(self._bets[side])
        unshown = self.counts and not self._violations
        if unshown or self.side is None:  # that nothing ever fails, no number of uploads shows
            return 0.0
        return inf if self.side == side else -inf

    def foreseen(self, side: Side, more: float, within: float, hope: float) -> float:
        """`log_e` with one more trial that goes as all before it went.

        Args:
            side: what is to be shown.
            more: how long the trial is, in parts of all trials so far.
            within: the correlation between its uploads.
            hope: by how many standard errors the share is better for that side than it seems.
        """
        if not self._is_share:
            return self.log_e(side)
        share = (self._violations + 0.5) / (self._samples + 1)
        better = hope * self._standard_error(share) * (-1 if side == "held" else 1)
        samples = round(self._samples * more)
        violations = round(min(1.0, max(0.0, share + better)) * samples)
        added = bets([(violations, samples, within)], self._allowed, side)
        return mean_bet([sum(pair) for pair in zip(self._bets[side], added, strict=True)])

    def _standard_error(self, share: float) -> float:
        """Of the share in all trials: they vary more than independent uploads would."""
        spread = sum(n * (1 + (n - 1) * within) for _, n, within in self.counts) / self._samples
        return sqrt(share * (1 - share) * spread / self._samples)

    @cached_property
    def _violations(self) -> int:
        return sum(violations for violations, _, _ in self.counts)

    @cached_property
    def _samples(self) -> int:
        return sum(samples for _, samples, _ in self.counts)

    @cached_property
    def _bets(self) -> dict[Side, list[float]]:
        return {side: bets(self.counts, self._allowed, side) for side in ODDS}

    @property
    def _is_share(self) -> bool:
        return bool(self.counts) and 0 < self._allowed < 1

    @cached_property
    def _allowed(self) -> float:
        return next(count.allowed for count in self.trials if count.allowed is not None)
