"""How what is stored is written for people: numbers, units, loads, stacks and causes.

Numbers have three significant digits, percentages are honest. Nothing here knows the locale
or the clock, so the same run always reads the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from lab.model import metrics
from lab.model.load import BurstLoad, ClosedLoad, OpenLoad, StagesLoad, load_of_spec
from lab.model.metrics import Unit
from lab.model.run import CellResult, RunInfo
from lab.model.units import format_byte_rate, format_duration, format_number, format_rate
from lab.model.verdict import Change

NONE = "-"
"""What stands where nothing was measured."""

_SIZES = ((1e9, "GB"), (1e6, "MB"), (1e3, "KB"))


def significant(value: float) -> str:
    """Three significant digits, never as an exponent: ``0.274``, ``6.05``, ``14.2``, ``1230``."""
    if value == 0:
        return "0"
    exact = Decimal(repr(value))
    rounded = round(exact, 2 - exact.adjusted())
    # 9.996 rounds up to four digits (10.00): round once more at the new magnitude.
    rounded = round(rounded, 2 - rounded.adjusted())
    return f"{rounded:f}"


def brief(value: float) -> str:
    """A number of seconds, or per second, in a table: below a thousandth it is cut short."""
    return "<0.001" if 0 < value < 0.001 else significant(value)


def percent(share: float) -> str:
    """A share as a percentage: one decimal below 10 % and just below 100 %, none between.

    A share that is not 0 never reads 0.0 %.
    """
    value = share * 100
    if value == 0:
        return "0 %"
    if 0 < value < 0.05:
        return "<0.1 %"
    exact = Decimal(repr(value))
    tenths = round(exact, 1)
    if exact < 100 <= tenths:
        return "99.9 %"
    return f"{tenths} %" if tenths < 10 or 99 < tenths < 100 else f"{round(exact)} %"


def count(value: float) -> str:
    """A number of things; three digits where it is no whole number."""
    return f"{value:.0f}" if value == int(value) else significant(value)


def plural(number: int, noun: str) -> str:
    """So many of a thing: ``1 user``, ``20 users``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def seconds(value: float) -> str:
    """A duration, in ms below a second."""
    return f"{significant(value * 1e3)} ms" if 0 < abs(value) < 1 else f"{significant(value)} s"


def size(value: float) -> str:
    """Bytes in decimal units."""
    for scale, unit in _SIZES:
        if value >= scale:
            return f"{significant(value / scale)} {unit}"
    return f"{value:.0f} B"


def clock(value: float) -> str:
    """A time that is left, to the second: ``45 s``, ``4 min 05 s``, ``1 h 20 min``."""
    whole = max(0, round(value))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def cores(value: float) -> str:
    """CPU-seconds a second."""
    return f"{significant(value)} cores"


def change(kind: str, value: float) -> str:
    """A change beside a baseline: a ratio as ``1.83 x``, a difference of shares in points of a
    hundred, as ``-4.2 points``."""
    if kind == "ratio":
        return f"{significant(value)} x"
    return f"{'-' if value < 0 else '+'}{_points(value)} points"


def _points(share: float) -> str:
    """A share without its sign, in hundredths."""
    return percent(abs(share)).removesuffix(" %")


def beside(told: Change) -> str:
    """A change with its 95 % interval: ``1.83 x (1.75 .. 1.92 x)``; of what was nothing, that."""
    if told.kind == "ratio" and not told.baseline:
        return "before 0"
    return f"{change(told.kind, told.change)} ({interval(told)})"


def interval(beside: Change) -> str:
    """The 95 % interval of a change: ``1.75 .. 1.92 x``."""
    if beside.low is None or beside.high is None:
        return NONE
    if beside.kind == "ratio":
        return f"{significant(beside.low)} .. {significant(beside.high)} x"
    low = change(beside.kind, beside.low).removesuffix(" points")
    return f"{low} .. {change(beside.kind, beside.high)}"


def quantity(value: float | None, unit: Unit) -> str:
    """A figure with its unit."""
    if value is None:
        return NONE
    return _FORMS[unit](value)


