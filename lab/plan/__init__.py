"""From an experiment to its cells, how long they will take, and the search for a capacity; pure."""

from lab.plan.estimate import estimate
from lab.plan.expand import expand, no_faster
from lab.plan.halving import USUAL_TRIALS, Halving
from lab.plan.preflight import check_pace, too_few
from lab.plan.threshold import MOST_USERS, Search, longest, search_for, trial_cell, trial_of

__all__ = [
    "MOST_USERS",
    "USUAL_TRIALS",
    "Halving",
    "Search",
    "check_pace",
    "estimate",
    "expand",
    "longest",
    "no_faster",
    "search_for",
    "too_few",
    "trial_cell",
    "trial_of",
]
