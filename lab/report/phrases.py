"""How a claim is made: a sentence's template, whose places carry their figures with them.

    "{cell}: {succeeded} of {attempts} uploads were served" ─> text, and the figures behind it

A place takes the phrase given under its name; where a cell is given, it may also be

    {cell}                    its name
    {p95}                     a metric, with its unit
    {cold_starts:cold start}  a metric that counts, with what it counts, one or several
    {knob workers}            a knob's value, as a spec writes it
    {verdict}                 its verdict
    {failed}                  how many uploads failed, and what most of them failed with

A phrase is a `Claim` that is not a sentence yet. The figures of all places stay with the
claim, so that none stands without.
"""

from __future__ import annotations

from collections.abc import Sequence
from string import Formatter

from lab.model import metrics
from lab.model.criterion import Criterion
from lab.model.knobs import Knobs
from lab.model.run import CellResult, Claim, Figure
from lab.model.verdict import Finding
from lab.report import format

Phrase = Claim | str | int


def claim(
    template: str,
    cell: CellResult | None = None,
    on: Sequence[Claim | str] = (),
    **phrases: Phrase,
) -> Claim:
    """A template with its places filled.

    Args:
        template: the sentence, or a part of one.
        cell: where places are looked up for which no phrase is given.
        on: phrases, or names of places, whose figures support the claim without their words.
        phrases: what stands in places of these names.

    Raises:
        KeyError: a place has no phrase, and no cell has anything of that name.
    """
    text = ""
    behind = [_place(place, cell) if isinstance(place, str) else place for place in on]
    for literal, place, noun, _ in Formatter().parse(template):
        text += literal
        if place is not None:
            phrase = phrases[place] if place in phrases else _place(place, cell, noun)
            text += phrase.text if isinstance(phrase, Claim) else str(phrase)
            behind += [phrase] if isinstance(phrase, Claim) else []
    figures = dict.fromkeys(figure for phrase in behind for figure in phrase.figures)
    return Claim(text=text, figures=tuple(figures))


def stated(text: str, cell: CellResult, figure: str, value: float | None = None) -> Claim:
    """A phrase that a single figure of a cell supports."""
    return Claim(text=text, figures=(Figure(cell=cell.id, name=figure, value=value),))


def _place(place: str, cell: CellResult | None, noun: str | None = None) -> Claim:
    """The phrase for a place for which none is given."""
    if cell is None:
        raise KeyError(place)
    match place.split():
        case ["cell"]:
            return Claim(text=name(cell))
        case ["failed"]:
            return _failed(cell)
        case ["verdict"]:
            return stated(str(cell.verdict), cell, f"verdict {cell.verdict}")
        case ["knob", knob]:
            value = cell.knobs[knob]
            number = float(value) if isinstance(value, int | float) else None
            return stated(str(value), cell, place, number)
    if place not in metrics.BY_NAME:
        raise KeyError(place)
    metric = cell.metrics.get(place)
    counted = f" {noun}{'' if metric == 1 else 's'}" if noun else ""
    if metric is None:
        return Claim(text=f"not measured{counted}")
    return stated(f"{format.metric(place, metric)}{counted}", cell, place, metric)


def name(cell: CellResult) -> str:
    """A cell as a reader knows it: its labels, with the axis where a label is a bare number."""
    labels = [
        f"{axis} {label}" if label[:1].isdigit() and axis not in ("load", "case") else label
        for axis, label in cell.axes.items()
    ]
    return " / ".join(labels) or cell.id


def _failed(cell: CellResult) -> Claim:
    cause = format.leading_cause(cell.metrics)
    if "error_rate" not in cell.metrics:
        return Claim(text="how many failed was not measured")
    if cause:
        return claim(f"{{error_rate}} failed, led by {cause} ({{errors.{cause}}})", cell)
    if cell.metrics["error_rate"]:
        return claim("{error_rate} failed", cell)
    return claim("none failed", cell, on=["error_rate"])


def listed(phrases: Sequence[Claim], last: str = " and ", between: str = ", ") -> Claim:
    """Phrases as a list: ``a, b and c``."""
    texts = [phrase.text for phrase in phrases]
    text = last.join(filter(None, [between.join(texts[:-1]), *texts[-1:]]))
    return claim("{text}", on=phrases, text=text)


def of_all(
    template: str, phrases: Sequence[Claim], last: str = " and ", **others: Phrase
) -> list[Claim]:
    """A claim with the list of phrases in its place ``{all}``; none where there is no phrase."""
    return [claim(template, None, (), all=listed(phrases, last), **others)] if phrases else []


def knobs_of(cell: CellResult) -> Knobs:
    """A cell's knobs; those that its lab did not know yet are as found."""
    return Knobs().with_settings(cell.knobs)


def finding_on(metric: str, cell: CellResult) -> Finding | None:
    """The cell's criterion on this metric, held against the evidence."""
    asked = ((Criterion.parse(finding.criterion), finding) for finding in cell.findings)
    return next((f for c, f in asked if c.name == metric and not c.relative), None)


def held_against(cell: CellResult, finding: Finding) -> Claim:
    """A criterion with what came of it: ``p95 8.20 s against < 10 s: met``."""
    metric = Criterion.parse(finding.criterion).name
    value, bound = format.metric(metric, finding.value), finding.criterion.partition(" ")[2]
    text = f"{metric} {value} against {bound}: {finding.outcome}"
    return stated(text, cell, f"finding {finding.criterion}", finding.value)


def limits(cells: Sequence[CellResult]) -> list[Claim]:
    """What limits each cell: a sentence a resource, with the evidence of each cell."""
    by_resource: dict[str, list[Claim]] = {}
    for cell in cells:
        if cell.limit and cell.limit.resource != "none":
            resource = str(cell.limit.resource)
            level = next((c.level for c in cell.limit.candidates if c.resource == resource), None)
            evidence = stated(cell.limit.evidence, cell, f"limit {resource}", level)
            phrase = claim("{cell} ({evidence})", cell, evidence=evidence)
            by_resource.setdefault(resource, []).append(phrase)
    unclear = by_resource.pop("unclear", [])
    claims = [
        claim("The limit is {resource} in {all}.", resource=resource, all=listed(phrases))
        for resource, phrases in by_resource.items()
    ]
    return claims + of_all("What limits is unclear in {all}.", unclear)
