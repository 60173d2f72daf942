"""From an experiment to its cells, and how long they will take; pure."""

from lab.plan.estimate import estimate
from lab.plan.expand import expand

__all__ = ["estimate", "expand"]
