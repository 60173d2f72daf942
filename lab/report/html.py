"""A run as one HTML page that needs no network: styles and drawings are inside it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from lab.model.capacity import Threshold, Thresholds
from lab.model.criterion import Criterion
from lab.model.run import CellResult, RunInfo, Summary
from lab.report import course, figures, thresholds, words
from lab.report.columns import front_columns
from lab.report.details import changed_knobs, finding_value, interval
from lab.report.drawing import drawing

STRIP = 120
"""Width of a latency strip, in the units of its drawing."""


@dataclass(frozen=True)
class Strip:
    """A cell's latency drawn to the page's one scale: p50 to p95 as a bar, and the bound.

    All positions run from 0 to `STRIP`; ``bound`` is None where no criterion is on p95.
    """

    p50: float
    p95: float
    bound: float | None


def html_report(summary: Summary, info: RunInfo) -> str:
    """The run as one HTML document."""
    cells = summary.cells
    return _template("report.html.j2").render(
        summary=summary,
        info=info,
        axes=words.varying_axes(cells),
        strips=_strips(cells),
        bars=_bars(cells),
        extra=front_columns(cells),
        strip_width=STRIP,
        drawings=[drawing(cell) for cell in cells],
        limits=course.any_limit(cells),
        course_words=course,
        figures=figures,
        words=words,
        changed_knobs=changed_knobs,
        finding_value=finding_value,
        interval=interval,
    )


@dataclass(frozen=True)
class ThresholdSpan:
    """A threshold drawn to the page's one scale of users: it holds up to, and breaks from."""

    holds: float
    breaks: float


def thresholds_html(found: Thresholds, info: RunInfo) -> str:
    """A search for thresholds as one HTML document."""
    most = max((trial.users for cell in found.cells for trial in cell.trials), default=1)
    return _template("thresholds.html.j2").render(
        found=found,
        info=info,
        most=most,
        strips=[_span(cell, STRIP / most) for cell in found.cells],
        strip_width=STRIP,
        figures=figures,
        words=words,
        thresholds=thresholds,
    )


def _span(cell: Threshold, scale: float) -> ThresholdSpan:
    breaks = STRIP if cell.breaks_at is None else cell.breaks_at * scale
    return ThresholdSpan(holds=round((cell.holds_at or 0) * scale, 1), breaks=round(breaks, 1))


@cache
def _template(name: str) -> Template:
    environment = Environment(
        loader=PackageLoader("lab.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def _bound(cell: CellResult) -> float | None:
    """The upper bound, in seconds, that the cell's criteria set on p95."""
    found = [Criterion.parse(finding.criterion) for finding in cell.findings]
    bounds = [one.bound for one in found if one.metric == "p95" and one.op in ("<", "<=")]
    return min(bounds, default=None)


def _strips(cells: tuple[CellResult, ...]) -> list[Strip | None]:
    """A strip a cell, to a scale on which the slowest p95 and every bound fit."""
    ends = [cell.metrics[name] for cell in cells for name in ("p50", "p95") if name in cell.metrics]
    longest = max([*ends, *(bound for cell in cells if (bound := _bound(cell)))], default=0)
    if not longest:
        return [None] * len(cells)
    scale = STRIP / longest
    return [_strip(cell, scale) for cell in cells]


def _strip(cell: CellResult, scale: float) -> Strip | None:
    p50, p95, bound = cell.metrics.get("p50"), cell.metrics.get("p95"), _bound(cell)
    if p50 is None or p95 is None:
        return None
    at = None if bound is None else round(bound * scale, 1)
    return Strip(p50=round(p50 * scale, 1), p95=round(p95 * scale, 1), bound=at)


def _bars(cells: tuple[CellResult, ...]) -> list[float]:
    """Throughput of each cell as a percentage of the fastest's; 0 where none was measured."""
    rates = [cell.metrics.get("throughput", 0.0) for cell in cells]
    most = max(rates, default=0.0)
    return [round(rate / most * 100, 1) if most else 0.0 for rate in rates]
