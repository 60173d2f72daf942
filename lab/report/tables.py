"""The lab's own tables as text and as data: knobs, metrics, faults and stored runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lab.model.fault import Fault
from lab.model.knobs import TABLE as KNOBS
from lab.model.knobs import Knobs, Preset
from lab.model.metrics import TABLE as METRICS
from lab.model.run import StoredRun
from lab.report.details import table
from lab.report.style import Style


def knobs_data() -> list[dict[str, Any]]:
    """A row a knob, values as a spec writes them."""
    found, advised = (Knobs.preset(preset).as_text() for preset in Preset)
    return [
        {
            "name": row.name,
            "unit": row.unit,
            "bounds": row.bounds,
            "default": found[row.name],
            "recommended": advised[row.name],
            "variable": row.variable,
            "part": row.part,
            "help": row.help,
        }
        for row in KNOBS
    ]


def knobs_text(style: Style) -> str:
    """``lab knobs``: name, both presets, bounds and meaning."""
    made = table(("knob", "as found", "recommended", "meaning"))
    for row in knobs_data():
        same = row["default"] == row["recommended"]
        bounds = f" ({row['unit']}: {row['bounds']})" if row["bounds"] else f" ({row['unit']})"
        advised = "same" if same else str(row["recommended"])
        made.add_row(row["name"], str(row["default"]), advised, row["help"] + bounds)
    return style.render(made)


def metrics_data() -> list[dict[str, Any]]:
    """A row a metric."""
    return [
        {"name": row.name, "unit": row.unit, "source": row.source, "help": row.help}
        for row in METRICS
    ]


def metrics_text(style: Style) -> str:
    """``lab metrics``: name, unit, source and meaning."""
    made = table(("metric", "unit", "from", "meaning"))
    for row in METRICS:
        made.add_row(row.name, row.unit, row.source, row.help)
    return style.render(made)


def faults_data(faults: Mapping[str, Fault]) -> list[dict[str, Any]]:
    """A row a fault, as its file says it."""
    return [fault.model_dump(mode="json") for _, fault in sorted(faults.items())]


def faults_text(faults: Mapping[str, Fault], style: Style) -> str:
    """``lab faults``: name, the proxy or the part it strikes, how, and meaning."""
    made = table(("fault", "strikes", "how", "meaning"))
    for name, fault in sorted(faults.items()):
        toxics = ", ".join(toxic.type for toxic in fault.toxics)
        how = str(fault.process_fault or ("down" if fault.down else toxics))
        made.add_row(name, fault.part or fault.proxy, how, fault.about)
    return style.render(made)


def runs_data(runs: Sequence[StoredRun]) -> list[dict[str, Any]]:
    """A row a stored run."""
    return [run.model_dump(mode="json") for run in runs]


def runs_text(runs: Sequence[StoredRun], style: Style) -> str:
    """``lab runs``: name, when, how many cells are finished, and what came of them."""
    if not runs:
        return "no run is stored yet; `lab run SPEC` makes one\n"
    made = table(("run", "started", "stack", "cells", "outcomes"), right=("cells",))
    for run in runs:
        outcomes = ", ".join(f"{number} {outcome}" for outcome, number in run.outcomes.items())
        if run.kind == "threshold":
            outcomes = f"thresholds: {outcomes or 'none'}"
        if run.problem:
            made.add_row(run.name, "", "", "", f"unreadable: {run.problem}")
        else:
            done = f"{run.finished}/{run.cells}"
            made.add_row(run.name, run.started, run.stack, done, outcomes or "none")
    return style.render(made)
