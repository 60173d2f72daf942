"""Two runs beside each other: which cells are partners, and what is certain of all together.

    cells of two runs ─> settings ─> partners ─> `against` ─> one level for all ─> worse, better

Partners are cells with the same settings, whatever their ids: of all that varies within one of the
two runs. What is the same in all cells of a run, and another in all cells of the other, is what
changed between the runs, and keeps no cells apart: that is what is to be compared.

A comparison of many cells looks at many figures, of which one in twenty would be off its 95 %
interval by chance. So each interval is as wide as it takes for all of them to hold together with
95 % (Bonferroni): of two runs of the same commit, one comparison in twenty at most calls anything
certain. And what is certain is told as better or worse only where it matters: a ratio beyond 5 %,
a difference of shares beyond 1 %.

A criterion that was met and is missed got worse by itself where both outcomes are certain at the
level of all together, by the exact binomial test of how many uploads are beyond its bound: of one
truth, wherever that is, two trials come to both as good as never. In a window that ended as soon as
it was decided no figure is an estimate; there the sequential test that ended it says what is
certain, each outcome with 95 %. A rate is held against its bound as it is, so that its criterion
turns by chance: its interval says what is certain of it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lab.judge.comparison import (
    MOST_FAILED,
    against,
    changes,
    incomparable,
    matters,
    no_figures,
    unlike,
)
from lab.model.criterion import Criterion
from lab.model.experiment import Cell
from lab.model.metrics import BY_NAME, journey_in, plain, with_journey
from lab.model.physics import ALPHA, PERCENTILES
from lab.model.run import CellResult, DamagedCell, RunInfo
from lab.model.run_comparison import CellPair, ComparedRun, RunComparison
from lab.model.verdict import Comparison, Outcome

NAMES = "the later one", "the earlier one"
"""What the cells of a pair are called where one cannot be compared."""

CHOSEN = "speed"
"""A knob that no cells differ by, unless it is an axis: the lab may choose it."""

NO_PART = frozenset({"lab"})
"""The versions by which runs may differ: the lab carries the service, which is compared."""


@dataclass(frozen=True)
class FinishedCell:
    """A cell of a run, and what came of it."""

    cell: Cell
    result: CellResult


@dataclass(frozen=True)
class FinishedRun:
    """A run as it is stored.

    Args:
        info: what was decided before its first cell.
        cells: those that are finished and can be read.
        missing: ids of those that are not finished.
        damaged: those that cannot be read.
    """

    info: RunInfo
    cells: Sequence[FinishedCell]
    missing: tuple[str, ...] = ()
    damaged: tuple[DamagedCell, ...] = ()


Settings = Mapping[str, str]
"""Settings of a cell by name, each as JSON."""


def compare_runs(before: FinishedRun, after: FinishedRun, *, anyway: bool = False) -> RunComparison:
    """A run beside an earlier one.

    Args:
        before: the earlier one.
        after: the later one.
        anyway: compare them though machine, stack, versions, files or speeds differ.

    Returns:
        Without pairs where no cell of one has its settings in the other.
    """
    partners, changed = _partners(before, after)
    why_not = differing(before.info, after.info)
    results = [(old.result, new.result) for old, new in partners]
    pairs, figures = compare_cells(results, "" if anyway else "; ".join(why_not), anyway=anyway)
    return RunComparison(
        before=_side(before, {pair.before for pair in pairs}),
        after=_side(after, {pair.after for pair in pairs}),
        changed=changed,
        why_not=why_not,
        anyway=anyway,
        confidence=1 - ALPHA,
        figures=figures,
        cells=pairs,
    )


def compare_cells(
    partners: Sequence[tuple[CellResult, CellResult]], apart: str = "", *, anyway: bool = False
) -> tuple[tuple[CellPair, ...], int]:
    """Pairs of cells, and how many intervals there are, which hold together.

    Args:
        partners: the earlier and the later cell of each.
        apart: why none is to be compared; empty where they are.
        anyway: compare them though files or speeds differ.
    """
    figures = sum(_intervals(old, new, apart, anyway) for old, new in partners)
    counted = sum(len(_counted(old)) for old, _ in partners)
    alpha = ALPHA / max(1, figures + counted)
    return tuple(_pair(old, new, alpha, apart, anyway) for old, new in partners), figures


def _side(run: FinishedRun, paired: set[str]) -> ComparedRun:
    alone = tuple(one.result.id for one in run.cells if one.result.id not in paired)
    return ComparedRun.of(run.info, alone=alone, missing=run.missing, damaged=run.damaged)


# Which cells are partners.


def settings_of(cell: Cell) -> dict[str, str]:
    """What is measured of a cell, as JSON by name: target, knobs, load, faults.

    Criteria, seed and a speed that is no axis are not among it.
    """
    knobs = {name: value for name, value in cell.knobs.as_text().items() if name != CHOSEN}
    if CHOSEN in cell.axes:
        knobs[CHOSEN] = cell.knobs.speed
    load = {f"load.{key}": value for key, value in cell.load.model_dump(mode="json").items()}
    faults = [fault.fault for fault in cell.faults]
    told = {"target": cell.target, **knobs, **load, "faults": faults}
    if "repeat" in cell.axes:
        told["repeat"] = cell.axes["repeat"]
    return {name: json.dumps(value, sort_keys=True) for name, value in told.items()}


Pairs = list[tuple[FinishedCell, FinishedCell]]


def _partners(
    before: FinishedRun, after: FinishedRun
) -> tuple[Pairs, dict[str, tuple[object, object]]]:
    """The cells with the same settings, in the later run's order, and what else differs."""
    olds = [(settings_of(one.cell), one) for one in before.cells]
    news = [(settings_of(one.cell), one) for one in after.cells]
    if not olds or not news:
        return [], {}
    old, new = ([settings for settings, _ in side] for side in (olds, news))
    varying = _varying(old) | _varying(new)
    waiting: dict[tuple[str, ...], list[FinishedCell]] = defaultdict(list)
    for settings, one in olds:
        waiting[_signature(settings, varying)].append(one)
    pairs = []
    for settings, one in news:
        same = waiting[_signature(settings, varying)]
        # Two values of an axis may come to the same settings: then the id tells them apart.
        partner = next((each for each in same if each.cell.id == one.cell.id), None)
        if partner is None and len(same) == 1:
            partner = same[0]
        if partner is not None:
            same.remove(partner)
            pairs.append((partner, one))
    return pairs, _changed(old[0], new[0], varying)


