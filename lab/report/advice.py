"""Advice, judged: each piece alone, all together, and all but one, beside what was found.

    as-found ─> piece, piece …   each alone: helps, does nothing, or harms
             ─> all              what the whole does
    all      ─> all-but-piece    what is missing where one is left out
    settings ─> contradictions   pieces that work against users, or against each other, with figures

What a cell is follows from its label on the spec's axis ``advice``: ``all``, ``all-but-`` before a
piece's label, or a piece; the baseline is the one that is compared with nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import isfinite

from lab.judge.comparison import against
from lab.model import metrics
from lab.model.knobs import default_executor_threads
from lab.model.load import ClosedLoad
from lab.model.physics import DB_TRIPS, pool_connections
from lab.model.replica import nginx_limits
from lab.model.run import CellResult, Claim, Figure
from lab.model.units import format_duration, format_size
from lab.model.verdict import Change, Comparison
from lab.report import format
from lab.report.beside import Effect, counting, effect, is_clear, told_flips
from lab.report.phrases import claim, knobs_of, listed, stated

AXIS = "advice"
ALL, ALL_BUT = "all", "all-but-"

ALONE: dict[Effect, str] = {
    "helps": "Alone, what helps: {all}.",
    "helps and harms": "Alone, what helps in one figure and harms in another: {all}.",
    "harms": "Alone, what harms: {all}.",
    "does nothing": "Alone, what does nothing that shows: {all}.",
    "is open": "What these do alone is open: {all}.",
}
WITHOUT: dict[Effect, str] = {
    "harms": "The whole is worse without {all}.",
    "helps and harms": "The whole gains in one figure and loses in another without {all}.",
    "helps": "The whole is better without {all}.",
    "does nothing": "To the whole it makes no difference that shows to leave out {all}.",
    "is open": "It is open what the whole owes to {all}.",
}
"""By what becomes of the whole where a piece is left out."""


def advice(cells: Sequence[CellResult]) -> list[Claim]:
    """Which pieces of advice help, do nothing or harm, and what contradicts what."""
    of = Advice(cells)
    return [*of.alone(), *of.together(), *of.left_out(), *of.contradictions()]


@dataclass(frozen=True)
class Advice:
    """The cells of a run by what part of the advice each has."""

    cells: Sequence[CellResult]

    @property
    def baselines(self) -> list[CellResult]:
        """What was found, once a repeat."""
        named = {cell.baseline for cell in self.cells}
        return [cell for cell in self.cells if cell.id in named]

    @property
    def pieces(self) -> list[CellResult]:
        """Those with one piece."""
        return [c for c in self.cells if c.baseline and not _is_composed(c)]

    @property
    def wholes(self) -> list[CellResult]:
        """Those with every piece, once a repeat."""
        return [cell for cell in self.cells if _label(cell) == ALL]

    @property
    def partial(self) -> list[CellResult]:
        """Those with every piece but one."""
        return [cell for cell in self.cells if _label(cell).startswith(ALL_BUT)]

    def alone(self) -> Iterator[Claim]:
        """A sentence for each effect that a piece can have."""
        yield from _by_effect(ALONE, [(cell, cell.against) for cell in self.pieces])

    def together(self) -> Iterator[Claim]:
        """What all of it does."""
        for cell in self.wholes:
            yield claim(
                "All together it {effect}: {changes}; the cell {verdict}, {failed}.",
                cell,
                effect=str(effect(cell.against)).replace("is open", "is not compared"),
                changes=_changes(cell, cell.against),
            )

    def left_out(self) -> Iterator[Claim]:
        """What is missing, or better, where a piece is left out of the whole."""
        pairs = [
            (cell, against(cell, whole))
            for cell in self.partial
            for whole in self.wholes
            if _others(cell) == _others(whole)
        ]
        yield from _by_effect(WITHOUT, pairs)

    def contradictions(self) -> Iterator[Claim]:
        """What in the advice cannot be meant, each with what was measured of it."""
        for baseline in self.baselines[:1]:
            advised = [*self.pieces, *self.wholes]
            for find in CONTRADICTIONS:
                yield from find(baseline, advised)


def _is_composed(cell: CellResult) -> bool:
    """Whether a cell has more pieces than one."""
    return _label(cell) == ALL or _label(cell).startswith(ALL_BUT)


def _label(cell: CellResult) -> str:
    return cell.axes.get(AXIS, "")


def _others(cell: CellResult) -> dict[str, str]:
    """A cell's labels on all other axes."""
    return {axis: label for axis, label in cell.axes.items() if axis != AXIS}