_FORMS: dict[Unit, Callable[[float], str]] = {
    "count": count,
    "seconds": seconds,
    "share": percent,
    "per second": lambda value: f"{significant(value)}/s",
    "cores": cores,
    "bytes": size,
    "bytes per second": lambda value: f"{size(value)}/s",
}


def metric(name: str, value: float | None) -> str:
    """A metric's value with its unit; the bare number where the metric is not in the table."""
    known = metrics.row_of(name)
    return quantity(value, known.unit if known else "count")


ERRORS = "errors."
"""The metrics that count failed uploads by their cause have names that begin so."""


def leading_cause(values: Mapping[str, float]) -> str:
    """The cause that most uploads failed with; among equals, the first in the metric table.

    Empty where none failed.
    """
    causes = [name for name in metrics.BY_NAME if name.startswith(ERRORS) and values.get(name)]
    return max(causes, key=values.__getitem__).removeprefix(ERRORS) if causes else ""


def of_main(name: str, cell: CellResult) -> str:
    """A metric of what the cell's load is about: ``p95``, or without uploads ``p95(assess)``."""
    main = read_load(cell.load).main
    return metrics.with_journey(name, main) if main in metrics.journeys_of(name) else name


def led_by(values: Mapping[str, float]) -> str:
    """The leading cause with its count: ``pool_timeout 7``."""
    cause = leading_cause(values)
    return f"{cause} {values[ERRORS + cause]:.0f}" if cause else NONE


def first_reason(cell: CellResult) -> str:
    """The deciding reason of a verdict; empty where none was given."""
    return cell.reasons[0] if cell.reasons else ""


def read_load(stored: Mapping[str, Any]) -> ClosedLoad | StagesLoad | BurstLoad | OpenLoad:
    """A load as it is stored, typed."""
    return load_of_spec(stored)


def load(stored: Mapping[str, Any], max_users: int | None = None) -> str:
    """An offered load in plain English; of a search that goes up to ``max_users``, all of them."""
    given = read_load(stored)
    uploads = f"{given.mix}; {given.audio} each" if given.mix else f"{given.audio} each"
    if given.uplink:
        uploads += f" over a line of {format_byte_rate(given.uplink)}"
    probed = ""
    if given.health_every:
        probed = f"; health every {format_duration(given.health_every)}"
        probed += f", within {format_duration(given.probe_timeout)}"
    if isinstance(given, BurstLoad):
        once = "request" if given.mix else "upload"
        return f"a burst of {given.burst} users at once, one {once} each; {uploads}{probed}"
    if given.think.high:
        uploads += f", {given.think} of thought between"
    uploads += probed
    if isinstance(given, ClosedLoad):
        window = format_duration(given.window)
        return (
            f"{f'up to {max_users}' if max_users else given.users} users, closed loop: ramp "
            f"{format_duration(given.ramp)}, warm-up {format_duration(given.warmup)}, "
            f"{f'windows of {window} and longer' if max_users else f'window {window}'}; {uploads}"
        )
    if isinstance(given, OpenLoad):
        cap = given.max_in_flight
        return (
            f"{format_rate(given.rate)} arriving{f', at most {cap} in flight' if cap else ''}, "
            f"open loop: warm-up "
            f"{format_duration(given.warmup)}, window {format_duration(given.window)}; {uploads}"
        )
    steps = ", ".join(
        f"to {stage.users} over {format_duration(stage.over)}, hold {format_duration(stage.hold)}"
        for stage in given.stages
    )
    return f"users in stages, closed loop: {steps}; {uploads}"


def stack(info: RunInfo) -> str:
    """The stack, why it was chosen, and the speed."""
    why = f" ({info.stack_reason})" if info.stack_reason else ""
    speed = f"speed {info.speed if isinstance(info.speed, str) else format_number(info.speed)}"
    if info.speed != 1:
        speed += ", all figures in real-world time"
    return f"{info.stack} stack{why}, {speed}"
