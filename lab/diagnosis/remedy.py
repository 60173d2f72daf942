"""The least that makes a cell hold: change upon change, and then each of them taken back in turn.

    the cell as it is ─> its limit relaxed ─> the limit then relaxed ─> … ─> it holds
                    each change taken back ─> it still holds: not needed ─> the smallest set

Only what an operator can change is changed: the distance of storage and what the database grants
stay as they are, and a pool that asks for more than that is made to fit. `Mending.next` is a pure
function from the trials so far to the next one, or to the answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from lab.diagnosis.trials import Impossible, changed, effective, name_of, relaxation_of
from lab.model.diagnosis import STEP, WITHOUT, Remedy, Step, TakenBack
from lab.model.experiment import Cell
from lab.model.relaxation import Settings, differing, grouped
from lab.model.run import CellResult
from lab.model.units import format_number
from lab.model.verdict import Outcome, Resource

MAX_STEPS = 12
"""A limit that gave way so often will not have gone with the next change either."""

PRICE = ("cpu_backend", "rss_backend", "pg_connections", "memory_instance", "instances")
"""The metrics of what costs money."""


class RefusedChange(Impossible):
    """A change that the cell can have, but not on this stack."""


@dataclass(frozen=True)
class Mended:
    """A trial of the cell with some changes: the settings, and what came of it."""

    settings: Settings
    result: CellResult

    @property
    def held(self) -> bool:
        """Whether every criterion was met."""
        return self.result.verdict is Outcome.HELD


@dataclass(frozen=True)
class Mending:
    """A remedy under way.

    Args:
        cell: which.
        before: what was measured of it as it is.
        steps: the trials with one change more each, in order.
        back: the trials with a change taken back, by its knobs' names.
        refused: why the stack cannot make a trial, by its `name_of`.
        spent: whether no further trial is to be made.
    """

    cell: Cell
    before: CellResult
    steps: Sequence[Mended] = ()
    back: Mapping[str, CellResult] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    spent: bool = False

    def next(self) -> Cell | Remedy:
        """The next trial to be made, or the answer."""
        if self.last.held:
            return self._take_back() or self._remedy("held")
        if self.last.result.verdict is Outcome.INVALID or self.spent:
            return self._remedy("undecided")
        if len(self.steps) >= MAX_STEPS:
            return self._remedy("out of reach", f"after {MAX_STEPS} changes no more are tried")
        return self._step() or self._stuck()

    @property
    def last(self) -> Mended:
        """The furthest that it has come."""
        return self.steps[-1] if self.steps else Mended({}, self.before)

    # Forward: the limit of the last trial is relaxed.

    def _step(self) -> Cell | None:
        """The cell with the next change that can be made, the likeliest limit's first."""
        trials = map(self._next, self._limits())
        return next((trial for trial in trials if isinstance(trial, Cell)), None)

    def _next(self, resource: Resource) -> Cell | Impossible | None:
        """The next trial with more of a resource; None where there is no more of it to have."""
        settings = self._relaxed(resource)
        return self._trial(STEP, str(len(self.steps) + 1), settings) if settings else None

    def _stuck(self) -> Remedy:
        """The answer where nobody can make a further change, or this stack cannot."""
        for trial in map(self._next, self._limits()):
            if isinstance(trial, RefusedChange):
                here = f"the next change cannot be made here: {trial.why}"
                return self._remedy("undecided", here)
        undecided = self.last.result.verdict is Outcome.UNDECIDED
        return self._remedy("undecided" if undecided else "out of reach")

    def _limits(self) -> list[Resource]:
        limit = self.last.result.limit
        if limit is None:
            return []
        full = [c for c in limit.candidates if c.at_limit and c.resource != limit.resource]
        full.sort(key=lambda c: -(c.waited or 0.0))
        return [limit.resource, *(c.resource for c in full)]

    def _relaxed(self, resource: Resource) -> Settings | None:
        """All changes so far, and more of a resource; None where there is no more of it to have."""
        relaxation, now = relaxation_of(resource), self._with(self.last.settings)
        change = relaxation.remedy(now) if relaxation and relaxation.remedy else None
        more = effective(now, change or {})
        return None if isinstance(more, Impossible) else {**self.last.settings, **more}

    def _with(self, settings: Settings) -> Cell:
        return self.cell.model_copy(update={"knobs": self.cell.knobs.with_settings(settings)})

    def _trial(self, axis: str, label: str, settings: Settings) -> Cell | Impossible:
        trial = changed(self.cell, axis, label, settings)
        why = self.refused.get(name_of(self.cell, trial)) if isinstance(trial, Cell) else None
        return trial if why is None else RefusedChange(why)

    # Back: each change, while the others stay.

    @cached_property
    def _changes(self) -> list[Settings]:
        """The changes of which each can be taken back alone, the first that was made first."""
        return grouped(differing(self.cell.knobs, self.last.settings))

    def _take_back(self) -> Cell | None:
        """The next change on trial; None where each has been."""
        for change in () if len(self._changes) < 2 or self.spent else self._changes:
            name = named(change)
            if name in self.back:
                continue
            kept = {knob: v for knob, v in self._needed(before=name).items() if knob not in change}
            trial = self._trial(WITHOUT, name, kept)
            if isinstance(trial, Cell):
                return trial
        return None

    def _needed(self, before: str = "") -> Settings:
        """All changes but those that were taken back and not missed, before one of them."""
        needed: Settings = {}
        gone = False
        for change in self._changes:
            gone = gone or named(change) == before
            result = self.back.get(named(change))
            if gone or result is None or result.verdict is not Outcome.HELD:
                needed |= change
        return needed

    # The answer.

    def _remedy(self, outcome: str, why: str = "") -> Remedy:
        settings = self._needed() if self.last.held else self.last.settings
        taken = [
            TakenBack(
                id=self.back[name].id,
                change=change,
                outcome=self.back[name].verdict,
                reason=_reason(self.back[name]),
            )
            for change in self._changes
            if (name := named(change)) in self.back
        ]
        data = {
            "id": self.cell.id,
            "outcome": outcome,
            "settings": settings,
            "steps": tuple(self._told()),
            "taken_back": tuple(taken),
            "text": "",
        }
        remedy = Remedy.model_validate(data)
        return remedy.model_copy(update={"text": told(remedy, why)})

    def _told(self) -> list[Step]:
        rows, before = [], dict[str, object]()
        for step in (Mended({}, self.before), *self.steps):
            new = {k: v for k, v in step.settings.items() if before.get(k) != v}
            rows.append(
                Step(
                    id=step.result.id,
                    added=listed(new),
                    settings=step.settings,
                    outcome=step.result.verdict,
                    limit=step.result.limit.resource if step.result.limit else None,
                    reason=_reason(step.result),
                    price={m: step.result.metrics[m] for m in PRICE if m in step.result.metrics},
                )
            )
            before = dict(step.settings)
        return rows


