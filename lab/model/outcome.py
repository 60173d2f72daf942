"""The four outcomes of a trial."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """``held`` and ``broke`` are results; the other two say that there is none."""

    HELD = "held"
    BROKE = "broke"
    UNDECIDED = "undecided"  #: too little evidence
    INVALID = "invalid"  #: the lab itself was the limit, or a part died
