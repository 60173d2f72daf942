"""Where an upload's time goes: the seconds by who kept or served it, laid end to end.

    mean      of all successes
    as p95    of the successes that took as long as p95 says
    failed    of the failures, until they were known

Waiting is hatched, work is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from math import fsum

from markupsafe import Markup

from lab.model.distribution import TimeSpent
from lab.model.run import CellResult
from lab.model.units import format_duration
from lab.report import format, phrases
from lab.report.blocks import Bar, Picture, Table, Value
from lab.report.cells import upper_bound
from lab.report.pictures.svg import (
    CHARACTER,
    Canvas,
    Scale,
    drawing,
    fitted,
    linear,
    ticks,
)


@dataclass(frozen=True)
class StationName:
    """How a station is told; ``waits``: nothing is done for an upload there."""

    text: str
    waits: bool = True


PLACES = {
    "gateway": StationName("wait for an instance"),
    "loop": StationName("wait for the event loop"),
    "anyio": StationName("wait for an anyio thread"),
    "pool": StationName("wait for a connection"),
    "pooler": StationName("wait in PgBouncer"),
    "threads": StationName("wait for a thread"),
    "speech_threads": StationName("wait for a speech thread"),
    "audio_threads": StationName("wait for an audio thread"),
    "storage": StationName("storage call", waits=False),
    "database": StationName("database", waits=False),
    "speech": StationName("speech call", waits=False),
    "conversion": StationName("conversion", waits=False),
    "elsewhere": StationName("on its way"),
}
"""Every station, in the order of an upload's way; one of a later lab is told by its name."""

BARS = {"mean": "mean", "slow": "as p95", "failed": "failed"}
"""The fields of `TimeSpent`, and how a bar of each is called."""

LEFT, RIGHT, WIDTH = 300.0, 40.0, 860.0
BAR, STEP = 13, 17
MIN_WIDE = 0.3
"""A piece that is narrower is not drawn: the table has it."""


def of_run(cells: Sequence[CellResult]) -> Picture | None:
    """The bars of every cell on one scale; None of a single cell, which has its own."""
    told = [cell for cell in cells if cell.time_spent]
    return _picture(told, in_text=False) if len(told) > 1 else None


def of_cell(cell: CellResult) -> Picture | None:
    """The bars of one cell; None where nothing is known."""
    return _picture([cell], in_text=True) if cell.time_spent else None


def _picture(cells: Sequence[CellResult], *, in_text: bool) -> Picture:
    return Picture(
        name="time-spent",
        title="Where an upload's time goes",
        about=_about(cells),
        table=_of_one(cells[0]) if len(cells) == 1 else _of_many(cells),
        draw=lambda name: _drawn(name, cells),
        data={cell.id: [one.model_dump(mode="json") for one in cell.time_spent] for cell in cells},
        note="Seconds by what kept or served an upload, laid end to end; hatched: it waited. As"
        " p95: of the uploads that took as long as p95 says. Failed: until the failure was known."
        " Upright: the bound on p95.",
        in_text=in_text,
    )


def _about(cells: Sequence[CellResult]) -> str:
    if len(cells) > 1:
        return f"Bars of {len(cells)} cells; the table below has the seconds at each station."
    [cell] = cells
    told = (_sentence(cell, field) for field in BARS if _seconds(cell, field))
    return " ".join(told)


def _sentence(cell: CellResult, field: str) -> str:
    most = max(cell.time_spent, key=lambda one: _of(one, field) or 0.0)
    seconds, total = _of(most, field) or 0.0, _seconds(cell, field)
    share = format.percent(seconds / total) if total else format.percent(0)
    subject = {"mean": "A mean upload", "slow": "One as slow as p95", "failed": "A failed one"}
    return (
        f"{subject[field]} took {format.seconds(total)}, {share} of it: {_place(most.station).text}"
        f" ({format.seconds(seconds)})."
    )


def _place(station: str) -> StationName:
    return PLACES.get(station, StationName(station))


def _of(one: TimeSpent, field: str) -> float | None:
    seconds: float | None = getattr(one, field)
    return seconds


def _seconds(cell: CellResult, field: str) -> float:
    """What a bar comes to."""
    return fsum(_of(one, field) or 0.0 for one in cell.time_spent)


def _fields(cells: Sequence[CellResult]) -> list[str]:
    spent = list(chain.from_iterable(cell.time_spent for cell in cells))
    return [field for field in BARS if any(_of(one, field) is not None for one in spent)]