def named(change: Settings) -> str:
    """How a trial names the change that it takes back: ``pool_size+max_overflow``."""
    return "+".join(change)


def listed(settings: Settings) -> str:
    """Knobs as the command line takes them: ``workers=2 pool_size=10``."""
    values = (
        (name, format_number(v) if isinstance(v, float) else v) for name, v in settings.items()
    )
    return " ".join(f"{name}={value}" for name, value in values)


def _reason(result: CellResult) -> str:
    return result.reasons[0] if result.reasons else ""


def unsettled(remedy: Remedy) -> list[Settings]:
    """The changes of a cell that holds of which nothing says yet whether it takes them."""
    if remedy.outcome != "held":
        return []
    settled = [one.change for one in remedy.taken_back if one.needed or one.spared]
    changes = grouped(remedy.settings)
    alone = len(changes) < 2 and not remedy.taken_back  # as it is the cell does not hold
    return [one for one in changes if one not in settled and not alone]


def told(remedy: Remedy, why: str = "") -> str:
    """A remedy as a paragraph.

    Args:
        remedy: which.
        why: what keeps it open; empty where the last trial's own reason does.
    """
    path = " -> ".join(remedy.path)
    if remedy.outcome == "held" and not remedy.settings:
        return f"{remedy.id} holds as it is."
    if remedy.outcome == "held":
        needed = [listed(one.change) for one in remedy.taken_back if one.needed]
        spared = [listed(one.change) for one in remedy.taken_back if one.spared]
        unknown = [listed(one) for one in unsettled(remedy)]
        texts = [
            f"{remedy.id} holds with {listed(remedy.settings)}.",
            f"The limit went {path}.",
            *([f"Without {' or '.join(needed)} it does not."] if needed else []),
            *([f"Not needed: {', '.join(spared)}."] if spared else []),
            *([f"Whether it takes {' or '.join(unknown)} is open."] if unknown else []),
        ]
        return " ".join(texts)
    last = remedy.steps[-1]
    tried = f" with {listed(last.settings)}" if last.settings else ""
    if remedy.outcome == "out of reach":
        what = why or "nothing more that an operator can change moves it"
        return (
            f"{remedy.id} does not hold{tried}, and {what}. The limit went {path}: {last.reason}."
        )
    return f"Whether {remedy.id} can be made to hold is open{tried}: {why or last.reason}."
