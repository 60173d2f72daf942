"""The fastest speed at which a cell stays true on this machine: from the cell and what work costs.

    cell ──> Expected: attempts a second, latency, slots waited for   (asymptotic bounds)
    costs ─> work of an upload: CPU by part, time beyond each round trip
      │             └──> each bound of `lab.model.fidelity`, with `MARGIN` to spare ─> Choice
      └─ `SplitModel` ─> how workers of one socket share at each speed ──────────────────┘

Where users do other things than upload, what costs are known are those of uploads: an assessment or
a read is taken to cost as much, which is more than it does, and a conversion, which computes, that
and so much for each byte (`CONVERT_BYTE_S`).

How several workers of one socket share, a model of the cell says, which is handed in; where there
is none a table does (`lab.model.fidelity.SPLIT`).

The bounds are those by which the cell is judged afterwards. What it expects is a guess from above
of how much there is to do: a cell that does more than was thought is found invalid, and is
measured again at the speed that its own costs allow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from math import floor, fsum, inf

from lab.model.costs import GENERATOR, WORKER, Costs, WorkCost
from lab.model.experiment import Cell
from lab.model.fault import Latency
from lab.model.fidelity import (
    ALLOWED,
    CALL_SHARE,
    RESOLUTION_S,
    Worker,
    allowed_lateness,
    keeps_call,
    keeps_slot,
    keeps_split,
)
from lab.model.journeys import REQUESTS, Journey
from lab.model.load import BurstLoad, OpenLoad
from lab.model.physics import (
    READ_TRIPS,
    bounds_of_others,
    checkout_trips,
    db_trips,
    max_processes,
    pool_connections,
)
from lab.model.replica import file_limit, pooled
from lab.model.speed import MAX_SPEED, STEP
from lab.model.split import Split
from lab.model.units import percent
from lab.plan.sharing import LoopWork, SplitModel

MARGIN = 0.75
"""The share of each bound that a choice uses: what it expects is off by about a quarter."""

OF_OTHERS = 0.5
"""The share of that which is left for what others than uploaders ask for: what it costs is taken
from uploads, and was twice that beside a loop that blocks."""

START_WALL_S = 3.0
"""Wall seconds in which a part that was killed comes back."""

WATCHED_WALL_S = 4.0
"""Wall seconds of a window: this machine is read once a second."""

FULL = 0.84
"""The share of its time below which an event loop, or a core, is kept: a quarter of its idle time
is then left until it counts as full."""

CONVERT_BYTE_S = 25e-9
"""CPU-seconds of a worker for a byte that it converts: from above, of a machine of 2020."""

WAITED_FOR = 0.5
"""The share of its slots in use, in the mean, from which on uploads are taken to wait for one."""


TYPICAL = Costs(
    parts={
        WORKER: WorkCost(upload_s=0.0055, byte_s=1e-9, rest=0.005),
        GENERATOR: WorkCost(upload_s=0.0006, byte_s=1e-9, rest=0.005),
        "others": WorkCost(upload_s=0.004, byte_s=3e-9, rest=0.02),
    },
    machine=WorkCost(upload_s=0.005, byte_s=2.5e-9, rest=0.015),
    trip_s=0.0006,
)
"""What an upload costs a machine with two cores of 2020 and after: by it nothing is chosen, but
how long a run takes is guessed, where nothing is known yet."""


@dataclass(frozen=True)
class SpeedChoice:
    """A speed, and why it is no other.

    Args:
        speed: the highest that is true.
        reason: what keeps it from being higher, in a few words.
        too_slow: what breaks a bound even at speed 1, and what would do; empty where nothing does.
        split: what a model says of how workers share, by which the cell is judged too.
    """

    speed: float
    reason: str
    too_slow: str = ""
    split: Split | None = None

    def of(self, cell: Cell) -> Cell:
        """The cell at that speed."""
        at_speed = cell.at_speed(self.speed, self.reason)
        return at_speed.model_copy(update={"split": self.split})


@dataclass(frozen=True)
class Broken:
    """A bound that a speed would break: what, with its figure, and what would help at speed 1."""

    what: str
    remedy: str = "use a faster machine"


def choose_speed(
    cell: Cell, costs: Costs | None, limit: float = MAX_SPEED, model: SplitModel | None = None
) -> SpeedChoice:
    """The highest speed, in steps of a half, at which this cell meets every bound with margin.

    1 on Cloud Run, where CPU is what is measured, and where no higher one is true.

    Args:
        cell: its own speed is not looked at.
        costs: of this machine, in seconds; without them the speed is 1.
        limit: no higher than this.
        model: of how workers of one socket share; None: a table says it.
    """
    if cell.target == "cloudrun":
        return SpeedChoice(1.0, "an instance's share of a core does not scale")
    if costs is None:
        return SpeedChoice(1.0, "what an upload costs this machine could not be measured")
    expected = Expected(cell, costs)
    highest = max(1.0, floor(min(limit, MAX_SPEED) / STEP) * STEP)
    alone = _highest(highest, f"no more than {highest:g} is allowed", expected.broken)
    if cell.knobs.sharing == 1 or alone.speed == 1:
        return alone
    # A model is dear, and is not asked of speeds at which a bound is broken anyhow.
    split = model.split(cell, expected.loop_work, alone.speed) if model else None
    shared = _highest(alone.speed, alone.reason, partial(_more_evenly, cell, split))
    return replace(shared, split=split)


def _highest(speed: float, above: str, broken: Callable[[float], Iterator[Broken]]) -> SpeedChoice:
    """The highest speed up to one at which no bound is broken; 1 where each breaks one.

    Args:
        speed: no higher than this.
        above: what keeps it from being higher than that.
        broken: the bounds that a speed breaks.
    """
    first = Broken(above)
    for step in range(round(speed / STEP), round(1 / STEP) - 1, -1):
        broke = next(broken(step * STEP), None)
        if broke is None:
            return SpeedChoice(step * STEP, first.what)
        first = broke
    return SpeedChoice(1.0, first.what, f"{first.what} - {first.remedy}")


def _more_evenly(cell: Cell, split: Split | None, speed: float) -> Iterator[Broken]:
    """Whether workers of one socket share as they do not at speed 1."""
    sharing = cell.knobs.sharing
    if not keeps_split(sharing, speed, split):
        off = f", and latency be {percent(split.moved_at(speed))} off" if split else ""
        yield Broken(f"{sharing} workers of one socket would share more evenly at {speed:g}{off}")


def foreseen(
    cell: Cell,
    costs: Costs | None,
    max_speed: float | None = None,
    model: SplitModel | None = None,
) -> Cell:
    """The cell at the speed that would be chosen now; as it is where nothing is known."""
    if not cell.auto_speed or (costs is None and cell.target == "vm"):
        return cell
    return choose_speed(cell, costs, max_speed or MAX_SPEED, model).of(cell)


def guessed(cell: Cell, model: SplitModel | None = None) -> Cell:
    """The cell at the speed that it has, or that a usual machine would choose for it."""
    if not cell.auto_speed or cell.speed_reason:
        return cell
    return cell.at_speed(choose_speed(cell, TYPICAL, model=model).speed)


def with_split(cell: Cell, costs: Costs | None, model: SplitModel | None) -> Cell:
    """A cell whose speed was given, with what a model says of how its workers share.

    By what an upload costs a usual machine, where it is not known what it costs this one.
    """
    if model is None or cell.target != "vm" or cell.knobs.sharing == 1 or cell.knobs.speed == 1:
        return cell
    work = Expected(cell, costs or TYPICAL).loop_work
    return cell.model_copy(update={"split": model.split(cell, work, cell.knobs.speed)})


@dataclass(frozen=True)
class Expected:
    """What a cell is expected to do on this machine, in real-world seconds and at speed 1."""

    cell: Cell
    costs: Costs

    def broken(self, speed: float) -> Iterator[Broken]:
        """The bounds that a speed would break, each with its figure."""
        yield from self._out_of_time(speed)
        yield from self._longer(speed)
        start, end = self.cell.load.measured
        if 0 < end - start < WATCHED_WALL_S * speed:
            yield Broken(f"its window would be over in less than {WATCHED_WALL_S:g} s at {speed:g}")
        if self._shortest_delay / speed < RESOLUTION_S / MARGIN:
            yield Broken(
                f"timers do not keep its shortest delay at {speed:g}", "lengthen the delay"
            )
        yield from self._away(speed)

    @property
    def loop_work(self) -> LoopWork:
        """What an upload costs its worker: what a loop's meter tells has its calls in it."""
        trip_s = self.costs.trip_s
        if self._loop_s is None:
            return LoopWork(self._cpu_s, trip_s)
        calls = self._beyond_trips if self._blocks else 0.0
        return LoopWork(max(0.0, self._loop_s - calls), trip_s)

    def _out_of_time(self, speed: float) -> Iterator[Broken]:
        """Where machine and generator have no time left."""
        machine = self._busy(self.costs.machine, speed) + self.rate * self._converting_s * speed
        if machine > FULL * MARGIN:
            what = f"this machine's CPU would be {percent(machine)} in use at {speed:g}"
            yield Broken(what, "stop other programs, lower the users, or use more cores")
        generator = self._busy(self.costs.of(GENERATOR), speed)
        if generator > FULL:
            what = f"the load generator would use {generator:.2f} of its core at {speed:g}"
            yield Broken(what, "lower the users or the rate")
        late = self._at_once * self.costs.of(GENERATOR).of(self._size) * speed
        if late > allowed_lateness(self.latency) * MARGIN:
            what = f"the load generator would send {late:.2f} s late at {speed:g}"
            yield Broken(what, "lower the users that upload at once")

    def _busy(self, cost: WorkCost, speed: float) -> float:
        """Seconds in a wall second for which something is busy."""
        return cost.rest + self.rate * cost.of(self._size) * speed

    def _longer(self, speed: float) -> Iterator[Broken]:
        """What takes longer than it would, because work is not divided; nothing at speed 1."""
        allowed, p50, work = ALLOWED * MARGIN, self.latency, self._worker(speed)
        if not work.carries(speed, allowed, FULL):
            busy = percent(work.busy_at(speed))
            yield Broken(f"at {speed:g} an event loop would be {busy} busy, and carry fewer")
        if not work.answers(speed, p50, allowed):
            longer = work.excess_at(speed) / work.rate
            yield Broken(
                f"an upload would take {longer:.2f} s longer than {p50:.1f} s at {speed:g}"
            )
        for criterion in bounds_of_others(self.cell):
            if not work.answers(speed, criterion.bound, allowed * OF_OTHERS):
                longer = work.excess_at(speed) / work.rate
                yield Broken(f"{criterion} would be {longer:.3f} s off at {speed:g}")
        called, added = self._delay("gcs"), self.costs.call_s
        if called and not keeps_call(speed, added, called, CALL_SHARE * MARGIN):
            yield Broken(f"a call to storage would take {added * speed:.2f} s longer at {speed:g}")
        for slot, held in self._waited_for.items():
            if not keeps_slot(speed, self._beyond_trips, held, allowed):
                yield Broken(f"{slot} would be held longer at {speed:g}")

    def _away(self, speed: float) -> Iterator[Broken]:
        start, end = self.cell.load.measured
        struck: list[str] = [planned.part for planned in self.cell.process_faults]
        if self.cell.knobs.health_probe is not None:
            struck.append("the backend, which a probe may have started anew,")
        for part in struck:
            if START_WALL_S * (speed - 1) > ALLOWED * MARGIN * (end - start):
                yield Broken(f"{part} would be away for too long at {speed:g}")

    # How many uploads there are, and how long they take.

    @cached_property
    def rate(self) -> float:
        """Attempts a second: of closed users, as fast as the replica answers or refuses them.

        With N users, think time Z and an upload's time R the rate is at most N / (R + Z), and at
        most what the scarcest kind of slot carries (asymptotic bounds; Lazowska et al.,
        Quantitative System Performance, 1984, ch. 5).
        """
        load = self.cell.load
        if isinstance(load, OpenLoad):
            return load.rate
        if isinstance(load, BurstLoad):
            return load.burst / (self._service_s + load.burst / self._carried)
        users, turn = load.peak_users, self._service_s + load.think.mean
        served = min(users / turn, self._carried)
        backoff = max(load.backoff.mean, RESOLUTION_S)
        passed = self._passed(users)
        if passed < served or self.cell.knobs.max_inflight_uploads is not None:
            served = min(served, passed)
            return served + max(0.0, users - served * turn) / backoff
        return self._with_oversize(users, backoff)

    def _with_oversize(self, users: int, backoff: float) -> float:
        """Attempts a second of closed users a share of whose files is refused for its size.

        One that is refused is as good as answered at once, so that a user's turns take less time,
        and of those that are served there are as many as before.
        """
        refused, load = self._oversize, self.cell.load
        turn = (1 - refused) * (self._service_s + load.think.mean) + refused * backoff
        served = self._carried / (1 - refused) if refused < 1 else inf
        return min(users / turn, served)

    @cached_property
    def _oversize(self) -> float:
        """The share of the files that nginx, or the backend, refuses for their size."""
        limit = file_limit(self.cell.target, self.cell.knobs)
        return 0.0 if limit is None else self.cell.load.audio.share_above(limit)

    @cached_property
    def latency(self) -> float:
        """The median of an upload, at the least: its service, or its turn among all users."""
        load = self.cell.load
        if isinstance(load, OpenLoad):
            return self._service_of(load.main)
        if isinstance(load, BurstLoad):
            return max(self._service_of(load.main), load.burst / self._carried / 2)
        turn = load.peak_users / self._carried - load.think.mean
        return min(load.timeout, max(self._service_of(load.main), turn))

    def _passed(self, users: int) -> float:
        """Uploads a second that limits of rate let pass; each worker counts for itself.

        Whom they turn away has not waited at all, and comes back.
        """
        knobs, processes = self.cell.knobs, max_processes(self.cell)
        limits = (knobs.global_rate_limit, 1), (knobs.upload_rate_limit, users)
        return min(
            (of * processes * limit.count / limit.per for limit, of in limits if limit),
            default=inf,
        )

    @cached_property
    def _carried(self) -> float:
        """Uploads a second that the scarcest kind of slot carries."""
        knobs, processes = self.cell.knobs, max_processes(self.cell)
        held = self._database_s + (self._storage_s if knobs.db_session == "hold" else 0.0)
        server = knobs.pooler_size if pooled(knobs) else knobs.db_cap
        connections = min(processes * pool_connections(knobs), server)
        rates = [connections / held if held else inf, processes / self._in_loop_s]
        if knobs.gcs_call != "blocking" and self._storage_s:
            rates.append(self.cell.storage_slots / self._storage_s)
        return min(rates)

    # What one upload takes; of a mix, whatever users send, in the mean.

    def _mean(self, of: Callable[[Journey], float]) -> float:
        """A figure of each journey, in the mean over what users send."""
        return fsum(share * of(journey) for journey, share in self.cell.load.shares.items())

    def _worker(self, speed: float) -> Worker:
        """The busiest worker, which is taken to have a fair share.

        What it does at rest it does by the wall second: the less of it the higher the speed.
        """
        workers = max_processes(self.cell)
        rate = min(self.rate, self._carried) / workers
        work = self._cpu_s + (self._beyond_trips if self._blocks else 0.0)
        rest = self.costs.of(WORKER).rest / workers / speed
        loop_work = None if self._loop_s is None else rate * self._loop_s + rest
        return Worker(rate, rate * self._in_loop_s + rest, rate * work + rest, loop_work=loop_work)

    @property
    def _cpu_s(self) -> float:
        """CPU-seconds of an upload in its worker."""
        return self.costs.of(WORKER).of(self._size) + self._converting_s

    @property
    def _converting_s(self) -> float:
        """CPU-seconds beyond an upload's."""
        return self.cell.load.shares.get(Journey.CONVERT, 0.0) * CONVERT_BYTE_S * self._size

    @property
    def _blocks(self) -> bool:
        return self.cell.knobs.db_call == "blocking"

    @cached_property
    def _in_loop_s(self) -> float:
        """Seconds for which an upload has the event loop."""
        if self._loop_s is not None:
            return self._loop_s + (self._trips * self._delay("db") if self._blocks else 0.0)
        storage = self._storage_s if self.cell.knobs.gcs_call == "blocking" else 0.0
        return self._cpu_s + storage + (self._database_s if self._blocks else 0.0)

    @cached_property
    def _loop_s(self) -> float | None:
        """Seconds of an upload in which the event loop works; None where that is not known."""
        loop = self.costs.loop
        if loop is None or self.cell.knobs.gcs_call == "blocking":
            return None
        return loop.of(self._size) + self._converting_s

    def _trips_of(self, journey: Journey) -> int:
        knobs = self.cell.knobs
        if journey in (Journey.CONVERT, Journey.PROGRESS):
            return READ_TRIPS + checkout_trips(knobs)
        checkouts = 2 if knobs.db_session == "release" else 1
        return sum(db_trips(knobs).values()) + checkouts * checkout_trips(knobs)

    @cached_property
    def _trips(self) -> float:
        return self._mean(self._trips_of)

    @property
    def _beyond_trips(self) -> float:
        return self._trips * self.costs.trip_s

    @property
    def _database_s(self) -> float:
        return self._trips * (self._delay("db") + self.costs.trip_s)

    @property
    def _storage_s(self) -> float:
        return self.cell.load.shares.get(Journey.UPLOAD, 0.0) * self._delay("gcs")

    @cached_property
    def _service_s(self) -> float:
        return self._mean(self._service_of)

    def _service_of(self, journey: Journey) -> float:
        line = self.cell.load.uplink_s if REQUESTS[journey].audio else 0.0
        database_s = self._trips_of(journey) * (self._delay("db") + self.costs.trip_s)
        called = {Journey.UPLOAD: "gcs", Journey.ASSESS: "speech"}.get(journey)
        called_s = self._delay(called) if called else 0.0
        computing_s = self.costs.cpu_s(self._size)
        if journey is Journey.CONVERT:
            computing_s += CONVERT_BYTE_S * self._size
        return max(line + database_s + called_s + computing_s, RESOLUTION_S)

    @cached_property
    def _delays(self) -> list[tuple[str | None, float]]:
        """Each delay that is injected: on which proxy, and its mean."""
        return [
            (fault.proxy, toxic.span(self.cell.knobs).mean)
            for fault in self.cell.faults
            for toxic in fault.toxics
            if isinstance(toxic, Latency)
        ]

    def _delay(self, proxy: str) -> float:
        return sum(mean for of, mean in self._delays if of == proxy)

    @property
    def _shortest_delay(self) -> float:
        return min((mean for _, mean in self._delays if mean > 0), default=inf)

    @cached_property
    def _waited_for(self) -> dict[str, float]:
        """Seconds for which an upload has each kind of slot that is scarcer than uploads."""
        knobs, processes = self.cell.knobs, max_processes(self.cell)
        holds = knobs.db_session == "hold"
        held = self._database_s + (self._storage_s if holds else 0.0)
        # Whoever blocks the loop with its calls has it alone, unless it keeps its connection.
        inside = self.cell.load.peak_users if holds else min(self.rate, self._carried) * held
        inside = min(inside, processes) if self._blocks and not holds else inside
        slots = {"a connection of its pool": processes * pool_connections(knobs)}
        if knobs.db_call == "threadpool":
            slots["a thread of anyio's"] = processes * knobs.anyio_threads
        return {slot: held for slot, number in slots.items() if WAITED_FOR * number < inside}

    @property
    def _at_once(self) -> int:
        """How many uploads are sent at one moment."""
        return self.cell.load.burst if isinstance(self.cell.load, BurstLoad) else 1

    @cached_property
    def _size(self) -> float:
        return self.cell.load.audio.mean