def _of_one(cell: CellResult) -> Table:
    """A row a station, with bars to one scale."""
    fields = _fields([cell])
    most = max((_of(one, f) or 0.0 for one in cell.time_spent for f in fields), default=0.0)

    def value(one: TimeSpent, field: str) -> Value:
        seconds = _of(one, field)
        bar = Bar(seconds / most) if seconds and most else None
        return Value(format.quantity(seconds, "seconds"), picture=bar)

    rows: list[tuple[Value | str, ...]] = [
        (_place(one.station).text, *(value(one, field) for field in fields))
        for one in cell.time_spent
    ]
    totals = (format.seconds(_seconds(cell, field)) for field in fields)
    rows.append(("together", *totals))
    heads = [BARS[field] for field in fields]
    return Table.of(("where", *heads), rows, right=heads)


def _of_many(cells: Sequence[CellResult]) -> Table:
    """A row a bar."""
    stations = _stations(cells)
    rows = []
    for cell in cells:
        spent = {one.station: one for one in cell.time_spent}
        for field in _fields([cell]):
            seconds = (_of(spent[s], field) if s in spent else None for s in stations)
            told = (format.quantity(value, "seconds") for value in seconds)
            whole = format.seconds(_seconds(cell, field))
            rows.append((phrases.name(cell), BARS[field], *told, whole))
    heads = [*(_place(station).text for station in stations), "together"]
    return Table.of(("cell", "upload", *heads), rows, right=heads)


def _stations(cells: Sequence[CellResult]) -> list[str]:
    found = dict.fromkeys(one.station for cell in cells for one in cell.time_spent)
    return [s for s in PLACES if s in found] + [s for s in found if s not in PLACES]


# The drawing.


def _drawn(name: str, cells: Sequence[CellResult]) -> Markup:
    left = LEFT if len(cells) > 1 else 70.0
    bars = [(cell, field) for cell in cells for field in _fields([cell])]
    bounds = [bound for cell in cells if (bound := upper_bound(cell)) is not None]
    longest = max((_seconds(cell, field) for cell, field in bars), default=0.0)
    shown = [bound for bound in bounds if bound <= 3 * longest]
    end = max([longest, *shown]) * 1.02 or 1.0
    across = linear(end, left, WIDTH - RIGHT)
    stations = _stations(cells)
    rows = _rows(stations)
    top = 18.0 * rows + 10
    height = top + sum(len(_fields([cell])) * STEP + 8 for cell in cells)
    canvas = Canvas()
    for value in ticks(end, 8):
        canvas.line(across(value), top, across(value), height, "grid")
        canvas.text(across(value), height + 15, f"{value:g} s", "quiet", "middle")
    _legend(canvas, stations)
    at = top + 4
    for cell in cells:
        if len(cells) > 1:
            canvas.text(0, at + 10, fitted(phrases.name(cell), left - 60), "strong")
        _bars(canvas, cell, across, at, left)
        at += len(_fields([cell])) * STEP + 8
    bound = min(shown, default=None)
    if bound is not None:
        _bound(canvas, bound, across(bound), top, height)
    return drawing(WIDTH, height + 22, name, "Where an upload's time goes", _about(cells), canvas)


def _bound(canvas: Canvas, bound: float, x: float, top: float, height: float) -> None:
    canvas.line(x, top - 4, x, height, "bound")
    late = x > WIDTH - 120
    text = f"p95 < {format_duration(bound)}"
    canvas.text(x + (-4 if late else 4), top + 2, text, "crossed", "end" if late else "")


def _bars(canvas: Canvas, cell: CellResult, across: Scale, top: float, left: float) -> None:
    spent = {one.station: one for one in cell.time_spent}
    for index, field in enumerate(_fields([cell])):
        y = top + index * STEP
        canvas.text(left - 6, y + 10, BARS[field], "quiet", "end")
        at = 0.0
        for station in _stations([cell]):
            seconds = _of(spent[station], field) or 0.0
            x, wide = across(at), across(at + seconds) - across(at)
            at += seconds
            if wide >= MIN_WIDE:
                _piece(canvas, station, x, y, wide)
        canvas.text(across(at) + 4, y + 10, format.seconds(at), "quiet halo")


def _piece(canvas: Canvas, station: str, x: float, y: float, wide: float) -> None:
    canvas.box(x, y, wide, BAR, f"st s-{station}")
    if _place(station).waits:
        canvas.box(x, y, wide, BAR, "waiting", layer=1)


def _wide(station: str) -> float:
    return 34 + len(_place(station).text) * CHARACTER


def _places_of(stations: Sequence[str]) -> Iterator[tuple[str, float, int]]:
    """Where each name of the legend stands: its left end, and its row."""
    x, row = 0.0, 0
    for station in stations:
        if x and x + _wide(station) > WIDTH:
            x, row = 0.0, row + 1
        yield station, x, row
        x += _wide(station)


def _rows(stations: Sequence[str]) -> int:
    return 1 + max((row for _, _, row in _places_of(stations)), default=0)


def _legend(canvas: Canvas, stations: Sequence[str]) -> None:
    for station, x, row in _places_of(stations):
        _piece(canvas, station, x, row * 18.0, 14)
        canvas.text(x + 19, row * 18 + 10, _place(station).text)
