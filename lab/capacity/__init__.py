"""At how many users a cell begins to fail: the search that measures it, and the model that predicts
it (`lab.capacity.predict`); pure, but for the search's runner."""

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