def _name(cell: CellResult) -> str:
    """A piece by its label, also where it is the one that is left out; with other labels behind."""
    piece = _label(cell).removeprefix(ALL_BUT)
    return " / ".join((piece, *_others(cell).values())) if piece else cell.id


Compared = tuple[CellResult, Comparison | None]


def _by_effect(forms: dict[Effect, str], pairs: Sequence[Compared]) -> Iterator[Claim]:
    """A sentence for each effect, with the pieces that have it and their figures."""
    for kind, form in forms.items():
        phrases = [
            claim("{piece} ({changes})", piece=_name(cell), changes=_changes(cell, beside))
            for cell, beside in pairs
            if effect(beside) == kind
        ]
        if phrases:
            yield claim(form, all=listed(phrases, " and "))


def _changes(cell: CellResult, beside: Comparison | None) -> Claim:
    """What changed for certain, in one phrase: figures with intervals, criteria, and the limit; of
    figures the first that is known, where none did."""
    if beside is None or beside.why_not:
        why = beside.why_not if beside else "it has nothing beside it"
        return stated(why, cell, f"verdict {cell.verdict}")
    felt = counting(beside)
    known = [change for change in felt if change.low is not None] or felt
    shown = [change for change in felt if is_clear(change)] or known[:1]
    phrases = [_change(cell, beside, change) for change in shown]
    phrases += [stated(text, cell, "flip") for text in told_flips(beside)]
    if beside.limit:
        text = "limit {} -> {}".format(*beside.limit)
        phrases.append(stated(text, cell, f"limit {beside.limit[1]}"))
    if not phrases:
        return stated("no figure is there to compare", cell, f"verdict {cell.verdict}")
    return listed(phrases, "; ", "; ")


def _change(cell: CellResult, beside: Comparison, change: Change) -> Claim:
    metric = metrics.plain(change.metric)
    text = f"{metric} {format.metric(metric, change.value)}, {format.beside(change)}"
    here = stated(text, cell, f"change {change.metric}", change.change)
    figures = (
        Figure(cell=cell.id, name=change.metric, value=change.value),
        Figure(cell=beside.baseline, name=change.metric, value=change.baseline),
    )
    return Claim(text=text, figures=(*here.figures, *figures))


# Contradictions: each finds the cells that have it by their settings, and says what came of it.

Contradiction = Callable[[CellResult, Sequence[CellResult]], Iterator[Claim]]

TIMED_OUT = f"{format.ERRORS}gateway_timeout"


def _shorter_timeout(before: CellResult, cells: Sequence[CellResult]) -> Iterator[Claim]:
    """A read timeout that is to protect cuts off uploads that would have been served.

    That 504s begin earlier is told where there were any.
    """
    was = _read_timeout(before)
    for cell in _first(cells, lambda c: c.target == "vm" and _read_timeout(c) < was):
        now = _read_timeout(cell)
        seen = "makes 504s begin earlier: an upload is cut off after {now}{users}; it cut off"
        unseen = "would cut an upload off after {now}{users}; at this load it cut off"
        does = seen if cell.metrics.get(TIMED_OUT) else unseen
        yield claim(
            f"A read timeout of {{now}} in place of {{was}} {does} {{cut}}, and {{cut_before}} "
            "before.",
            now=format_duration(now),
            was=format_duration(was) if isfinite(was) else "none",
            users=_users_of_queues(now, was, cell if "capacity" in cell.metrics else before),
            cut=_cut_off(cell),
            cut_before=_cut_off(before),
        )


def _read_timeout(cell: CellResult) -> float:
    return nginx_limits(knobs_of(cell)).read_s