def _varying(settings: Sequence[Settings]) -> set[str]:
    """The names of the settings that are not the same in all cells of a run."""
    names = {name for each in settings for name in each}
    return {name for name in names if len({each.get(name) for each in settings}) > 1}


def _signature(settings: Settings, varying: set[str]) -> tuple[str, ...]:
    return tuple(settings.get(name, "") for name in sorted(varying))


def _changed(
    before: Settings, after: Settings, varying: set[str]
) -> dict[str, tuple[object, object]]:
    """What is the same within each run, and differs between them; None: there is no such thing."""
    names = [name for name in {**before, **after} if name not in varying]
    return {
        name: (_value(before.get(name)), _value(after.get(name)))
        for name in names
        if before.get(name) != after.get(name)
    }


def _value(text: str | None) -> object:
    return None if text is None else json.loads(text)


# Whether the runs can be compared.


def differing(before: RunInfo, after: RunInfo) -> tuple[str, ...]:
    """Why two runs are not to be compared, each reason as a phrase: stack, machine, versions."""
    found = []
    if before.stack != after.stack:
        found.append(f"their stacks differ: {before.stack} and {after.stack}")
    found += _unequal("machines", before.machine, after.machine)
    old, new = (
        {name: text for name, text in info.versions.items() if name not in NO_PART}
        for info in (before, after)
    )
    return (*found, *_unequal("versions", old, new))


