"""What filled up when: the load, and the level of each resource, over one time axis.

    users, uploads a second, errors a second, p95        each to its own highest value
    event loop, threads, pool, Postgres, CPU …           to how much there is of it, where that is
                                                         known; red where it was full
    lag, storage, memory …                               to their highest value

Stages, and where a criterion's bound was crossed first, go through all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any, Literal

from markupsafe import Markup

from lab.model.physics import SATURATED
from lab.model.verdict import Resource, Series
from lab.report import format
from lab.report.blocks import Chart, Picture, Table
from lab.report.charts import Values, values_of
from lab.report.pictures.svg import Canvas, Scale, drawing, element, group, linear, number

Unit = Literal["count", "seconds", "share", "per second", "cores", "bytes"]


@dataclass(frozen=True)
class Lane:
    """One scale.

    Args:
        title: its name.
        lines: the style of each series that it has.
        unit: of their values.
        load: whether it is of the load, which is drawn higher, and even where all is 0.
        of: the resources whose level it is.
        limited: the series that the limit is of, where one is known.
    """

    title: str
    lines: Mapping[str, str]
    unit: Unit
    load: bool = False
    of: tuple[Resource, ...] = ()
    limited: str = ""


LANES = (
    Lane("users", {"users": "area"}, "count", load=True),
    Lane("uploads/s", {"sent": "soft", "answered": "main"}, "per second", load=True),
    Lane("errors/s", {"errors": "bad"}, "per second", load=True),
    Lane("p95", {"p95": "main"}, "seconds", load=True),
    Lane("instance queue", {"gateway_queue": "bad"}, "count", of=(Resource.INSTANCE_QUEUE,)),
    Lane("in instances", {"gateway_inflight": "main"}, "count", limited="gateway_inflight"),
    Lane(
        "event loop",
        {"loop_busy": "main"},
        "share",
        of=(Resource.EVENT_LOOP,),
        limited="loop_busy",
    ),
    Lane(
        "in flight",
        {"uploads_inflight": "main"},
        "count",
        of=(Resource.BACKPRESSURE,),
        limited="uploads_inflight",
    ),
    Lane(
        "pool",
        {"pool_checked_out": "main"},
        "count",
        of=(Resource.POOL, Resource.POOL_LEAK),
        limited="pool_checked_out",
    ),
    Lane(
        "Postgres",
        {"pg_connections": "main"},
        "count",
        of=(Resource.DATABASE_SLOTS, Resource.POOLER),
        limited="pg_connections",
    ),
    Lane(
        "threads busy",
        {"threads_busy": "main"},
        "count",
        of=(Resource.DEFAULT_EXECUTOR, Resource.OWN_THREADS, Resource.AUDIO_THREADS),
        limited="threads_busy",
    ),
    Lane(
        "anyio threads",
        {"anyio_busy": "main"},
        "count",
        of=(Resource.ANYIO_THREADS,),
        limited="anyio_busy",
    ),
    Lane("CPU", {"cpu_backend": "main"}, "cores", of=(Resource.CPU,), limited="cpu_backend"),
    Lane("memory", {"rss_backend": "main"}, "bytes", of=(Resource.MEMORY,), limited="rss_backend"),
    Lane("storage", {"gcs_latency": "main"}, "seconds", of=(Resource.STORAGE,)),
    Lane("loop lag", {"loop_lag": "main"}, "seconds"),
    Lane(
        "pg by state",
        {"pg_idle": "soft", "pg_active": "main", "pg_in_transaction": "bad"},
        "count",
    ),
)
"""Every lane, from top to bottom; one whose series were not measured is left out."""

FORMS: Mapping[Unit, Callable[[float], str]] = {
    "count": format.count,
    "seconds": format.seconds,
    "share": format.percent,
    "per second": format.significant,
    "cores": format.cores,
    "bytes": format.size,
}

NOTE = (
    "Light: sent a second, and connections idle. Red: errors, connections idle in a transaction,"
    " and wherever something was full. A lane with a grey line at its top is drawn to how much"
    " there is. Dashed: a criterion's bound, and upright where it was crossed first."
)

BOUNDED = {"p95", "pg_connections", "uploads_inflight", "threads_busy", "rss_backend"}
"""The series that a criterion's bound is drawn for: metrics have the same names."""