def _users_of_queues(now: float, was: float, cell: CellResult) -> Claim:
    """How many users make a queue of so many seconds, at what a cell carries (Little's law)."""
    capacity = cell.metrics.get("capacity")
    if not capacity:
        return claim("")
    if not isfinite(was):
        text = ", which a queue takes with {now} users, at {capacity}"
        return claim(text, cell, now=f"{now * capacity:.0f}")
    return claim(
        ", which a queue takes with {now} users in place of {was}, at {capacity}",
        cell,
        now=f"{now * capacity:.0f}",
        was=f"{was * capacity:.0f}",
    )


def _cut_off(cell: CellResult) -> Claim:
    return claim(f"{{{TIMED_OUT}}} of {{attempts}} uploads", cell)


def _pools_beyond_cap(before: CellResult, cells: Sequence[CellResult]) -> Iterator[Claim]:
    """More connections than Postgres grants, all pools together."""
    beyond = [
        cell
        for cell in cells
        if _connections(cell) > knobs_of(cell).db_cap and knobs_of(cell).pooler == "off"
    ]
    if not beyond or _connections(before) > knobs_of(before).db_cap:
        return
    cell = max(beyond, key=_connections)
    allowed = (
        "{processes} x ({knob pool_size} + {knob max_overflow}) = {all} connections are allowed, "
        if isfinite(_connections(cell))
        else "Connections without limit are allowed, "
    )
    yield claim(
        f"{allowed}and Postgres grants {{knob db_cap}}: with {{piece}} {{pg_connections}} were "
        "open at most, and {errors.db_refused} of {attempts} uploads were refused one.",
        cell,
        processes=format.plural(_processes(cell), _process(cell)),
        all=f"{_connections(cell):.0f}",
        piece=_name(cell),
    )


def _process(cell: CellResult) -> str:
    return "worker" if cell.target == "vm" else "process"


def _processes(cell: CellResult) -> int:
    knobs = knobs_of(cell)
    if cell.target == "vm":
        return knobs.workers
    return knobs.cloudrun_max_instances * knobs.cloudrun_workers


def _connections(cell: CellResult) -> float:
    return _processes(cell) * pool_connections(knobs_of(cell))


def _too_few_allowed(before: CellResult, cells: Sequence[CellResult]) -> Iterator[Claim]:
    """A limit of uploads a user below what a user sends who never has to wait."""
    limited = [cell for cell in cells if knobs_of(cell).upload_rate_limit]
    if not limited or knobs_of(before).upload_rate_limit:
        return
    cell = max(limited, key=lambda c: c.metrics.get("errors.rate_limited", 0.0))
    limit, free_s = knobs_of(cell).upload_rate_limit, _between_s(cell)
    if limit is None or limit.per / free_s <= limit.count or not _uploads_on_and_on(cell):
        return
    yield claim(
        "{knob upload_rate_limit} a user, and one who never waits uploads every {free}, {often} in "
        "that time: it refuses as soon as the service is fast. With {piece} a user sent one every "
        "{every}, and {errors.rate_limited} of {attempts} were refused{workers}.",
        cell,
        free=format.seconds(free_s),
        often=f"{limit.per / free_s:.0f}",
        piece=_name(cell),
        every=_every(cell),
        workers=_each_counts(cell),
    )


def _uploads_on_and_on(cell: CellResult) -> bool:
    """Whether each user uploads again as soon as it is answered, and does nothing else."""
    load = format.read_load(cell.load)
    return isinstance(load, ClosedLoad) and not load.mix


def _between_s(cell: CellResult) -> float:
    """Seconds from one upload to the next of a user who waits for nobody."""
    knobs, think = knobs_of(cell), format.read_load(cell.load).think
    return knobs.gcs_latency.mean + sum(DB_TRIPS.values()) * knobs.db_rtt.mean + think.mean


def _every(cell: CellResult) -> Claim:
    """How long a user was from one attempt to the next, by Little's law."""
    rate, users = cell.metrics.get("attempt_rate"), format.read_load(cell.load).peak_users
    if not rate:
        return stated("a time that was not measured", cell, f"verdict {cell.verdict}")
    return stated(format.seconds(users / rate), cell, "attempt_rate", rate)


