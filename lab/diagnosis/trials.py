"""A cell with some of its knobs changed, as a trial of a diagnosis, and what came of it.

A trial is a cell of its own: its axes are those of the cell that it is of, and one more, that says
what was changed. It is measured for as long as the cell itself, and never ends early, because what
is asked of it is a figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError

from lab.judge.bottleneck import RULES
from lab.judge.comparison import change, is_nearer
from lab.judge.criteria import MANY_LEFT_OUT
from lab.model.criterion import Criterion
from lab.model.diagnosis import STEP, Effect
from lab.model.experiment import Cell
from lab.model.metrics import with_journey
from lab.model.physics import PERCENTILES
from lab.model.relaxation import Relaxation, Settings, differing
from lab.model.replica import contradiction
from lab.model.run import CellResult
from lab.model.verdict import Change, Outcome, Resource

ENOUGH = 1.1
"""A figure that is better by a tenth has moved: all that more of a limit does is beyond that."""

ENOUGH_SHARE = 0.02
"""Of shares, better by so much."""

AT_MOST = 1.5
"""What may still be so much better has not certainly stayed; of shares, 4 x `ENOUGH_SHARE`."""


RATE = "throughput"
"""What is looked at where it is not known how well the figures that were missed are known."""


class Impossible(NamedTuple):
    """A change that the cell cannot have, and why."""

    why: str


def as_it_is(cell: Cell) -> Cell:
    """The cell as a trial among others: held against nothing, and measured whole."""
    alone = {"stop_when_decided": False, "baseline": "", "relative": ()}
    return cell.model_copy(update=alone)


def changed(cell: Cell, axis: str, label: str, settings: Mapping[str, Any]) -> Cell | Impossible:
    """A trial of a cell: the same with these knobs changed."""
    try:
        knobs = cell.knobs.with_settings(settings)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        what = str(first["msg"]).removeprefix("Value error, ")
        return Impossible(
            f"{first['loc'][0]} cannot be {settings.get(str(first['loc'][0]))}: {what}"
        )
    if problem := contradiction(cell.target, knobs):
        return Impossible(problem[0])
    update = {"id": f"{cell.id},{axis}={label}", "axes": {**cell.axes, axis: label}}
    return as_it_is(cell).model_copy(update={**update, "knobs": knobs})


def name_of(cell: Cell, trial: Cell) -> str:
    """By what it is known that the stack refused a trial: its id, and of a step, which one resource
    or another may make, its settings too."""
    if STEP not in trial.axes:
        return trial.id
    settings = settings_of(cell, trial)
    return " ".join([f"{trial.id}:", *(f"{name}={value}" for name, value in settings.items())])


def settings_of(cell: Cell, trial: Cell) -> dict[str, object]:
    """The knobs in which a trial differs from its cell, but for the speed at which it was made."""
    wanted = trial.knobs.as_text()
    return {k: v for k, v in differing(cell.knobs, wanted).items() if k != "speed"}


def label_of(resources: Sequence[Resource]) -> str:
    """How a trial names what is relaxed: ``own_threads+pool``."""
    return "+".join(resources)


def relaxation_of(resource: Resource) -> Relaxation | None:
    """How there is more of a resource; None where nobody can give it more."""
    rule = RULES.get(resource)
    return rule.relaxation if rule else None


def relaxed_settings(cell: Cell, resources: Sequence[Resource]) -> Settings | Impossible:
    """The knobs that give a cell more of each of these resources."""
    settings: Settings = {}
    for resource in resources:
        relaxation = relaxation_of(resource)
        if relaxation is None:
            return Impossible("nobody can give it more")
        more = relaxation.change(cell)
        if more is None:
            return Impossible("this cell has nothing of it to be given more of")
        settings |= more
    return effective(cell, settings)


def relaxable(cell: Cell) -> tuple[Resource, ...]:
    """The resources of which a cell can be given more, each alone, but its own work."""
    return tuple(
        resource
        for resource in RULES
        if (relaxation := relaxation_of(resource))
        and not relaxation.serves
        and not isinstance(relaxed_settings(cell, (resource,)), Impossible)
    )


def effective(cell: Cell, settings: Mapping[str, Any]) -> Settings | Impossible:
    """Those of the settings that change something in a cell."""
    try:
        found = differing(cell.knobs, settings)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        return Impossible(f"{first['loc'][0]} has no more: {first['msg']}")
    return found or Impossible("it changes nothing here")


class Moved(NamedTuple):
    """What a change did to the criteria that were missed."""

    effect: Effect
    reason: str
    changes: tuple[Change, ...] = ()


def effect_of(missed: Sequence[Criterion], trial: CellResult, before: CellResult) -> Moved:
    """Whether a trial moved one of the criteria that the cell missed.

    A criterion is moved where it is met now, or where its figure is certainly better by as much as
    `ENOUGH`. Where it is not known how well the figures are known, the rate is looked at instead;
    and so it is where more fail than before, for a latency is then of those who were left. Fewer
    failures are no gain where fewer uploads are served: they have become waits. What else got
    worse by as much is told as the price.
    """
    if trial.verdict is Outcome.INVALID:
        why = trial.invalid[0].reason if trial.invalid else "it is invalid"
        return Moved("unmeasured", why)
    outcomes = {finding.criterion: finding.outcome for finding in trial.findings}
    changes = _changes(missed, trial, before)
    counting = [one for one in missed if not _of_who_was_left(one, trial, before)]
    price = _price(missed, trial, before)
    all_told = (*changes, *_new(price, changes))
    if met := [str(one) for one in counting if outcomes.get(str(one)) == "met"]:
        return Moved("moved", f"{' and '.join(met)} is met{_at_a_price(price)}", all_told)
    told = {one.name for one in counting}
    traded = [one for one in counting if _is_of_failures(one)]
    if any(one.metric == RATE for one in price):
        told -= {one.name for one in traded}
    known = [one for one in changes if one.low is not None and one.metric in told]
    known = known or _rates(trial, before)
    effects = {one.metric: _effect(one) for one in known}
    for effect in ("moved", "unclear", "unmoved"):
        if names := [name for name, seen in effects.items() if seen == effect]:
            reason = _reason(effect, names[0], known)
            if effect == "unmoved" and names == [RATE] and traded:
                reason = f"fewer fail because fewer are served: {_measured(known[0])}"
            if effect == "moved":
                reason += _at_a_price([one for one in price if one.metric not in names])
            return Moved(effect, reason, (*all_told, *_new(known, all_told)))
    return Moved("unclear", "it is not known how well the figures are known", all_told)


def is_outdone(
    missed: Sequence[Criterion], trial: CellResult, by: CellResult, before: CellResult
) -> bool:
    """Whether one trial surely did less than half of what another one did.

    It is looked for in the figures of what was missed and in the rate: one in which the other is
    surely better than the cell as it is, and this one surely nearer to that. So a trial that alone
    is too uncertain to tell, as one in which next to nothing was served, tells beside one that
    surely moved.

    Args:
        missed: the criteria that the cell missed.
        trial: what is uncertain alone.
        by: what moved one of the criteria.
        before: the cell as it is.
    """
    wanted = {one.name: one for one in missed}
    names = [
        name
        for name in dict.fromkeys([*wanted, RATE])
        if all(name in cell.metrics for cell in (trial, by, before))
    ]
    return any(
        change(name, by, before, wanted.get(name)).tendency == "better"
        and is_nearer(name, trial, before, by)
        for name in names
    )


def _price(missed: Sequence[Criterion], trial: CellResult, before: CellResult) -> list[Change]:
    """What is surely worse, by as much as would count if it were better: the rate, and the figures
    of the cell's criteria, those that were missed the last."""
    told = {RATE, *(one.name for one in missed)}
    criteria = {c.name: c for f in before.findings for c in (Criterion.parse(f.criterion),)}
    others = [one for name, one in criteria.items() if name not in told]
    of_missed = {one.name: one for one in missed if one.name != RATE}
    found = _rates(trial, before) + _changes([*others, *of_missed.values()], trial, before)
    return [one for one in found if one.tendency == "worse" and _is_much_worse(one)]


