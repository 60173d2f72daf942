"""At how many users a cell begins to fail: the search that measures it, and the model that predicts
it (`lab.capacity.predict`); pure, but for the search's runner."""

from lab.capacity.search import (
    MAX_USERS,
    USUAL_TRIALS,
    CapacitySearch,
    Search,
    longest,
    search_for,
    trial_cell,
    trial_of,
)

__all__ = [
    "MAX_USERS",
    "USUAL_TRIALS",
    "CapacitySearch",
    "Search",
    "longest",
    "search_for",
    "trial_cell",
    "trial_of",
]