WIDTH, LEFT = 860.0, 124.0
RIGHT = WIDTH - 24
TOP, LABEL_HEIGHT, GAP, FOOT = 6.0, 14.0, 13.0, 22.0
LOAD_HEIGHT, HEIGHT = 54.0, 34.0
PARTS = 99
"""A path's heights are whole numbers, so many to its lane."""

TICKS = (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200)
"""Seconds between two ticks: the first that gives no more than ten."""


def picture(chart: Chart, step: int = 1) -> Picture:
    """A chart as a drawing, with the lanes that there is anything to see in.

    Args:
        chart: the chart.
        step: how many values are told as one, where a page has very many.
    """
    lanes = shown(chart)
    return Picture(
        name="over-time",
        title="What filled up when",
        about=_about(chart, lanes),
        table=_table(chart, lanes),
        draw=partial(_drawn, chart, lanes, step),
        data=_data(chart, lanes, step),
        note=_coarse(chart, step) + NOTE,
        over_time=True,
    )


def shown(chart: Chart) -> list[Lane]:
    """The lanes that something was measured of; of resources, those that were ever in use."""
    found = []
    for lane in LANES:
        values = [value for name in lane.lines for value in values_of(chart.series, name)]
        measured = [value for value in values if value is not None]
        if measured and (lane.load or any(measured)):
            found.append(lane)
    return found


def values_in(chart: Chart) -> int:
    """How many values a chart shows."""
    names = [name for lane in shown(chart) for name in lane.lines]
    return sum(len(values_of(chart.series, name)) for name in names)


def limit_of(chart: Chart, lane: Lane) -> float | None:
    """How much there is of what a lane shows, in its unit; None where that is not known."""
    return chart.limits.get(lane.limited)


def scale_of(chart: Chart, lane: Lane) -> float:
    """The upper end of a lane: how much there is of it, or its highest value, or a bound near."""
    highest = _highest(chart, lane)
    limit, bound = limit_of(chart, lane), bound_of(chart, lane)
    return max(highest, limit or 0.0, bound or 0.0) or 1.0


def bound_of(chart: Chart, lane: Lane) -> float | None:
    """A criterion's bound on what a lane shows; one far above everything would flatten it."""
    bounds = [chart.bounds[name] for name in lane.lines if name in BOUNDED & set(chart.bounds)]
    most = 2 * _highest(chart, lane)
    return next((bound for bound in bounds if bound <= most), None)


def _highest(chart: Chart, lane: Lane) -> float:
    values = (value for name in lane.lines for value in values_of(chart.series, name))
    return max((value for value in values if value is not None), default=0.0)


def full_spans(chart: Chart, lane: Lane) -> list[tuple[float, float]]:
    """The stretches of time in which a lane was full, in seconds after the load started."""
    limit, series = limit_of(chart, lane), chart.series
    if not limit:
        return []
    values = values_of(series, lane.limited)
    full = [value is not None and value >= SATURATED * limit for value in values]
    spans, at = [], 0
    for is_full, stretch in groupby(full):
        length = len(list(stretch))
        if is_full:
            spans.append((_time(series, at), _time(series, at + length)))
        at += length
    return spans


def _time(series: Series, index: float) -> float:
    return series.start + index * series.bin_s


def _about(chart: Chart, lanes: Sequence[Lane]) -> str:
    parts = []
    for lane in lanes:
        spans = full_spans(chart, lane)
        if spans:
            total = sum(end - begin for begin, end in spans)
            parts.append(f"{lane.title} full from {spans[0][0]:.0f} s, for {total:.0f} s in all")
    crossed = [f"{one.criterion} crossed at {one.t:.0f} s" for one in chart.crossings]
    told = "; ".join((*parts, *crossed)) or "nothing was full, and no bound was crossed"
    return f"{told}."