def _changes(criteria: Sequence[Criterion], trial: CellResult, before: CellResult) -> list[Change]:
    """The figures of these criteria beside those of the cell as it is, where both have one."""
    return [
        change(one.name, trial, before, one)
        for one in criteria
        if one.name in trial.metrics and one.name in before.metrics
    ]


def _is_much_worse(one: Change) -> bool:
    enough, _ = limits(one)
    better = gain(one, one.change)
    return better <= (1 / enough if one.kind == "ratio" else -enough)


def _at_a_price(price: Sequence[Change]) -> str:
    """What got worse, as the end of a sentence; empty where nothing did."""
    return f", at the price of {' and '.join(map(_measured, price))}" if price else ""


def _is_of_failures(criterion: Criterion) -> bool:
    return criterion.metric == "error_rate" or criterion.metric.startswith("errors.")


def _of_who_was_left(criterion: Criterion, trial: CellResult, before: CellResult) -> bool:
    """Whether a trial's figure is of fewer than the cell's, because more failed than before."""
    if criterion.metric not in PERCENTILES or criterion.metric == "p95_all":
        return False
    name = with_journey("error_rate", criterion.journey)
    failed, had_failed = (cell.metrics.get(name, 0.0) for cell in (trial, before))
    return failed > max(MANY_LEFT_OUT, had_failed + ENOUGH_SHARE)


