"""The limiting factor: one rule a resource, each in a module of its own, and one decision."""

from lab.judge.limits.case import Case, look_at
from lab.judge.limits.decision import limiting_factor

__all__ = ["Case", "limiting_factor", "look_at"]
