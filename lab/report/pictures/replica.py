"""The replica as a drawing: every part on an upload's way, how full it was, and which is the limit.

    users ─> nginx ─────> event loop ─┬─> pool ────(proxy)──> Postgres
             or Cloud Run's           └─> threads ─(proxy)──> storage, speech
             gateway              └─── one backend ───┘

A part shows each of its resources that was in use, with its level; what is the limit has a thick
frame and says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from markupsafe import Markup

from lab.model.knobs import Knobs
from lab.model.load import AnyLoad, OpenLoad
from lab.model.replica import pooled
from lab.model.run import CellResult
from lab.model.units import format_rate
from lab.model.verdict import Bottleneck, Candidate, Resource
from lab.report import format
from lab.report.blocks import Bar, Picture, Table, Value
from lab.report.pictures.svg import Canvas, drawing, fitted, number


@dataclass(frozen=True)
class ReplicaPart:
    """A part of the drawing: what it is called on each target, where it stands, what it has.

    ``column`` is where it is on the way; of one column the first stands above.
    """

    name: str
    column: int
    titles: Mapping[str, str]
    resources: tuple[Resource, ...] = ()


PARTS = (
    ReplicaPart("users", 0, {"vm": "users", "cloudrun": "users"}),
    ReplicaPart(
        "door",
        1,
        {"vm": "nginx", "cloudrun": "gateway"},
        (
            *(Resource.NGINX_CONNECTIONS, Resource.ACCEPT_QUEUE, Resource.BODY_LIMIT),
            *(Resource.PROXY_TIMEOUT, Resource.INSTANCE_QUEUE),
        ),
    ),
    ReplicaPart(
        "workers",
        2,
        {"vm": "event loop", "cloudrun": "event loop"},
        (
            *(Resource.EVENT_LOOP, Resource.CPU, Resource.MEMORY, Resource.ANYIO_THREADS),
            *(Resource.WORKER_SPLIT, Resource.BACKPRESSURE, Resource.RATE_LIMIT),
            Resource.HEALTH_PROBE,
        ),
    ),
    ReplicaPart(
        "pool",
        3,
        {"vm": "pool", "cloudrun": "pool"},
        (Resource.POOL, Resource.POOL_LEAK),
    ),
    ReplicaPart(
        "threads",
        3,
        {"vm": "threads", "cloudrun": "threads"},
        (
            *(Resource.DEFAULT_EXECUTOR, Resource.OWN_THREADS, Resource.AUDIO_THREADS),
            Resource.SPEECH_THREADS,
        ),
    ),
    ReplicaPart(
        "postgres",
        4,
        {"vm": "Postgres", "cloudrun": "Postgres"},
        (Resource.POOLER, Resource.DATABASE_SLOTS, Resource.DATABASE),
    ),
    ReplicaPart("storage", 4, {"vm": "storage", "cloudrun": "storage"}, (Resource.STORAGE,)),
    ReplicaPart("speech", 4, {"vm": "speech", "cloudrun": "speech"}, (Resource.SPEECH,)),
)
"""Every part, in the order of an upload's way. A resource of none of them is the workers'."""

WAYS = (
    ("users", "door", ""),
    ("door", "workers", ""),
    ("workers", "pool", ""),
    ("workers", "threads", ""),
    ("pool", "postgres", "db_rtt"),
    ("threads", "storage", "gcs_latency"),
    ("threads", "speech", "speech_latency"),
)
"""Who passes uploads on to whom, and the knob of the distance between them."""

COLUMNS = ((2.0, 72.0), (96.0, 188.0), (322.0, 180.0), (526.0, 180.0), (796.0, 174.0))
"""Left end and width of each column."""

WIDTH, TOP, GAP = 974.0, 30.0, 26.0
HEAD, ROW, LOW = 26.0, 27.0, 8.0


def of_cell(cell: CellResult) -> Picture | None:
    """The replica as this cell's load filled it; None where nothing was looked at."""
    limit = cell.limit
    if limit is None or not limit.candidates:
        return None
    return Picture(
        name="replica",
        title="How full each part was",
        about=_about(limit),
        table=_table(limit),
        draw=lambda name: _drawn(name, cell, limit),
        data={
            "limit": str(limit.resource),
            "levels": {str(one.resource): one.level for one in limit.candidates},
        },
        note="A bar tells how near a resource was to its limit; full and red: it was there. A thick"
        " frame: what uploads waited for, or failed by.",
        in_text=True,
    )