def _unequal(noun: str, before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    told = (f"{name} {before.get(name, '-')} and {after.get(name, '-')}" for name in names)
    if names:
        yield f"their {noun} differ: {', '.join(told)}"


# What is certain.


def _intervals(before: CellResult, after: CellResult, apart: str, anyway: bool) -> int:
    """How many figures of a pair have an interval."""
    if apart or Outcome.INVALID in (before.verdict, after.verdict):
        return 0
    if (no_figures if anyway else incomparable)(after, before, NAMES):
        return 0
    return sum(change.low is not None for change in changes(after, before))


def _pair(
    before: CellResult, after: CellResult, alpha: float, apart: str, anyway: bool
) -> CellPair:
    beside = against(after, before, alpha, NAMES, anyway=anyway)
    if apart:
        beside = beside.model_copy(update={"changes": (), "why_not": apart})
    alike = not apart and (anyway or not unlike(after, before))
    told = [*_figures(beside), *(_criteria(before, after, beside, alpha) if alike else ())]
    found = [(way, name) for way, name in told if _counts(name, before, after)]
    return CellPair(
        before=before.id,
        after=after.id,
        verdicts=(before.verdict, after.verdict),
        beside=beside,
        worse=tuple(name for way, name in found if way == "worse"),
        better=tuple(name for way, name in found if way == "better"),
    )


Certain = tuple[str, str]
"""What a change comes to, ``worse`` or ``better``; and the metric, or the criterion."""


def _figures(beside: Comparison) -> list[Certain]:
    """The figures of which it is certain that they changed, and which matter."""
    clear = (change for change in beside.changes if change.tendency in ("worse", "better"))
    return [(change.tendency, change.metric) for change in clear if matters(change)]


TURNED = {("met", "missed"): "worse", ("missed", "met"): "better"}


def _criteria(
    before: CellResult, after: CellResult, beside: Comparison, alpha: float
) -> list[Certain]:
    """The criteria of which it is certain that they came out the other way round."""
    turned = ((TURNED.get((flip.before, flip.after)), flip.criterion) for flip in beside.flips)
    return [
        (way, criterion)
        for way, criterion in turned
        if way and all(_is_certain(criterion, cell, alpha) for cell in (before, after))
    ]


def _is_certain(criterion: str, cell: CellResult, alpha: float) -> bool:
    """Whether a criterion's outcome, met or missed, comes of chance no more often than alpha."""
    [finding] = [one for one in cell.findings if one.criterion == criterion][:1]
    if cell.decided:
        return finding.certain_after is not None
    counted = _counted(cell).get(criterion)
    if counted is None:
        return False
    from scipy.special import bdtr, bdtrc  # slow to import; many commands never judge

    samples, beyond, allowed = counted
    if finding.outcome == "met":
        return bool(bdtr(beyond, samples, allowed) <= alpha)
    return beyond > 0 and bool(bdtrc(beyond - 1, samples, allowed) <= alpha)


def _counted(cell: CellResult) -> dict[str, tuple[int, int, float]]:
    """Of each criterion that is decided by counting: uploads, those beyond its bound, and which
    share of them is allowed to be."""
    return {
        one.criterion: (one.samples, one.beyond, one.allowed)
        for one in cell.findings
        if one.samples is not None and one.beyond is not None and one.allowed is not None
    }


def _counts(name: str, before: CellResult, after: CellResult) -> bool:
    """Whether a metric, or a criterion, says how users fare.

    A percentile of the successes does so where nearly all are served, in both cells: to cut slow
    uploads off makes it better, and to serve them makes it worse.
    """
    metric = name if plain(name) in BY_NAME else Criterion.parse(name).name
    if plain(metric) not in PERCENTILES or plain(metric) == "p95_all":
        return True
    failed = with_journey("error_rate", journey_in(metric))
    return all(cell.metrics.get(failed, 0.0) <= MOST_FAILED for cell in (before, after))
