"""Metrics, checks and verdicts from what is on disk; pure, and the same byte for byte."""

from lab.judge.comparison import Reference, compared
from lab.judge.criteria import show
from lab.judge.sequential import all_certain
from lab.judge.trial import Trial
from lab.judge.verdict import judge

__all__ = ["Reference", "Trial", "all_certain", "compared", "judge", "show"]
