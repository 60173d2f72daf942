"""A run's answer, composed from nothing but what is stored of its cells.

    kind of question ─> its rule ─> claims, each with its figures ─> what is left open

A rule is a small pure function in a file of its own. It is given the cells that the lab can
vouch for; an invalid cell reaches none, and is named at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from lab.model.experiment import Question
from lab.model.run import Answer, CellResult, Claim, Summary
from lab.model.verdict import Outcome
from lab.report.answers.backlog import gcs_backlog
from lab.report.answers.cold_start import cold_start
from lab.report.answers.endurance import endurance
from lab.report.answers.general import general
from lab.report.answers.memory import memory
from lab.report.answers.pool import pool_exhaustion, pool_validation
from lab.report.answers.ramp import gcs_threshold
from lab.report.answers.say import not_said
from lab.report.answers.spike import spike
from lab.report.answers.stress import stress

Rule = Callable[[Sequence[CellResult]], list[Claim]]

RULES: Mapping[Question, Rule] = {
    "general": general,
    "pool_validation": pool_validation,
    "gcs_threshold": gcs_threshold,
    "spike": spike,
    "endurance": endurance,
    "stress": stress,
    "pool_exhaustion": pool_exhaustion,
    "gcs_backlog": gcs_backlog,
    "cold_start": cold_start,
    "memory": memory,
}

NOTHING = Claim(text="No cell was measured so that the lab can vouch for it: nothing is claimed.")


def answer(summary: Summary, kind: Question) -> Answer:
    """What the finished cells of a run say to a kind of question."""
    sound = [cell for cell in summary.cells if cell.verdict is not Outcome.INVALID]
    sound = [cell for cell in sound if cell.metrics.get("attempts")]
    claims = RULES[kind](sound) if sound else [NOTHING]
    return Answer(kind=kind, claims=(*claims, *not_said(summary.cells, summary.missing)))


def answered(summary: Summary, kind: Question) -> Summary:
    """A run with its answer."""
    return summary.model_copy(update={"answer": answer(summary, kind)})
