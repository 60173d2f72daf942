"""The search for a capacity: at how many users a cell begins to fail; pure, but for its runner."""

from lab.capacity.aimed import AimedSearch
from lab.capacity.search import (
    MAX_USERS,
    USUAL_TRIALS,
    CapacitySearch,
    Search,
    aimed_for,
    longest,
    search_for,
    trial_cell,
    trial_of,
)

__all__ = [
    "MAX_USERS",
    "USUAL_TRIALS",
    "AimedSearch",
    "CapacitySearch",
    "Search",
    "aimed_for",
    "longest",
    "search_for",
    "trial_cell",
    "trial_of",
]
