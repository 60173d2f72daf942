"""Figures as people read them."""

from __future__ import annotations

from lab.model.metrics import BY_NAME


def show(metric: str, value: float) -> str:
    """A metric's value with its unit: ``8.24 s``, ``38.2 %``, ``0.27/s``."""
    unit = BY_NAME[metric].unit
    if unit == "seconds":
        return f"{value:.2f} s" if abs(value) >= 1 else f"{value * 1000:.0f} ms"
    if unit == "share":
        return f"{value * 100:.1f} %"
    if unit == "per second":
        return f"{value:.2f}/s"
    if unit == "cores":
        return f"{value:.2f} cores"
    if unit == "bytes":
        return f"{value / 1e6:.1f} MB"
    if unit == "bytes per second":
        return f"{value / 1e3:.1f} KB/s"
    return f"{value:g}"
