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

NARROW = 100
"""With fewer columns a table tells its short values with the meaning, which else has no room."""


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
    rows: list[tuple[str, ...]] = []
    narrow = style.width < NARROW
    for row in knobs_data():
        same = row["default"] == row["recommended"]
        advised = "same" if same else str(row["recommended"])
        unit = f"{row['unit']}: {row['bounds']}" if row["bounds"] else row["unit"]
        name, found, about = row["name"], str(row["default"]), row["help"]
        if narrow:
            of_preset = "" if same else f"; recommended: {advised}"
            rows.append((name, found, f"{about} ({unit}{of_preset})"))
        else:
            rows.append((name, found, advised, f"{about} ({unit})"))
    heads = ("knob", "as found", *(() if narrow else ("recommended",)), "meaning")
    return blocks_text([Table.of(heads, rows)], style)


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
    told = [(row, f"{row.help}{_of_journeys(row)}") for row in METRICS]
    if style.width < NARROW:
        short = [(row.name, f"{text} [{row.unit}; from {row.source}]") for row, text in told]
        return blocks_text([Table.of(("metric", "meaning [unit; from]"), short)], style)
    rows = [(row.name, row.unit, row.source, text) for row, text in told]
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
    rows: list[tuple[str, ...]] = []
    narrow = style.width < NARROW
    for name, fault in sorted(faults.items()):
        toxics = ", ".join(toxic.type for toxic in fault.toxics)
        how = str(fault.process_fault or ("down" if fault.down else toxics))
        where = str(fault.part or fault.proxy)
        told = (f"{fault.about} [{how}]",) if narrow else (how, fault.about)
        rows.append((name, where, *told))
    heads = ("meaning [how]",) if narrow else ("how", "meaning")
    return blocks_text([Table.of(("fault", "where", *heads), rows)], style)


def runs_data(runs: Sequence[StoredRun]) -> list[dict[str, Any]]:
    """A row a stored run."""
    return [run.model_dump(mode="json") for run in runs]


OF_KIND = {"run": "", "threshold": "thresholds: ", "why": "limits: "}
"""What a run's outcomes are of."""


def runs_text(runs: Sequence[StoredRun], style: Style) -> str:
    """``lab runs``: name (when, and what), how many cells are finished, and what came of them."""
    if not runs:
        return "no run is stored yet; `lab run SPEC` makes one\n"
    rows = []
    for run in runs:
        outcomes = ", ".join(f"{number} {outcome}" for outcome, number in run.outcomes.items())
        outcomes = outcomes or "none"
        outcomes = f"{OF_KIND[run.kind]}{outcomes}"
        row = (run.name, run.stack, f"{run.finished}/{run.cells}", outcomes)
        rows.append((run.name, "", "", f"unreadable: {run.problem}") if run.problem else row)
    heads = ("run", "stack", "cells", "outcomes")
    return blocks_text([Table.of(heads, rows, right=("cells",))], style)
