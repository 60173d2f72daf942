"""Metrics, checks and verdicts from what is on disk; pure, and the same byte for byte."""

from lab.judge.checks import checks
from lab.judge.criteria import decide
from lab.judge.guard import guard
from lab.judge.measure import measure
from lab.judge.text import show
from lab.judge.verdict import judge

__all__ = ["checks", "decide", "guard", "judge", "measure", "show"]
