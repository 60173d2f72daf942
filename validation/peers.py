"""Other ways to search for a threshold, beside which the lab's is held.

A plain staircase climbs and halves the numbers of users that the lab's own halving would, and takes
what trials seem to show for the truth: one trial at each number, or so many at both ends. MLRsearch
(Polak and Konstantynowicz, draft-ietf-bmwg-mlrsearch) is a package of that name; where it is not
installed, nothing is said of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Protocol

from lab.capacity.state import SearchSettings, allowed_width
from lab.model.capacity import CapacityTrial, Threshold, TrialRequest

ALLOWED = 0.05


class Method(Protocol):
    """A way to search: see `lab.capacity.search.Search`."""

    def next(self, cell: str, trials: Sequence[CapacityTrial], /) -> TrialRequest | Threshold:
        """The trial to make next, or the answer."""
        ...


@dataclass(frozen=True)
class Staircase:
    """Trials taken at their word.

    Args:
        settings: whose ladder is climbed.
        window: of each trial, in real-world seconds.
        at_ends: how many trials both ends of the answer rest on.
    """

    settings: SearchSettings
    window: float = 60.0
    at_ends: int = 1

    def next(self, cell: str, trials: Sequence[CapacityTrial]) -> TrialRequest | Threshold:
        """The trial to make next, or the answer."""
        levels: dict[int, list[CapacityTrial]] = {}
        for trial in trials:
            levels.setdefault(trial.users, []).append(trial)
        top = self.settings.max_users + 1
        high = min((n for n, made in levels.items() if _broke(made)), default=top)
        low = max((n for n in levels if n < high), default=0)
        if high == top and low < self.settings.max_users:
            return self._trial(next(n for n in self.settings.ladder if n > low), "climbing")
        if high - low > allowed_width(low) and low < self.settings.max_users:
            return self._trial((low + high) // 2, "halving")
        for end in (low, high):
            if 0 < len(levels.get(end, ())) < self.at_ends:
                return self._trial(end, "making sure")
        return Threshold(
            id=cell,
            holds_at=low or None,
            breaks_at=None if high == top else high,
            crossed_first=None,
            confidence=0,
            outcome="found",
            reason="trials were taken at their word",
            trials=tuple(trial.without_times() for trial in trials),
        )

    def _trial(self, users: int, why: str) -> TrialRequest:
        return TrialRequest(users=users, window=self.window, why=why)


def _broke(trials: Sequence[CapacityTrial]) -> bool:
    """Whether any criterion's share, of all trials at a number of users, is as large as allowed."""
    for counts in zip(*(trial.criteria for trial in trials), strict=True):
        of = sum(count.samples or 0 for count in counts)
        if of and sum(count.violations or 0 for count in counts) / of >= ALLOWED:
            return True
    return False


def has_mlrsearch() -> bool:
    """Whether the package is installed."""
    return find_spec("MLRsearch") is not None


def mlrsearch(
    measure: Callable[[int, float], CapacityTrial],
    max_users: int,
    trial_s: float = 300.0,
    sum_s: float = 3000.0,
) -> tuple[int, int]:
    """The interval that MLRsearch finds: users at whom it holds, 0 for none, and breaks.

    Args:
        measure: one trial with so many users, for so many seconds.
        max_users: its highest load; users stand for its transactions a second.
        trial_s: its longest trial.
        sum_s: for how long a load is measured in all before it is a bound.
    """
    import MLRsearch as mlr  # type: ignore[import-not-found, unused-ignore]  # noqa: N813

    class Measurer(mlr.AbstractMeasurer):  # type: ignore[misc, unused-ignore]
        def measure(self, intended_duration: float, intended_load: float) -> Any:
            trial = measure(max(1, int(intended_load)), intended_duration)
            late = max((count.violations or 0 for count in trial.criteria), default=0)
            return mlr.MeasurementResult(
                intended_duration, intended_load, offered_count=trial.sent, loss_count=late
            )

    config = mlr.Config()
    config.min_load = 1.0  # first: the highest load has to be above it
    config.max_load = float(max_users + 1)
    config.search_duration_max, config.warmup_duration = 3600.0, None
    goal = mlr.SearchGoal(
        loss_ratio=ALLOWED,
        relative_width=0.1,
        initial_trial_duration=60.0,
        final_trial_duration=trial_s,
        duration_sum=sum_s,
        fail_fast=False,
    )
    config.goals = [goal]
    quiet: Callable[[str], None] = lambda _text: None  # noqa: E731
    result = mlr.MultipleLossRatioSearch(config).search(Measurer(), quiet)[goal]
    lower, upper = result.relevant_lower_bound, result.relevant_upper_bound
    holds = int(float(lower)) if lower is not None else 0
    breaks = int(float(upper)) if upper is not None else max_users + 1
    return holds, max(holds + 1, breaks)
