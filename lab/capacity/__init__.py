"""The search for a capacity: at how many users a cell begins to fail; pure, but for its runner."""

from lab.capacity.aimed import AimedSearch
from lab.capacity.search import (
    MAX_USERS,
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
    "AimedSearch",
    "CapacitySearch",
    "Search",
    "aimed_for",
    "longest",
    "search_for",
    "trial_cell",
    "trial_of",
]