def _table(chart: Chart, lanes: Sequence[Lane]) -> Table:
    """A row a series: its ends, its mean, and since when and for how long it was full."""
    rows = []
    for lane in lanes:
        write, limit = FORMS[lane.unit], limit_of(chart, lane)
        for name in lane.lines:
            values = values_of(chart.series, name)
            measured = [value for value in values if value is not None]
            if not measured:
                continue
            most = max(measured)
            when = _time(chart.series, values.index(most))
            spans = full_spans(chart, lane) if name == lane.limited else []
            rows.append(
                (
                    name,
                    write(min(measured)),
                    write(sum(measured) / len(measured)),
                    write(most),
                    f"{when:.0f} s",
                    write(limit) if limit and name == lane.limited else format.NONE,
                    f"{spans[0][0]:.0f} s" if spans else format.NONE,
                    f"{sum(end - begin for begin, end in spans):.0f} s" if spans else format.NONE,
                )
            )
    heads = ("least", "mean", "most", "most at", "there is", "full from", "full for")
    return Table.of(("figure", *heads), rows, right=heads)


def _coarse(chart: Chart, step: int) -> str:
    if step == 1:
        return ""
    return f"A point is {chart.series.bin_s * step:g} s here; summary.json has all. "


def _data(chart: Chart, lanes: Sequence[Lane], step: int) -> dict[str, Any]:
    """What a page needs to draw it anew, zoomed."""
    return {
        "start": chart.series.start,
        "bin_s": chart.series.bin_s * step,
        "lanes": [
            {
                "title": lane.title,
                "unit": lane.unit,
                "lines": list(_lines(chart.series, lane, step)),
                "limit": limit_of(chart, lane),
                "bound": bound_of(chart, lane),
                "is_limit": chart.limit in lane.of,
            }
            for lane in lanes
        ],
        "crossings": [{"criterion": one.criterion, "t": one.t} for one in chart.crossings],
        "stages": [{"users": one.users, "start": one.start} for one in chart.stages],
    }


def _lines(series: Series, lane: Lane, step: int) -> Iterator[dict[str, Any]]:
    """Each series of a lane, its values as runs: a value and how often it comes, in turn."""
    for name, style in lane.lines.items():
        values = _merged(values_of(series, name), step, mean=lane.unit == "per second")
        if any(value is not None for value in values):
            yield {"name": name, "style": style, **_packed(values)}


def _packed(values: Values) -> dict[str, list[float | None]]:
    """The values as they are, or as ``runs`` of a value and how often it comes: what is shorter."""
    short = [int(v) if v is not None and v == int(v) else v for v in values]  # 3.0 is 3
    runs: list[float | None] = []
    for value, same in groupby(short):
        runs += (value, len(list(same)))
    return {"runs": runs} if len(runs) < len(short) else {"values": short}


def _merged(values: Values, step: int, *, mean: bool) -> Values:
    """One value for so many: the mean of what is a rate, else the highest."""
    if step == 1:
        return values
    merged: list[float | None] = []
    for first in range(0, len(values), step):
        some = [value for value in values[first : first + step] if value is not None]
        if not some:
            merged.append(None)
        else:
            merged.append(round(sum(some) / len(some), 3) if mean else max(some))
    return merged


# The drawing.


@dataclass(frozen=True)
class LanePlace:
    """Where a lane is drawn."""

    lane: Lane
    top: float
    foot: float


def places(lanes: Sequence[Lane], begin: float) -> list[LanePlace]:
    """The lanes one under the other."""
    found, top = [], begin
    for lane in lanes:
        high = LOAD_HEIGHT if lane.load else HEIGHT
        found.append(LanePlace(lane, top, top + high))
        top += high + GAP
    return found


