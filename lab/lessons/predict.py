"""An answer to a lesson's question: read before the run, held against it afterwards."""

from __future__ import annotations

import re

from lab.errors import UsageError
from lab.lessons.figures import evaluated, sources
from lab.model.lessons import LessonFolder, LessonQuestion, PredictionResult
from lab.model.run import CellResult

_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")


def read_answer(asked: LessonQuestion, text: str) -> str:
    """An answer as it is kept: a letter, or a number.

    Raises:
        UsageError: it is neither.
    """
    given = text.strip()
    if asked.choices:
        letter = given.upper().rstrip(").")
        if letter not in asked.choices:
            what = f"'{given[:40]}' is no choice"
            raise UsageError(what, f"answer with one of {', '.join(asked.choices)}")
        return letter
    number = given.replace(",", ".")
    if not _NUMBER.fullmatch(number):
        unit = asked.number.unit if asked.number else ""
        raise UsageError(f"'{given[:40]}' is no number", f"answer with one, in {unit}")
    return number


def held_against(folder: LessonFolder, answer: str, run: CellResult) -> PredictionResult:
    """An answer beside the run; right or wrong is left open where the run fits no single choice.

    Args:
        folder: the lesson.
        answer: as `read_answer` gives it.
        run: what was measured.
    """
    asked, values = folder.lesson.prediction, sources(folder, {"run": run})
    if asked.choices:
        fitting = [
            letter for letter, choice in asked.choices.items() if evaluated(choice.when, values)
        ]
        if len(fitting) != 1:
            return PredictionResult(answer=answer, truth=" or ".join(fitting))
        return PredictionResult(answer=answer, truth=fitting[0], right=answer == fitting[0])
    number = asked.number
    truth = evaluated(number.of, values) if number else None
    if number is None or not isinstance(truth, int | float) or truth <= 0:
        return PredictionResult(answer=answer)
    off = max(float(answer), 1e-9) / truth
    right = 1 / number.within <= off <= number.within
    return PredictionResult(answer=answer, truth=f"{truth:.3g}", right=right)
