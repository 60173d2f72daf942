"""From an experiment to its cells, how long they will take, and the search for a capacity; pure."""

from lab.plan.estimate import estimate
from lab.plan.expand import expand
from lab.plan.threshold import Search, search_for, trial_cell, trial_of

__all__ = ["Search", "estimate", "expand", "search_for", "trial_cell", "trial_of"]
