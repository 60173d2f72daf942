"""How numbers are written for people: three significant digits, honest percentages.

Nothing here knows the locale or the clock, so the same run always reads the same.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from lab.model import metrics
from lab.model.metrics import Unit

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


def cell(value: float) -> str:
    """A number in a table, of seconds or a second: what is below a thousandth takes no room."""
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
    if tenths < 10 or 99 < tenths < 100:
        return f"{tenths} %"
    return f"{round(exact)} %" if exact < 99 or exact >= 100 else "99.9 %"


def count(value: float) -> str:
    """A number of things; a fraction of one is kept where there is one."""
    return f"{value:.0f}" if value == int(value) else significant(value)


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
    "cores": lambda value: f"{significant(value)} cores",
    "bytes": size,
    "bytes per second": lambda value: f"{size(value)}/s",
}


def metric(name: str, value: float | None) -> str:
    """A metric's value with its unit; of a metric that is not in the table, the number."""
    known = metrics.BY_NAME.get(name)
    return quantity(value, known.unit if known else "count")
