"""From an experiment to its cells, and how long they will take; pure."""

from lab.plan.early import earliest_end, never_early
from lab.plan.effect import settings_without_effect, without_effect
from lab.plan.estimate import check_pace, estimate, too_few
from lab.plan.expand import expand, no_faster
from lab.plan.select import check_only, select, uncompared
from lab.plan.sharing import LoopWork, SplitModel
from lab.plan.speed import choose_speed, foreseen, with_split

__all__ = [
    "LoopWork",
    "SplitModel",
    "check_only",
    "check_pace",
    "choose_speed",
    "earliest_end",
    "estimate",
    "expand",
    "foreseen",
    "never_early",
    "no_faster",
    "select",
    "settings_without_effect",
    "too_few",
    "uncompared",
    "with_split",
    "without_effect",
]