def _rates(trial: CellResult, before: CellResult) -> list[Change]:
    """The rate beside the rate, if it is known how well both are known."""
    both = RATE in trial.metrics and RATE in before.metrics
    rate = change(RATE, trial, before) if both else None
    return [rate] if rate and rate.low is not None else []


def _new(known: Sequence[Change], changes: Sequence[Change]) -> list[Change]:
    return [one for one in known if one not in changes]


def _effect(one: Change) -> Effect:
    better = gain(one, one.change)
    enough, at_most = limits(one)
    if one.tendency == "better" and better >= enough:
        return "moved"
    ends = (gain(one, end) for end in (one.low, one.high) if end is not None)
    return "unclear" if max(ends, default=at_most) > at_most else "unmoved"


def limits(one: Change) -> tuple[float, float]:
    """From which gain on a figure has moved, and up to which it may still have stayed."""
    return (ENOUGH, AT_MOST) if one.kind == "ratio" else (ENOUGH_SHARE, 4 * ENOUGH_SHARE)


def gain(one: Change, value: float) -> float:
    """How much better a change of a figure is: a ratio above 1, or of shares a difference above 0.

    A latency or a share is better when it is less, a rate when it is more.
    """
    if one.kind == "difference":
        return -value
    if one.metric.startswith("throughput"):
        return value
    return 1 / value if value > 0 else AT_MOST


def _reason(effect: Effect, name: str, known: Sequence[Change]) -> str:
    [one] = [one for one in known if one.metric == name]
    measured = _measured(one)
    return {
        "moved": f"{measured}",
        "unmoved": f"{measured}: no better that matters",
        "unclear": f"{measured}: too uncertain to tell",
    }[effect]


def _measured(one: Change) -> str:
    """A change with its interval."""
    of_shares = one.kind == "difference"
    form, scale, unit = ("{:+.1f}", 100, " points") if of_shares else ("{:.3g}", 1, " x")
    low, value, high = (
        form.format(scale * end) for end in (one.low or 0.0, one.change, one.high or 0.0)
    )
    return f"{one.metric} {value}{unit} ({low} .. {high}{unit} at 95 %)"