def _each_counts(cell: CellResult) -> Claim:
    if _processes(cell) < 2:
        return claim("")
    return claim("; each of {n} workers counts on its own", n=_processes(cell))


def _few_threads(before: CellResult, cells: Sequence[CellResult]) -> Iterator[Claim]:
    """The default executor, which is small on a small machine."""
    if knobs_of(before).gcs_call == "to_thread":
        return
    for cell in _first(cells, lambda c: c.target == "vm" and knobs_of(c).gcs_call == "to_thread"):
        knobs = knobs_of(cell)
        if default_executor_threads(knobs.vm_cpus) >= REPORTED_SLOTS:
            continue
        yield claim(
            "asyncio.to_thread has {threads} threads on {cores}, not the {reckoned} that the "
            "report reckons with: with {piece} {throughput} were served, where it expects "
            "{expected}/s.",
            cell,
            threads=default_executor_threads(knobs.vm_cpus),
            cores=f"{knobs.vm_cpus:g} core{'' if knobs.vm_cpus == 1 else 's'}",
            reckoned=REPORTED_SLOTS,
            piece=_name(cell),
            expected=f"{REPORTED_RATE:g}",
        )


REPORTED_SLOTS, REPORTED_RATE = 20, 6.7
"""The incident report's uploads at once, and its uploads a second: 20 / 3 s."""


def _refuses_too_late(before: CellResult, cells: Sequence[CellResult]) -> Iterator[Claim]:
    """Backpressure that lets in more than can be served in time, or never acts."""
    if knobs_of(before).max_inflight_uploads:
        return
    for cell in _first(cells, lambda c: knobs_of(c).max_inflight_uploads is not None):
        admitted, capacity = knobs_of(cell).max_inflight_uploads, cell.metrics.get("capacity")
        if admitted is None or not capacity:
            continue
        yield claim(
            "{knob max_inflight_uploads} uploads inside a worker are {wait} of work at {capacity}: "
            "{errors.overloaded} of {attempts} were refused at once with {piece}, and the "
            "p95 of those that were let in and served was {p95}.",
            cell,
            wait=format.seconds(admitted * _processes(cell) / capacity),
            piece=_name(cell),
        )


def _one_at_a_time(before: CellResult, cells: Sequence[CellResult]) -> Iterator[Claim]:
    """Threads, pools and backpressure for an instance that is given one request."""
    serial = [c for c in cells if c.target == "cloudrun" and _is_serial(c) and _is_threaded(c)]
    for cell in serial[:1]:
        yield claim(
            "An instance is given {knob cloudrun_concurrency} request at a time, so threads, pools "
            "and backpressure inside it have nothing to share: with {piece} {throughput} were "
            "served, {before} before.",
            cell,
            piece=_name(cell),
            before=claim("{throughput}", before),
        )


def _is_serial(cell: CellResult) -> bool:
    return knobs_of(cell).cloudrun_concurrency == 1


def _is_threaded(cell: CellResult) -> bool:
    return knobs_of(cell).gcs_call != "blocking"


def _spare_memory(before: CellResult, cells: Sequence[CellResult]) -> Iterator[Claim]:
    """More memory where what there was was not used up."""
    had, peak = knobs_of(before).cloudrun_memory, before.metrics.get("memory_instance")
    larger = _first(cells, lambda c: knobs_of(c).cloudrun_memory > had)
    if before.target != "cloudrun" or not larger or peak is None or before.metrics.get("oom_kills"):
        return
    yield claim(
        "{more} of memory in place of {had}: before, an instance took {memory_instance} at most, "
        "and none was killed for it ({oom_kills}).",
        before,
        more=format_size(knobs_of(larger[0]).cloudrun_memory),
        had=format_size(had),
    )


def _first(cells: Sequence[CellResult], has: Callable[[CellResult], bool]) -> Sequence[CellResult]:
    """The first of the cells that has something, pieces before wholes; none where none has."""
    return [cell for cell in cells if has(cell)][:1]


CONTRADICTIONS: tuple[Contradiction, ...] = (
    _shorter_timeout,
    _pools_beyond_cap,
    _too_few_allowed,
    _few_threads,
    _refuses_too_late,
    _one_at_a_time,
    _spare_memory,
)
