"""Gaps in readings, and a clock that was set: which are told, of what, and which are meant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from lab.judge import judge
from lab.judge.coverage import clock_was_set, longest_gap
from lab.judge.trial import Trial
from lab.model.evidence import (
    Evidence,
    GatewayBeat,
    LoadDone,
    Observation,
    OomKill,
    PartDown,
)
from lab.model.load import Window
from lab.model.probe import ProbeRecord
from lab.model.readings import DatabaseReading, MachineReading
from lab.model.verdict import Outcome
from tests.unit.judge.observations import (
    WINDOW,
    at_rest,
    cell,
    instance,
    machine,
    on_cloudrun,
    sample,
    samples,
    strike,
    worker,
)

END = 80.0
SPEED = 6
NEVER: Sequence[Window] = ()


def moments(every: float, *but: Window, until: float = END) -> list[float]:
    """Every so many real-world seconds, but in these times."""
    times = [round(n * every, 3) for n in range(int((until + 2) / every))]
    return [t for t in times if not any(start < t < end for start, end in but)]


def trial(
    *more: Evidence,
    database: Sequence[Window] = NEVER,
    read: Sequence[Window] = NEVER,
    workers: Sequence[Window] = NEVER,
    beats: Sequence[Window] = NEVER,
    speed: float = SPEED,
    **settings: Any,
) -> Trial:
    """One that was read as often as it should be, at six times the speed, but in these times."""
    evidence = [
        *(DatabaseReading(t=t, connections=3) for t in moments(0.1 * speed, *database)),
        *(machine(t) for t in moments(1.0 * speed, *read)),
        *(worker(t) for t in moments(0.1 * speed, *workers)),
        LoadDone(t=END + 1, window=WINDOW, generator_exit=0, beat_s=0.1),
        *more,
    ]
    seen = Observation(
        samples=(*samples(60), sample(WINDOW[1] - 1, END - WINDOW[1] + 1)),
        evidence=tuple(evidence),
        beats=tuple(moments(0.1 * speed, *beats)),
    )
    return Trial(cell(speed=speed, **settings), seen)


def test_a_trial_that_was_read_all_the_time_has_no_gap() -> None:
    assert trial().uncovered == []


FROZEN = (10.2, 58.8)
"""8.1 s of wall time, in real-world seconds at speed 6."""


@pytest.mark.parametrize(
    ("gaps", "reason"),
    [
        (
            {"database": [FROZEN]},
            "nobody read the database for 8.1 s of wall time (48.6 s in real time), from 10.2 s:"
            " it gave no answer - run the cell again",
        ),
        (
            {"read": [FROZEN]},
            "nobody read this machine for 9.0 s of wall time (54.0 s in real time), from 6.0 s:"
            " its CPU and memory are unknown then - run the cell again",
        ),
        (
            {"database": [FROZEN], "read": [FROZEN]},
            "the lab itself stood still for 8.1 s of wall time (48.6 s in real time), from 10.2 s:"
            " what the replica and this machine did then is unknown - run the cell again",
        ),
        (
            {"beats": [FROZEN]},
            "the load generator stood still for 8.1 s of wall time (48.6 s in real time), from"
            " 10.2 s: what its users would have done then is unknown - run the cell again",
        ),
        (
            {"workers": [FROZEN]},
            "worker 1 wrote nothing for 8.1 s of wall time (48.6 s in real time), from 10.2 s:"
            " it stood still - run the cell again",
        ),
        (
            {"beats": [(70.2, 1e9)]},  # until the end, whatever came before
            "the load generator stood still for 1.6 s of wall time (9.8 s in real time), from"
            " 70.2 s: what its users would have done then is unknown - run the cell again",
        ),
        (
            {"beats": [(-1.0, 1e9)]},
            "the load generator stood still for 13.3 s of wall time (80.0 s in real time), from"
            " 0.0 s: what its users would have done then is unknown - run the cell again",
        ),
    ],
)
def test_each_kind_of_reading_must_cover_the_trial(
    gaps: dict[str, list[Window]], reason: str
) -> None:
    [told] = trial(**gaps).uncovered  # type: ignore[arg-type]
    assert told == reason


@pytest.mark.parametrize("kind", ["database", "workers", "beats"])
@pytest.mark.parametrize(
    ("wall", "times", "told"),
    [
        (0.3, 1, ""),
        (0.3, 4, ""),  # a busy machine is late, and often
        (0.5, 1, ""),
        (0.5, 2, "{} 2 times, for 1.0 s of the window's 10.0 s (wall time), from 30.0 s on: "),
        (1.3, 1, "{} once, for 1.3 s of the window's 10.0 s (wall time), from 30.0 s on: "),
        (1.3, 4, "{} 4 times, for 5.2 s of the window's 10.0 s (wall time), from 30.0 s on: "),
        (1.7, 1, "{} for 1.7 s of wall time (10.2 s in real time), from 30.0 s: "),
        (1.7, 4, "{} for 1.7 s of wall time (10.2 s in real time), from 30.0 s: "),
    ],
)
def test_of_a_window_of_10_s_of_wall_time_half_a_second_may_be_missing(
    kind: str, wall: float, times: int, told: str
) -> None:
    who = {
        "database": "nobody read the database",
        "workers": "worker 1 wrote nothing",
        "beats": "the load generator stood still",
    }[kind]
    begun = [round(30.0 + 10.8 * n, 3) for n in range(times)]
    gaps = [(start, round(start + wall * SPEED, 3)) for start in begun]
    reasons = trial(**{kind: gaps}).uncovered  # type: ignore[arg-type]
    assert [reason.partition(told.format(who))[1] for reason in reasons] == (
        [told.format(who)] if told else []
    )


@pytest.mark.parametrize(("times", "told"), [(1, 0), (2, 0), (3, 1)])
def test_of_a_window_of_a_minute_a_twentieth_may_be_missing(times: int, told: int) -> None:
    stops = [(20.0 + 8 * n, 21.2 + 8 * n) for n in range(times)]  # 1.2 s, of 3 s
    assert len(trial(beats=stops, speed=1).uncovered) == told


@pytest.mark.parametrize(
    ("gap", "told"),
    [
        ((20.0, 45.0), "the lab itself stood still once, for 1.3 s of the window's 3.0 s"),
        ((-1.0, 24.0), "the lab itself stood still"),
    ],
)
def test_a_short_window_is_not_judged_on_the_half_of_it(gap: Window, told: str) -> None:
    fast = trial(database=[gap], read=[gap], speed=20)
    assert fast.uncovered[0].startswith(told)


def test_of_this_machine_gaps_count_by_what_they_are_longer_than_a_second() -> None:
    usual = [machine(6.6 * n) for n in range(13)]  # every 1.1 s
    assert trial(*usual, read=[(-1, 1e9)]).uncovered == []
    late = [machine(9.0 * n) for n in range(10)]  # every 1.5 s
    [told] = trial(*late, read=[(-1, 1e9)]).uncovered
    assert told.startswith(
        "nobody read this machine 6 times, for 9.0 s of the window's 10.0 s (wall time), from 18.0"
    )


def test_a_short_gap_of_the_database_may_be_the_labs() -> None:
    [told] = trial(database=[(30.6, 36.0)]).uncovered
    assert told == (
        "nobody read the database once, for 0.9 s of the window's 10.0 s (wall time), from 30.6 s"
        " on: it gave no answer, or the lab itself stood still - run the cell again"
    )


def test_gaps_before_the_window_count_in_the_load() -> None:
    ramp = [(0.1, 7.1), (8.0, 14.9)]
    [told] = trial(beats=ramp).uncovered
    assert told.startswith("the load generator stood still 2 times, for 2.4 s of the load's 13.3 s")


def test_at_speed_1_both_times_are_one() -> None:
    [told] = trial(beats=[(10.0, 13.0)], speed=1).uncovered
    assert told.startswith("the load generator stood still for 3.0 s, from 10.0 s: ")


def test_of_several_workers_the_longest_gap_is_told() -> None:
    other = [worker(t, pid=2) for t in moments(0.6, FROZEN)]
    [told] = trial(*other, workers=[(12.0, 24.0)]).uncovered
    assert told.startswith("worker 2 wrote nothing for 8.1 s")


@pytest.mark.parametrize(
    ("gap", "meant"),
    [
        ("workers", strike(12.0, 55.0)),
        ("workers", strike(12.0, None)),
        ("workers", OomKill(t=10.5, pid=1, rss=9)),
        ("workers", OomKill(t=10.5, pid=0, rss=0)),
        ("workers", ProbeRecord(t=10.5, event="ended")),
        ("workers", OomKill(t=4.0, pid=0, rss=0)),  # its container outlived it for a second
        ("database", strike(12.0, 55.0, fault="db-restart", part="postgres", action="restart")),
    ],
)
def test_a_gap_that_was_meant_or_is_a_result_is_none(gap: str, meant: Evidence) -> None:
    assert trial(meant, **{gap: [FROZEN]}).uncovered == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("gap", "other"),
    [
        ("workers", strike(12.0, 30.0)),  # it served again long before
        ("workers", strike(12.0, 55.0, part="postgres")),
        ("workers", OomKill(t=10.5, pid=2, rss=9)),
        ("workers", OomKill(t=40.0, pid=1, rss=9)),
        ("workers", ProbeRecord(t=40.0, event="ended")),
        ("workers", ProbeRecord(t=10.5, event="failed")),
        ("workers", OomKill(t=-5.0, pid=1, rss=9)),
        ("database", strike(12.0, 55.0)),
        ("beats", strike(12.0, 55.0)),
    ],
)
def test_what_befell_another_part_or_later_excuses_nothing(gap: str, other: Evidence) -> None:
    assert len(trial(other, **{gap: [FROZEN]}).uncovered) == 1  # type: ignore[arg-type]


def test_a_worker_that_began_late_need_not_have_been_read_before() -> None:
    late = [worker(t, pid=2) for t in moments(0.6) if t > 50]
    assert trial(*late, OomKill(t=49, pid=1, rss=9), workers=[(49, 1e9)]).uncovered == []


def test_where_a_part_was_down_that_is_the_reason() -> None:
    down = PartDown(t=12, part="nginx", why="killed by SIGKILL")
    assert trial(down, database=[FROZEN], beats=[FROZEN]).uncovered == []
    still = PartDown(t=60, part="lab", why="it stood still for 8.1 s of wall time")
    assert len(trial(still, database=[FROZEN], read=[FROZEN]).uncovered) == 1


def test_an_earlier_lab_gave_no_sign_of_life_and_is_judged_as_it_was() -> None:
    lines = [line for line in at_rest() if not isinstance(line, LoadDone)]
    done = LoadDone(t=80, window=WINDOW, generator_exit=0)
    seen = Observation(samples=tuple(samples(60)), evidence=(*lines, done))
    assert Trial(cell(), seen).uncovered == []


# Cloud Run.


def cloudrun(*more: Evidence, beats: Sequence[Window] = NEVER, **gaps: Any) -> Trial:
    """The same on Cloud Run, whose instance serves from 0 s on."""
    seen = trial(speed=1, **gaps).observation
    on_vm = [line for line in seen.evidence if line.kind != "worker"]
    own = [worker(line.t, instance="instance-1") for line in seen.evidence if line.kind == "worker"]
    front = [GatewayBeat(t=t) for t in moments(0.1, *beats)]
    return Trial(
        on_cloudrun(),
        seen.model_copy(update={"evidence": (*on_vm, *own, *front, *more)}),
    )


def test_an_instance_is_to_be_read_while_it_has_cpu() -> None:
    withheld = [instance(20.0, "paused"), instance(30.0, "resumed")]
    assert cloudrun(*withheld, workers=[(19.95, 30.1)]).uncovered == []
    ended = [instance(40.0, "paused"), instance(60.0, "removed")]
    assert cloudrun(*withheld, *ended, workers=[(19.95, 30.1), (40.0, 1e9)]).uncovered == []
    [told] = cloudrun(*withheld, workers=[(19.95, 32.0)]).uncovered
    assert told.startswith("worker 1 of instance-1 wrote nothing for 2.0 s, from 30.0 s: ")
    other = [line.model_copy(update={"instance": "instance-2"}) for line in withheld]
    assert len(cloudrun(*other, workers=[(19.95, 30.1)]).uncovered) == 1


def test_a_gateway_that_stood_still_is_named() -> None:
    assert cloudrun().uncovered == []
    [told] = cloudrun(beats=[(20.0, 22.0)]).uncovered
    assert told == (
        "the gateway stood still for 2.0 s, from 20.0 s: requests waited for it, not in it"
        " - run the cell again"
    )


# What follows from a gap.


def test_no_criterion_is_held_on_readings_that_nobody_took() -> None:
    def judged(**gaps: Any) -> tuple[Outcome, set[str]]:
        of = trial(**gaps)
        asked = cell("pg_connections <= 20", "error_rate < 50 %", speed=SPEED)
        verdict = judge(asked, of.observation)
        assert verdict.limit is None or not gaps
        return verdict.outcome, {finding.outcome for finding in verdict.findings}

    assert judged()[1] == {"met"}
    assert judged(database=[FROZEN]) == (Outcome.INVALID, {"undecided"})


@pytest.mark.parametrize(
    ("times", "span", "excused", "gap"),
    [
        ([], (0, 10), [], (0, 10)),
        ([-5, 2, 4, 20], (0, 10), [], (4, 10)),
        ([2, 4], (0, 10), [(5, 6)], (6, 10)),
        ([2, 4], (0, 10), [(3, 5), (4.5, 9)], (0, 2)),
        ([2, 4], (0, 10), [(20, 30)], (4, 10)),
        ([2, 4], (0, 10), [(-9, 99)], (0, 0)),
        ([2, 4], (12, 10), [], (12, 12)),
    ],
)
def test_the_longest_gap_is_one_piece_of_the_span(
    times: list[float], span: Window, excused: list[Window], gap: Window
) -> None:
    assert longest_gap(times, span, excused) == gap


# The clock.

Offsets = Callable[[float], float | None]


def clocked(*offsets: float | None) -> list[MachineReading]:
    return [
        machine(10.0 * n).model_copy(update={"clock_offset": offset})
        for n, offset in enumerate(offsets)
    ]


KEEP = " - keep its time service from stepping it, and run the cell again"


@pytest.mark.parametrize(
    ("offsets", "reason"),
    [
        ([1e9, 1e9, 1e9 + 0.05, 1e9 + 0.1], None),  # read between two ticks, or slewed
        ([None, None, None], None),
        ([None, 1e9, 1e9], None),
        ([1e9, 1e9, 1e9 - 2], f"this machine's clock was set by -2.0 s at 20.0 s{KEEP}"),
        ([1e9, 1e9 + 3600], f"this machine's clock was set by +3600.0 s at 10.0 s{KEEP}"),
        (
            [1e9, 1e9 + 2, 1e9, 1e9 - 9],
            f"this machine's clock was set by +2.0 s at 10.0 s, and 2 more times{KEEP}",
        ),
    ],
)
def test_a_clock_that_was_set_is_told_with_by_how_much(
    offsets: list[float | None], reason: str | None
) -> None:
    others = [line for line in at_rest() if not isinstance(line, MachineReading)]
    seen = Observation(samples=tuple(samples(60)), evidence=(*others, *clocked(*offsets)))
    assert list(clock_was_set(Trial(cell(), seen))) == ([reason] if reason else [])
