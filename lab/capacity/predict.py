"""What the model says of a cell, all at once; pure.

cell ─network_of─> Network ─┬─ simulate, many times ─> figures of its load, what is waited for
                            ├─ threshold, worth     ─> users at which each criterion is crossed
                            └─ operational          ─> what each resource carries, what fails
                                                       first: at any size, in no time
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import inf, isfinite
from statistics import fmean, median

import numpy as np

from lab.capacity import operational
from lab.capacity.curve import threshold, violates, worth
from lab.capacity.measured import MeasuredCell
from lab.capacity.model import Simulated, causes_of, simulate
from lab.capacity.network import Network, network_of
from lab.errors import UsageError
from lab.model.criterion import Criterion
from lab.model.experiment import Cell
from lab.model.load import ClosedLoad
from lab.model.physics import PERCENTILES
from lab.model.prediction import (
    Bound,
    Difference,
    PredictedFigures,
    PredictedThreshold,
    Prediction,
)
from lab.model.units import format_number, percent

FEWEST, MOST, UPLOADS = 9, 40, 12_000
"""Replications of a load: so many that they have about so many uploads together."""

NEAREST = 4
"""Of so many times as many replications those are kept whose split is nearest to a measured one."""

SIMULATED_USERS, SIMULATED_WORKERS = 2_000, 64
"""More than these are not simulated as they are: of several instances one is, with its part."""

THROUGHPUT_WITHIN, P95_WITHIN = 0.03, 0.09
"""Shares by which a measured figure may differ from what is predicted for it."""

HARDLY = 0.05
"""The share of an upload's time below which what it waits for is no limit."""

OF_CAUSE = {
    "pool_timeout": "pool",
    "db_refused": "database_slots",
    "body_too_large": "body_limit",
    "rate_limited": "rate_limit",
    "overloaded": "backpressure",
    "proxy_error": "nginx_connections",
    "no_instance": "instance_queue",
}
"""Whose a failure is; those that are cut off count for what the others wait for."""

THREADS = {
    "to_thread": "default_executor",
    "executor": "own_threads",
    "audio_pool": "audio_threads",
    "blocking": "event_loop",
}
"""What the threads of storage calls are called, by ``gcs_call``."""

METASTABLE = (
    "where calls block the loops of several workers, uploads stand at them evenly, or most at one,"
    " for minutes: what a window shows, and so the threshold, depends on which it meets"
)


