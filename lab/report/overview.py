"""Many runs on one page in Markdown: each question, and the answer that its run gave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lab.model.capacity import Thresholds
from lab.model.run import RunInfo, Summary
from lab.report import thresholds, words
from lab.report.markdown import escaped, table

HEADS = ("question", "outcome", "experiment", "run")


@dataclass(frozen=True)
class Entry:
    """One question.

    Args:
        experiment: the spec's name.
        about: the question, as the spec asks it.
        found: what its latest run stored, and of which run; None: there is none.
        problem: why there is none that can be read.
        otherwise: in what the run is not what the spec asks; empty where it is.
    """

    experiment: str
    about: str
    found: tuple[Summary | Thresholds, RunInfo] | None = None
    problem: str = "no run of it is stored"
    otherwise: str = ""


def overview(entries: Sequence[Entry]) -> str:
    """The page: a table of all questions, then each with its answer and where to check it."""
    rows = [(_question(one), _outcome(one), one.experiment, _run(one)) for one in entries]
    parts = [
        "# What was asked, and what was measured",
        table(HEADS, rows, ()),
        *(part for one in entries for part in _section(one)),
    ]
    return "\n\n".join(parts) + "\n"


def _question(one: Entry) -> str:
    return one.about or one.experiment


def _outcome(one: Entry) -> str:
    if one.found is None:
        return "not measured"
    found, _ = one.found
    tally = words.tally(found) if isinstance(found, Summary) else thresholds.tally(found)
    return f"{tally}; not as the spec asks" if one.otherwise else tally


def _run(one: Entry) -> str:
    return one.found[1].name if one.found else "-"


def _section(one: Entry) -> list[str]:
    head = f"## {escaped(_question(one))}"
    if one.found is None:
        return [head, f"Not measured: {escaped(one.problem)}."]
    found, info = one.found
    if one.otherwise:
        head += f"\n\n**Not as the spec asks: {escaped(one.otherwise)}.**"
    facts = [_outcome(one), words.stack_words(info), f"run {info.name}, started {info.started}"]
    if isinstance(found, Summary):
        facts.insert(1, words.offered(found))
        text = found.answer.text if found.answer else "No answer is stored with this run."
        return [head, escaped(text), f"*{escaped('; '.join(facts))}*"]
    told = (f"- {escaped(c.id)}: {escaped(thresholds.sentence(c))}" for c in found.cells)
    return [head, "\n".join(told) or "Nothing was found.", f"*{escaped('; '.join(facts))}*"]