def _drawn(chart: Chart, lanes: Sequence[Lane], step: int, name: str) -> Markup:
    series = chart.series
    length = series.bin_s * len(series.users)
    across = linear(length, LEFT, RIGHT)
    begin = TOP + LABEL_HEIGHT * len(chart.crossings)
    found = places(lanes, begin)
    base = found[-1].foot if found else begin
    every = next((every for every in TICKS if length / every <= 10), TICKS[-1])
    canvas = Canvas()
    for t in range(0, int(length) + 1, every):
        canvas.line(across(t), 0, across(t), base, "grid")
        canvas.text(across(t), base + 15, f"{t} s", "quiet", "middle")
    for place in found:
        _lane(canvas, chart, place, across, step)
    for stage in chart.stages:
        canvas.line(across(stage.start), 0, across(stage.start), base, "stage")
    for index, crossing in enumerate(chart.crossings):
        x, y = across(crossing.t), LABEL_HEIGHT * (index + 0.7)
        canvas.line(x, y - 9, x, base, "crossing")
        late, text = x >= WIDTH / 2, f"{crossing.criterion} crossed"
        canvas.text(x + (-4 if late else 4), y, text, "crossed", "end" if late else "")
    about = _about(chart, lanes)
    return drawing(WIDTH, base + FOOT, name, "What filled up when", about, canvas)


def _lane(canvas: Canvas, chart: Chart, place: LanePlace, across: Scale, step: int) -> None:
    lane, scale = place.lane, scale_of(chart, place.lane)
    limit, bound = limit_of(chart, lane), bound_of(chart, lane)
    down = linear(scale, place.foot, place.top)
    is_limit = chart.limit in lane.of
    for begin, end in full_spans(chart, lane):
        x = across(begin)
        canvas.box(x, place.top, max(1.0, across(end) - x), place.foot - place.top, "full")
    canvas.line(LEFT, place.foot, RIGHT, place.foot, "axis")
    canvas.text(0, place.top + 11, lane.title, "crossed" if is_limit else "strong")
    if is_limit:
        canvas.text(0, place.top + 24, "the limit", "crossed")
    canvas.text(LEFT - 6, place.top + 10, FORMS[lane.unit](scale), "quiet", "end")
    if limit:
        canvas.line(LEFT, down(limit), RIGHT, down(limit), "limit")
    if bound is not None:
        canvas.line(LEFT, down(bound), RIGHT, down(bound), "bound")
    for name, style in lane.lines.items():
        values = _merged(values_of(chart.series, name), step, mean=lane.unit == "per second")
        if path := _path([value and value / scale for value in values], closed=style == "area"):
            canvas.add(_placed(chart, place, step, element("path", d=path, class_=style)))


def _placed(chart: Chart, place: LanePlace, step: int, path: Markup) -> Markup:
    """A path whose coordinates are bins and parts of the lane, put where the lane is."""
    count = len(chart.series.users)
    wide, high = (RIGHT - LEFT) / count * step, (place.foot - place.top) / PARTS
    at = f"translate({number(LEFT + wide / 2)} {number(place.foot)})"
    return group([path], transform=f"{at} scale({wide:.4g} {high:.4g})")


def _path(shares: Values, *, closed: bool) -> str:
    """Lines from bin to bin, of shares of the scale; an area goes back along its foot."""
    pieces: list[list[tuple[int, int]]] = [[]]
    for index, share in enumerate(shares):
        if share is None:
            pieces.append([])
        else:
            pieces[-1].append((index, -round(min(share, 1.0) * PARTS)))
    drawn = []
    for piece in filter(None, pieces):
        drawn.append(_relative(_bends(piece)))
        if closed:
            drawn.append(f"V0H{piece[0][0]}Z")
    return "".join(drawn)


def _bends(points: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The points without those in the middle of a level stretch."""
    kept = [points[0]]
    for before, at, after in zip(points, points[1:], points[2:], strict=False):
        if not before[1] == at[1] == after[1]:
            kept.append(at)
    return [*kept, points[-1]]


def _relative(points: Sequence[tuple[int, int]]) -> str:
    """A path, each point told from the one before; of one point alone, a dash."""
    (x, y), *rest = points
    told = f"M{x} {y}"
    for next_x, next_y in rest if len(points) > 1 and rest[0] != points[0] else [(x + 1, y)]:
        by_x, by_y = next_x - x, next_y - y
        told += f"h{by_x}" if not by_y else f"l{by_x}{by_y if by_y < 0 else f' {by_y}'}"
        x, y = next_x, next_y
    return told
