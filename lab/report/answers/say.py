"""How a claim is made: phrases that carry their figures with them, so that none is without.

A phrase is a `Claim` that is not a sentence yet. `say` puts phrases into a sentence and keeps
the figures of all.
"""

from __future__ import annotations

from collections.abc import Sequence

from lab.model.criterion import Criterion
from lab.model.run import CellResult, Claim, Figure
from lab.model.verdict import Finding, Outcome
from lab.report import figures, words


def say(form: str, *parts: Claim | str | int) -> Claim:
    """A text with phrases in its places ``{}``, and the figures of all of them."""
    texts = (part.text if isinstance(part, Claim) else str(part) for part in parts)
    carried = (figure for part in parts if isinstance(part, Claim) for figure in part.figures)
    return Claim(text=form.format(*texts), figures=tuple(dict.fromkeys(carried)))


def backed(text: str, *by: Claim) -> Claim:
    """A text that stands on the figures of these phrases, without their words."""
    return Claim(text=text, figures=say("", *by).figures)


def listed(parts: Sequence[Claim], last: str = " and ") -> Claim:
    """Phrases as a list: ``a, b and c``."""
    forms = ["{}"] * len(parts)
    text = last.join([", ".join(forms[:-1]), forms[-1]] if len(forms) > 1 else forms)
    return say(text, *parts)


def name(cell: CellResult) -> str:
    """A cell as a reader knows it: its labels, with the axis where a label is a bare number."""
    labels = [
        f"{axis} {label}" if label[:1].isdigit() and axis not in ("load", "case") else label
        for axis, label in cell.axes.items()
    ]
    return " / ".join(labels) or cell.id


def most_users(cell: CellResult) -> int:
    """The most users of a load in stages; 0 for another."""
    return max((int(stage["users"]) for stage in cell.load.get("stages", ())), default=0)


def measured(cell: CellResult, metric: str) -> Claim:
    """A metric with its unit; that it is not there, where it is not."""
    value = cell.metrics.get(metric)
    if value is None:
        return Claim(text="not measured")
    figure = Figure(cell=cell.id, name=metric, value=value)
    return Claim(text=figures.metric(metric, value), figures=(figure,))


def counted(cell: CellResult, metric: str, noun: str) -> Claim:
    """A metric that counts, with what it counts: ``1 cold start``, ``3 cold starts``."""
    one = cell.metrics.get(metric) == 1
    return say(f"{{}} {noun}{'' if one else 's'}", measured(cell, metric))


def knob(cell: CellResult, of: str) -> Claim:
    """A knob's value, as a spec writes it."""
    value = cell.knobs[of]
    number = float(value) if isinstance(value, int | float) else None
    figure = Figure(cell=cell.id, name=f"knob {of}", value=number)
    return Claim(text=str(value), figures=(figure,))


def finding(cell: CellResult, metric: str) -> Finding | None:
    """The cell's criterion on this metric, held against the evidence."""
    of = (one for one in cell.findings if Criterion.parse(one.criterion).metric == metric)
    return next(of, None)


def held_against(cell: CellResult, one: Finding) -> Claim:
    """A criterion with what came of it: ``p95 8.2 s (met)``."""
    criterion = Criterion.parse(one.criterion)
    figure = Figure(cell=cell.id, name=f"finding {one.criterion}", value=one.value)
    value = figures.metric(criterion.metric, one.value)
    text = f"{criterion.metric} {value} against {one.criterion.partition(' ')[2]}: {one.outcome}"
    return Claim(text=text, figures=(figure,))


def failed(cell: CellResult) -> Claim:
    """How many failed, and what most of them failed with."""
    lead, share = words.leading_error(cell.metrics), measured(cell, "error_rate")
    if not share.figures:
        return Claim(text="how many failed was not measured")
    if lead is None:
        return (
            say("{} failed", share) if cell.metrics["error_rate"] else backed("none failed", share)
        )
    return say(
        "{} failed, led by {} ({})", share, lead.cause, measured(cell, f"errors.{lead.cause}")
    )


def verdict(cell: CellResult) -> Claim:
    """The cell's verdict as a word."""
    figure = Figure(cell=cell.id, name=f"verdict {cell.verdict}")
    return Claim(text=str(cell.verdict), figures=(figure,))


def limits(cells: Sequence[CellResult]) -> list[Claim]:
    """What limits each cell: a sentence a resource, with the evidence of each cell."""
    by_resource: dict[str, list[Claim]] = {}
    for cell in cells:
        if cell.limit is None or cell.limit.resource == "none":
            continue
        resource = str(cell.limit.resource)
        level = next((c.level for c in cell.limit.candidates if c.resource == resource), None)
        figure = Figure(cell=cell.id, name=f"limit {resource}", value=level)
        told = Claim(text=f"{name(cell)} ({cell.limit.evidence})", figures=(figure,))
        by_resource.setdefault(resource, []).append(told)
    unclear = by_resource.pop("unclear", [])
    said = [say(f"The limit is {key} in {{}}.", listed(of)) for key, of in by_resource.items()]
    return said + ([say("What limits is unclear in {}.", listed(unclear))] if unclear else [])


def not_said(cells: Sequence[CellResult], missing: Sequence[str]) -> list[Claim]:
    """What is left open: the cells that are invalid or undecided, and those not measured."""
    said = []
    for cell in cells:
        why = words.first_reason(cell).rstrip(".")
        if cell.verdict is Outcome.INVALID:
            said.append(say("{} is {} and says nothing: {}.", name(cell), verdict(cell), why))
        elif cell.verdict is Outcome.UNDECIDED:
            said.append(say("{} is {} as a whole: {}.", name(cell), verdict(cell), why))
    if missing:
        said.append(Claim(text=f"Not measured: {', '.join(missing)}."))
    return said