def _about(limit: Bottleneck) -> str:
    full = [str(one.resource) for one in limit.candidates if one.at_limit]
    at = f"At their limit: {', '.join(full)}." if full else "Nothing was at its limit."
    named = limit.resource
    none = {Resource.NONE: "No limit is named.", Resource.UNCLEAR: "Which is the limit is open."}
    return f"{none.get(named, f'The limit is {named}: {limit.evidence}.')} {at}"


def _table(limit: Bottleneck) -> Table:
    """How near its limit each resource was, and its share of what uploads were late for."""
    rows = []
    for candidate in limit.candidates:
        bar = Bar(min(candidate.level, 1.0), full=candidate.at_limit)
        resource = Value(str(candidate.resource), tone="bad" if candidate.at_limit else "")
        level = Value(format.percent(candidate.level), picture=bar)
        waited = format.NONE if candidate.waited is None else format.percent(candidate.waited)
        rows.append((resource, level, waited, candidate.evidence))
    heads = ("resource", "level", "waited", "evidence")
    return Table.of(heads, rows, right=("level", "waited"))


# The drawing.


@dataclass(frozen=True)
class Box:
    """A part where it is drawn, with what it shows."""

    part: ReplicaPart
    x: float
    y: float
    wide: float
    high: float
    lines: tuple[str, ...]
    shown: tuple[Candidate, ...]
    title: str

    @property
    def middle(self) -> float:
        """Where its ways begin and end."""
        return self.y + self.high / 2


def part_of(resource: Resource) -> ReplicaPart:
    """The part that a resource belongs to."""
    own = (part for part in PARTS if resource in part.resources)
    return next(own, PARTS[2])


def _drawn(name: str, cell: CellResult, limit: Bottleneck) -> Markup:
    boxes = _boxes(cell, limit)
    foot = max(box.y + box.high for box in boxes.values())
    canvas = Canvas()
    _backend(canvas, cell, boxes)
    for begin, end, knob in WAYS:
        if begin in boxes and end in boxes:
            _way(canvas, boxes[begin], boxes[end], _distance(cell, knob))
    for box in boxes.values():
        _box(canvas, box, limit)
    title = "The replica, and how full each part was"
    return drawing(WIDTH, foot + 22, name, title, _about(limit), canvas)


def _boxes(cell: CellResult, limit: Bottleneck) -> dict[str, Box]:
    """Every part that is there, the columns centred on each other."""
    by_column: dict[int, list[Box]] = {}
    for part in PARTS:
        used = [one for one in limit.candidates if part_of(one.resource) is part]
        shown = tuple(one for one in used if one.level or one.at_limit)
        if part.name == "speech" and not shown:
            continue
        lines = _lines(cell, part)
        x, wide = COLUMNS[part.column]
        high = HEAD + 15 * len(lines) + ROW * len(shown) + LOW
        title = part.titles[cell.target]
        box = Box(part, x, 0, wide, high, lines, shown, title)
        by_column.setdefault(part.column, []).append(box)
    tall = {c: sum(box.high for box in of) + GAP * (len(of) - 1) for c, of in by_column.items()}
    most = max(tall.values())
    placed = {}
    for column, of in by_column.items():
        y = TOP + (most - tall[column]) / 2
        for box in of:
            placed[box.part.name] = replace(box, y=y)
            y += box.high + GAP
    return placed


def _lines(cell: CellResult, part: ReplicaPart) -> tuple[str, ...]:
    """What a part is, in a few words."""
    knobs = Knobs.model_validate(cell.knobs)
    load = format.read_load(cell.load)
    size = "no pool" if knobs.pool_class == "NullPool" else f"{knobs.pool_size} connections"
    over = "any number more" if knobs.max_overflow is None else f"+ {knobs.max_overflow} more"
    told: dict[str, tuple[str, ...]] = {
        "users": (_load(load),),
        "door": () if cell.target == "vm" else (f"waits {knobs.cloudrun_pending:g} s",),
        "workers": (f"storage: {knobs.gcs_call}",),
        "pool": (size, f"{over}, each"),
        "threads": (_threads(knobs),),
        "postgres": (*_pooler(knobs), f"{knobs.db_cap} slots"),
    }
    return told.get(part.name, ())


