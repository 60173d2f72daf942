"""The methods by which a threshold is searched: a row each, the usual one first."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lab.capacity.search import Search, aimed_for, search_for
from lab.model.experiment import Cell
from lab.model.run import SearchMethod

MakeSearch = Callable[[Cell, int, float | None, float | None], Search]
"""Of a cell, up to so many users, by so many seconds of load, to a width: its search."""

METHODS: Mapping[SearchMethod, MakeSearch] = {"aimed": aimed_for, "certain": search_for}

USUAL_METHOD: SearchMethod = next(iter(METHODS))
EARLIER_METHOD: SearchMethod = "certain"
"""Of runs that do not say their method: of an earlier lab, which knew this one alone."""
