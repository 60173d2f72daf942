"""Scenario 4: is an instance's memory exhausted, and what do users meet then?"""

from __future__ import annotations

from collections.abc import Sequence

from lab.model.run import CellResult, Claim
from lab.report.answers.say import backed, knob, limits, listed, measured, name, say


def memory(cells: Sequence[CellResult]) -> list[Claim]:
    """Which cells lost an instance for its memory, and how near the others came."""
    counted = [cell for cell in cells if "oom_kills" in cell.metrics]
    killed = [cell for cell in counted if cell.metrics["oom_kills"]]
    spared = [cell for cell in counted if not cell.metrics["oom_kills"]]
    said = [_killed(cell) for cell in killed]
    if spared:
        said.append(say("No instance was killed in {}.", listed([_peak(c) for c in spared])))
    uncounted = [name(cell) for cell in cells if cell not in counted]
    if uncounted:
        said.append(Claim(text=f"Kills were not counted in {', '.join(uncounted)}."))
    return said + limits(killed)


def _peak(cell: CellResult) -> Claim:
    return say(
        "{} (peak {} of {})",
        backed(name(cell), measured(cell, "oom_kills")),
        measured(cell, "memory_instance"),
        knob(cell, "cloudrun_memory"),
    )


def _killed(cell: CellResult) -> Claim:
    return say(
        "{}: instances were killed {} times for passing {}; {} of {} uploads died with them, "
        "and {} instances were started anew.",
        name(cell),
        measured(cell, "oom_kills"),
        knob(cell, "cloudrun_memory"),
        measured(cell, "errors.instance_died"),
        measured(cell, "attempts"),
        measured(cell, "cold_starts"),
    )
