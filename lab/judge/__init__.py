"""Metrics, checks and verdicts from what is on disk; pure, and the same byte for byte."""

from lab.judge.criteria import decide
from lab.judge.injection import checks
from lab.judge.leaks import leaks
from lab.judge.limits import limiting_factor, look_at
from lab.judge.metrics import measure
from lab.judge.text import show
from lab.judge.timeline import crossings, failures
from lab.judge.validity import guard
from lab.judge.verdict import judge

__all__ = [
    "checks",
    "crossings",
    "decide",
    "failures",
    "guard",
    "judge",
    "leaks",
    "limiting_factor",
    "look_at",
    "measure",
    "show",
]