def predict(
    cell: Cell,
    measured: MeasuredCell | None = None,
    *,
    instances: int = 1,
    max_users: int = 200,
    seed: int = 1,
) -> Prediction:
    """All that the model says of a cell; where it does not know the cell, why.

    Args:
        cell: its load says of how many users its figures are.
        measured: the same cell, stored: its stage times are taken, and its figures told beside.
        instances: of the whole service on as many machines, with one database; on Cloud Run as
            many as there may be.
        max_users: no threshold is looked for above.
        seed: of the replications.
    """
    load = cell.load
    users = load.peak_users
    if instances > 1 and cell.target == "cloudrun":
        more = cell.knobs.model_copy(update={"cloudrun_max_instances": instances})
        cell, instances = cell.model_copy(update={"knobs": more}), 1
    stages, lead = (measured.stages, measured.lead) if measured else (None, None)
    speed = cell.knobs.speed if measured else 1.0
    try:
        network = network_of(cell, stages, lead, speed, for_bounds=True)
        real = network_of(cell, stages, lead, for_bounds=True)
    except UsageError as error:
        return Prediction(id=cell.id, users=users, unknown=str(error))
    assert isinstance(load, ClosedLoad)  # noqa: S101 - `network_of` takes no other
    whole = several(real, instances)
    bound, errors = _bounds(cell.criteria)
    failing = operational.failures(whole, bound, errors)
    found = Prediction(
        id=cell.id,
        users=users,
        first_failure=_first(failing, THREADS[cell.knobs.gcs_call]),
        bounds=_table(whole, failing, THREADS[cell.knobs.gcs_call]),
        notes=tuple(_notes(cell, network, measured)),
    )
    part = max(1, round(users / instances))
    if part > SIMULATED_USERS or network.workers > SIMULATED_WORKERS:
        return found.model_copy(update={"limit": _limit_by_law(whole, users, cell)})
    if real.database.lent:
        note = "nothing is simulated where PgBouncer lends connections: its bounds are all"
        limit = _limit_by_law(whole, users, cell)
        return found.model_copy(update={"limit": limit, "notes": (*found.notes, note)})
    refused = [one for one in failing if one.resource == "database_slots" and one.users <= users]
    if instances > 1 and refused:
        note = "nothing is simulated where the database refuses most connections"
        return found.model_copy(update={"limit": "database_slots", "notes": (*found.notes, note)})
    busiest = measured.busiest if measured and measured.figures and instances == 1 else None
    seen = replications(network, part, load, seed, busiest)
    update = _of_load(seen, network, cell, bound, instances)
    thresholds = _thresholds(real, cell.criteria, max_users // instances or 1, seed, instances)
    update |= {"thresholds": thresholds, **_at_threshold(real, thresholds, instances, seed)}
    found = found.model_copy(update=update)
    return beside(found, measured.figures) if measured and measured.figures else found


def figures_of_load(cell: Cell, measured: MeasuredCell | None, seed: int = 1) -> Prediction:
    """The figures of a cell's load alone, without thresholds.

    Args:
        cell: at the speed that it has.
        measured: as of `predict`.
        seed: of the replications.

    Raises:
        UsageError: the model does not know the cell.
    """
    stages, lead = (measured.stages, measured.lead) if measured else (None, None)
    network, load = network_of(cell, stages, lead, cell.knobs.speed), cell.load
    assert isinstance(load, ClosedLoad)  # noqa: S101 - `network_of` takes no other
    busiest = measured.busiest if measured and measured.figures else None
    seen = replications(network, load.users, load, seed, busiest)
    bound, _ = _bounds(cell.criteria)
    update = _of_load(seen, network, cell, bound, 1)
    found = Prediction(id=cell.id, users=load.users).model_copy(update=update)
    return beside(found, measured.figures) if measured and measured.figures else found


def beside(prediction: Prediction, measured: PredictedFigures) -> Prediction:
    """A prediction with what was measured, and where both are far apart."""
    differs = differences(prediction.figures, measured) if prediction.figures else ()
    return prediction.model_copy(update={"measured": measured, "differs": differs})


def several(network: Network, instances: int) -> Network:
    """So many machines of a service, with one database."""
    if instances == 1:
        return network
    return replace(
        network,
        workers=network.workers * instances,
        at_once=network.at_once * instances,
    )


def replications(
    network: Network, users: int, load: ClosedLoad, seed: int, busiest: float | None = None
) -> list[Simulated]:
    """A load as the lab would offer it, again and again.

    Args:
        network: that it is offered to.
        users: in place of the load's.
        load: ramp, warm-up and window.
        seed: of chance.
        busiest: the share of the uploads inside workers that were inside the busiest one: a split
            wanders for longer than a window, so those are kept whose own is nearest.
    """
    each = operational.throughput(network, users) * load.window
    count = int(min(MOST, max(FEWEST, UPLOADS / max(1.0, each))))
    seen = [
        simulate(
            network,
            users,
            seed=1000 * seed + number,
            warmup=load.warmup,
            window=load.window,
            follow=True,
        )
        for number in range(count if busiest is None else NEAREST * count)
    ]
    if busiest is None:
        return seen
    return sorted(seen, key=lambda one: abs(_busiest(one) - busiest))[:count]


def _busiest(seen: Simulated) -> float:
    inside = float(seen.inside.sum())
    return float(seen.inside.max()) / inside if inside else 0.0


def figures_of(seen: Simulated, bound: float) -> PredictedFigures:
    """Of one replication, as the judge has them of a cell.

    Throughput counts each success with the share of its life that lies in the window; all else is
    of the uploads that were sent in it.
    """
    sent = seen.ended - seen.latency
    inside = np.clip(np.minimum(seen.ended, seen.window) - np.maximum(sent, 0.0), 0.0, None)
    shares = inside / np.maximum(seen.latency, 1e-9)
    here = (sent >= 0) & (sent < seen.window)
    good = seen.latency[here & seen.ok]
    quantiles: list[float | None] = [None] * 3
    if good.size:
        quantiles = np.quantile(good, (0.5, 0.95, 0.99), method="inverted_cdf").tolist()
    return PredictedFigures(
        throughput=float(shares[seen.ok].sum()) / seen.window,
        p50=quantiles[0],
        p95=quantiles[1],
        p99=quantiles[2],
        error_rate=float(1 - seen.ok[here].mean()) if here.any() else None,
        late=float((good >= bound).mean()) if good.size and isfinite(bound) else None,
    )


def differences(predicted: PredictedFigures, measured: PredictedFigures) -> tuple[Difference, ...]:
    """Where a measured throughput or p95 is farther from what is predicted than it may be."""
    found = []
    for metric, allowed in (("throughput", THROUGHPUT_WITHIN), ("p95", P95_WITHIN)):
        here, there = getattr(measured, metric), getattr(predicted, metric)
        if not here and not there:
            continue
        if not there or here is None or abs(here / there - 1) > allowed:
            one = {"metric": metric, "predicted": there or 0.0, "measured": here or 0.0}
            found.append(Difference.model_validate({**one, "allowed": allowed}))
    return tuple(found)


def _bounds(criteria: Iterable[Criterion]) -> tuple[float, float]:
    """The strictest bound of latency, infinite without one, and the share that may fail."""
    late = [c.bound for c in criteria if c.metric in PERCENTILES and c.op in ("<", "<=")]
    errors = [c.bound for c in criteria if c.metric == "error_rate" and c.op in ("<", "<=")]
    return min(late, default=inf), min(errors, default=0.05)


def _of_load(
    seen: Sequence[Simulated], network: Network, cell: Cell, bound: float, instances: int
) -> dict[str, object]:
    """Its figures, and what they come of."""
    each = [figures_of(one, bound) for one in seen]
    figures = PredictedFigures(
        throughput=instances * fmean(one.throughput for one in each),
        **{name: _middle(getattr(one, name) for one in each) for name in ("p50", "p95", "p99")},
        **{name: _mean(getattr(one, name) for one in each) for name in ("error_rate", "late")},
    )
    p95 = [one.p95 for one in each if one.p95 is not None]
    causes = causes_of(np.concatenate([one.code for one in seen]))
    waits = _waits(seen, network, bound, THREADS[cell.knobs.gcs_call])
    limit = _limit(causes, waits, figures, network, seen, cell)
    return {
        "figures": figures,
        "low": float(np.quantile(p95, 0.05)) if p95 else None,
        "high": float(np.quantile(p95, 0.95)) if p95 else None,
        "causes": causes,
        "waits": waits,
        "limit": limit,
    }


def _middle(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _waits(
    seen: Sequence[Simulated], network: Network, bound: float, threads: str
) -> dict[str, float]:
    """Mean seconds that late uploads waited for each resource; all, where none is late."""
    good = [one.ok for one in seen]
    if any((one.ok & (one.latency >= bound)).any() for one in seen):
        good = [one.ok & (one.latency >= bound) for one in seen]
    latency = np.concatenate([one.latency[of] for one, of in zip(seen, good, strict=True)])
    if not latency.size:
        return {}

    def mean(of: str) -> float:
        found = [one.waits[of][keep] for one, keep in zip(seen, good, strict=True)]
        return float(np.concatenate(found).mean())

    storage = np.concatenate([one.storage[of] for one, of in zip(seen, good, strict=True)])
    served = network.alone - network.storage_mean + float(storage.mean())
    names = {"threads": threads, "pool": "pool", "anyio": "anyio_threads"}
    waits = {name: mean(of) for of, name in names.items()}
    waits["instance_queue"] = mean("gateway")
    others = sum(waits.values())
    waits["event_loop"] = waits.get("event_loop", 0.0) + max(
        0.0, float(latency.mean()) - served - others
    )
    told = {name: seconds for name, seconds in waits.items() if seconds >= 0.001}
    return dict(sorted(told.items(), key=lambda item: -item[1]))


def _limit(
    causes: Mapping[str, float],
    waits: Mapping[str, float],
    figures: PredictedFigures,
    network: Network,
    seen: Sequence[Simulated],
    cell: Cell,
) -> str:
    """Who makes most failures where too many fail, or else what is waited for most."""
    _, errors = _bounds(cell.criteria)
    cause = next(iter(causes), "")
    if (figures.error_rate or 0.0) >= errors and cause in OF_CAUSE:
        return OF_CAUSE[cause]
    if figures.p50 is None:  # none succeeded, of which a wait is known
        first = operational.capacity(network).resource
        return THREADS[cell.knobs.gcs_call] if first == "threads" else first
    first = next(iter(waits), "none")
    if waits.get(first, 0.0) < HARDLY * network.alone:
        return "none"
    return "worker_split" if _uneven(network, seen, figures) else first


def _uneven(network: Network, seen: Sequence[Simulated], figures: PredictedFigures) -> bool:
    """Whether a worker has room while another is full, and an even split would carry more."""
    if network.workers == 1 or network.balance != "shared_socket" or network.blocks_loop:
        return False
    inside = np.mean([np.sort(one.inside) for one in seen], axis=0)
    users = round(sum(one.inside.sum() for one in seen) / len(seen))
    even = operational.throughput(network, max(1, users))
    return bool(inside[0] < network.threads < inside[-1]) and even > 1.05 * figures.throughput


def _thresholds(
    network: Network, criteria: Sequence[Criterion], most: int, seed: int, instances: int
) -> tuple[PredictedThreshold, ...]:
    found = []
    for criterion in criteria:
        if violates(criterion) is not None:
            holds = threshold(network, criterion, most, seed)
            breaks = None if holds >= most else (holds + 1) * instances
            one = {"criterion": str(criterion), "holds_at": holds * instances, "breaks_at": breaks}
            found.append(PredictedThreshold.model_validate(one))
    return tuple(found)


def _at_threshold(
    network: Network, thresholds: Sequence[PredictedThreshold], instances: int, seed: int
) -> dict[str, object]:
    """What is crossed first, and what a minute is worth there."""
    crossed = [one for one in thresholds if one.breaks_at is not None]
    if not crossed:
        return {}
    first = min(crossed, key=lambda one: one.holds_at)
    update: dict[str, object] = {"crossed_first": first.criterion}
    criterion = Criterion.parse(first.criterion)
    if criterion.metric not in PERCENTILES:
        return update
    users = max(1, first.holds_at // instances)
    if found := worth(network, users, criterion.bound, seed):
        update["worth"] = {"late": round(found.late, 1), "z": round(found.z, 1)}
        update["warmup"] = max(20.0, found.forgets)
    return update


def _first(failing: Sequence[operational.FailsFrom], threads: str) -> str:
    if not failing:
        return "nothing"
    first = failing[0]
    resource = threads if first.resource == "threads" else first.resource
    users = max(1, round(first.users))
    from_ = f"about {format_number(users)} users" if users > 1 else "the first user"
    return f"{resource}, from {from_} on: {first.how}"


def _table(
    network: Network, failing: Sequence[operational.FailsFrom], threads: str
) -> tuple[Bound, ...]:
    """Every resource with what it carries, and every failure."""
    carries = {one.resource: one.rate for one in operational.carried(network)}
    rows: list[Bound] = []
    for one in failing:
        name = threads if one.resource == "threads" else one.resource
        rate = carries.pop(one.resource, None)
        rows.append(Bound(resource=name, rate=rate, fails_at=float(round(one.users)), how=one.how))
    for resource, rate in carries.items():
        name = threads if resource == "threads" else resource
        rows.append(Bound(resource=name, rate=rate, fails_at=None, how=""))
    return tuple(rows)


def _limit_by_law(network: Network, users: int, cell: Cell) -> str:
    """Where nothing is simulated: what carries least, if that is less than users ask for."""
    turn = network.alone + fmean(network.think)
    first = operational.capacity(network)
    if users / turn <= first.rate:
        return "none"
    return THREADS[cell.knobs.gcs_call] if first.resource == "threads" else first.resource


def _notes(cell: Cell, network: Network, measured: MeasuredCell | None) -> Iterable[str]:
    shared = network.workers > 1 and network.balance == "shared_socket"
    if shared and network.blocks_loop:
        yield METASTABLE
    if shared:
        how = "as fitted to its split" if measured and measured.lead is not None else "as usual"
        yield (
            f"of uploads that find all {network.workers} workers idle the first takes"
            f" {percent(network.lead)}, {how}"
        )
    if cell.target == "cloudrun":
        yield "memory, and how its CPU is throttled, are not in the model"
    if cell.stop_when_decided and measured:
        yield "its window may have ended early, which the model's does not"