def _load(load: AnyLoad) -> str:
    if isinstance(load, OpenLoad):
        return format_rate(load.rate)
    return format.count(load.peak_users)


def _threads(knobs: Knobs) -> str:
    return {
        "blocking": "none: in the loop",
        "to_thread": "default executor",
        "executor": f"{knobs.gcs_threads} own, each",
        "audio_pool": f"{knobs.audio_threads} audio, each",
    }[knobs.gcs_call]


def _pooler(knobs: Knobs) -> tuple[str, ...]:
    return (f"PgBouncer: {knobs.pooler_size}",) if pooled(knobs) else ()


def _distance(cell: CellResult, knob: str) -> str:
    return str(cell.knobs.get(knob, "")) if knob else ""


def _backend(canvas: Canvas, cell: CellResult, boxes: Mapping[str, Box]) -> None:
    """The frame around what is inside one worker, or instance, and how many there are."""
    inside = [boxes[name] for name in ("workers", "pool", "threads")]
    x, top = inside[0].x - 12, min(box.y for box in inside) - 12
    right = max(box.x + box.wide for box in inside) + 12
    foot = max(box.y + box.high for box in inside) + 12
    canvas.box(x, top, right - x, foot - top, "frame")
    knobs = Knobs.model_validate(cell.knobs)
    text = format.plural(knobs.workers, "worker")
    if cell.target == "cloudrun":
        least, most = knobs.cloudrun_min_instances, knobs.cloudrun_max_instances
        text = f"{least} to {format.plural(most, 'instance')}, {knobs.cloudrun_cpus:g} CPU"
        text += f", {format.plural(knobs.cloudrun_concurrency, 'upload')} at once in each"
    canvas.text(x + 2, top - 6, text, "quiet")


def _way(canvas: Canvas, begin: Box, end: Box, distance: str) -> None:
    """An arrow, with the proxy's distance on it."""
    x1, y1, x2, y2 = begin.x + begin.wide, begin.middle, end.x - 3, end.middle
    half = end.x - 88 if distance else (x1 + x2) / 2
    steps = f"H{number(half)}V{number(y2)}H{number(x2)}m-5-4l5 4l-5 4"
    canvas.path(f"M{number(x1)} {number(y1)}{steps}", "way")
    if distance:
        canvas.box(end.x - 82, y2 - 11, 68, 22, "proxy", layer=1)
        canvas.text(end.x - 48, y2 + 4, fitted(distance, 68), "quiet", "middle")


def _box(canvas: Canvas, box: Box, limit: Bottleneck) -> None:
    is_limit = any(one.resource is limit.resource for one in box.shown)
    canvas.box(box.x, box.y, box.wide, box.high, "part limiting" if is_limit else "part")
    canvas.text(box.x + 10, box.y + 18, box.title, "strong")
    y = box.y + HEAD
    for text in box.lines:
        canvas.text(box.x + 10, y + 8, fitted(text, box.wide - 14), "quiet")
        y += 15
    for one in box.shown:
        is_named = one.resource is limit.resource
        _level(canvas, one, (box.x + 10, y), box.wide - 20, is_limit=is_named)
        y += ROW
    if is_limit:
        canvas.text(box.x + box.wide - 10, box.y + 18, "the limit", "crossed", "end")


def _level(
    canvas: Canvas, one: Candidate, at: tuple[float, float], wide: float, *, is_limit: bool
) -> None:
    x, y = at
    share = min(1.0, max(0.0, one.level))
    style = "crossed" if is_limit else "strong" if one.at_limit else ""
    canvas.text(x, y + 11, fitted(str(one.resource).replace("_", " "), wide - 50), style)
    canvas.text(x + wide, y + 11, format.percent(one.level), style, "end")
    canvas.box(x, y + 15, wide, 6, "track", layer=1)
    if share:
        canvas.box(x, y + 15, wide * share, 6, "fill at" if one.at_limit else "fill", 2)
