"""The lab's own tables as text and as data: knobs, metrics, faults and stored runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lab.model.fault import Fault
from lab.model.journeys import Journey
from lab.model.knobs import TABLE as KNOBS
from lab.model.knobs import Knobs, Preset
from lab.model.metrics import TABLE as METRICS
from lab.model.metrics import Metric, home_of, journeys_of
from lab.model.run import StoredRun
from lab.report.blocks import Table
from lab.report.terminal import Style, blocks_text


def knobs_data() -> list[dict[str, Any]]:
    """A row a knob, values as a spec writes them."""
    as_found, advised = (Knobs.preset(preset).as_text() for preset in Preset)
    return [
        {
            "name": row.name,
            "unit": row.unit,
            "bounds": row.bounds,
            "default": as_found[row.name],
            "recommended": advised[row.name],
            "variable": row.variable,
            "part": row.part,
            "help": row.help,
        }
        for row in KNOBS
    ]


def knobs_text(style: Style) -> str:
    """``lab knobs``: name, both presets, bounds and meaning."""
    rows = []
    for row in knobs_data():
        same = row["default"] == row["recommended"]
        advised = "same" if same else str(row["recommended"])
        unit = f"{row['unit']}: {row['bounds']}" if row["bounds"] else row["unit"]
        rows.append((row["name"], str(row["default"]), advised, f"{row['help']} ({unit})"))
    table = Table.of(("knob", "as found", "recommended", "meaning"), rows)
    return blocks_text([table], style)


def metrics_data() -> list[dict[str, Any]]:
    """A row a metric."""
    return [
        {
            "name": row.name,
            "unit": row.unit,
            "source": row.source,
            "help": row.help,
            "journeys": [str(journey) for journey in journeys_of(row.names[0])],
        }
        for row in METRICS
    ]


def metrics_text(style: Style) -> str:
    """``lab metrics``: name, unit, source and meaning, and of which journeys it may be asked."""
    rows = [(row.name, row.unit, row.source, row.help + _of_journeys(row)) for row in METRICS]
    return blocks_text([Table.of(("metric", "unit", "from", "meaning"), rows)], style)


def _of_journeys(row: Metric) -> str:
    """A remark on the other journeys of which a metric may be asked, in parentheses."""
    name = row.names[0]
    others = [journey for journey in journeys_of(name) if journey is not home_of(name)]
    every = "any journey" if len(others) == len(Journey) - 1 else ", ".join(others)
    return f" (also of {every})" if others else ""


def faults_data(faults: Mapping[str, Fault]) -> list[dict[str, Any]]:
    """A row a fault, with the keys of its file."""
    return [fault.model_dump(mode="json") for _, fault in sorted(faults.items())]


def faults_text(faults: Mapping[str, Fault], style: Style) -> str:
    """``lab faults``: name, the proxy or the part it is done to, how, and meaning."""
    rows = []
    for name, fault in sorted(faults.items()):
        toxics = ", ".join(toxic.type for toxic in fault.toxics)
        how = str(fault.process_fault or ("down" if fault.down else toxics))
        rows.append((name, str(fault.part or fault.proxy), how, fault.about))
    return blocks_text([Table.of(("fault", "where", "how", "meaning"), rows)], style)


def runs_data(runs: Sequence[StoredRun]) -> list[dict[str, Any]]:
    """A row a stored run."""
    return [run.model_dump(mode="json") for run in runs]


OF_KIND = {"run": "", "threshold": "thresholds: ", "why": "limits: "}
"""What a run's outcomes are of."""


def runs_text(runs: Sequence[StoredRun], style: Style) -> str:
    """``lab runs``: name, when, how many cells are finished, and what came of them."""
    if not runs:
        return "no run is stored yet; `lab run SPEC` makes one\n"
    rows = []
    for run in runs:
        outcomes = ", ".join(f"{number} {outcome}" for outcome, number in run.outcomes.items())
        outcomes = outcomes or "none"
        outcomes = f"{OF_KIND[run.kind]}{outcomes}"
        row = (run.name, run.started, run.stack, f"{run.finished}/{run.cells}", outcomes)
        rows.append((run.name, "", "", "", f"unreadable: {run.problem}") if run.problem else row)
    heads = ("run", "started", "stack", "cells", "outcomes")
    return blocks_text([Table.of(heads, rows, right=("cells",))], style)
