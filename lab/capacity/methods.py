"""The methods by which a threshold is searched: a row each, the usual one first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lab.capacity.aimed import MIN_TRIALS
from lab.capacity.search import USUAL_TRIALS, Search, aimed_for, search_for
from lab.model.experiment import Cell
from lab.model.run import SearchMethod


@dataclass(frozen=True)
class Method:
    """A method.

    Args:
        make: the search of a cell, up to so many users, with so many seconds of load (None: no
            limit), to such a width of its answer, as a share of the users (None: as usual).
        about: what it is, in a few words.
        trials: that a cell takes.
        usual: whether that is as a rule; else it is the least.
    """

    make: Callable[[Cell, int, float | None, float | None], Search]
    about: str
    trials: int
    usual: bool


METHODS: Mapping[SearchMethod, Method] = {
    "aimed": Method(
        aimed_for,
        "aims trials by a model of the cell and tells the interval from the first on",
        MIN_TRIALS,
        usual=False,
    ),
    "certain": Method(
        search_for,
        "rests on no model, and takes several times the load",
        USUAL_TRIALS,
        usual=True,
    ),
}

USUAL_METHOD: SearchMethod = next(iter(METHODS))
EARLIER_METHOD: SearchMethod = "certain"
"""Of runs that do not say their method: of an earlier lab, which knew this one alone."""
