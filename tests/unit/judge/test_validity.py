"""Why a cell shows nothing: parts, evidence, instances, generator, machine, speed, defects."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from lab.judge import judge
from lab.judge.injection import checks
from lab.judge.remedies import slower
from lab.judge.trial import Trial
from lab.judge.validity import (
    instances,
    overstated,
    prolonged,
    reasons_invalid,
    scaling,
    threads_used,
)
from lab.model.evidence import (
    Cause,
    Evidence,
    Injected,
    LoadDone,
    Observation,
    PartDown,
)
from lab.model.experiment import Cell
from lab.model.fidelity import true_speed
from lab.model.probe import ProbeRecord
from lab.model.verdict import Invalidity, Outcome
from tests.unit.judge.observations import (
    WINDOW,
    at_rest,
    audit,
    burst,
    cell,
    front,
    instance,
    machine,
    measured,
    observation,
    on_cloudrun,
    one_instance,
    refused,
    sample,
    samples,
    strike,
    worker,
)

LOOK = " - see the log of backend in the cell's folder, and run the cell again"


def invalidities(of: Cell, seen: Observation) -> tuple[Invalidity, ...]:
    trial = Trial(of, seen)
    return reasons_invalid(trial, checks(trial))


def reasons(of: Cell, seen: Observation) -> list[str]:
    return [found.reason for found in invalidities(of, seen)]


def told(found: Iterable[Invalidity]) -> list[str]:
    return [one.reason for one in found]


def machines(share: float = 0.3, generator: float = 0.1) -> list[Evidence]:
    return [machine(t, share, generator=t * generator) for t in WINDOW]


def working(cores: float, speed: float) -> list[Evidence]:
    return [worker(t, cpu_s=t * cores / speed) for t in WINDOW]


def test_a_sound_trial_gives_no_reason() -> None:
    assert reasons(cell(faults=["gcs-latency", "db-distance"]), observation(samples(60))) == []


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (
            [PartDown(t=31.2, part="postgres", why="signal 9")],
            "postgres was down at 31.2 s: signal",
        ),
        (
            [LoadDone(t=80, window=WINDOW, generator_exit=1)],
            "the load generator ended with exit code 1",
        ),
        (
            machines(generator=0.9),
            "the load generator used 0.90 of its one core - lower the users",
        ),
        (
            machines(share=0.91),
            "this machine's CPU was 91 % in use - lower the users",
        ),
        (
            [audit(lost=["a", "b"])],
            "2 uploads were answered 200 but are not there: a defect of the",
        ),
        (
            [audit(scores=4, lost_scores=["a"])],
            "1 assessments were answered 200 but are not there: a defect of the",
        ),
        (
            [Injected(t=0, proxy="gcs", enabled=False, toxics=[])],
            "injected and measured differ: proxy gcs should be armed with nothing, but read back",
        ),
    ],
)
def test_each_fault_of_the_lab_is_a_reason(lines: Sequence[Evidence], reason: str) -> None:
    kinds = {type(line) for line in lines}
    others = [line for line in at_rest() if type(line) not in kinds]
    (found,) = reasons(cell(), observation(samples(60), [*others, *lines]))
    assert found.startswith(reason)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([], f"injected and measured differ: the process fault backend-kill did not happen{LOOK}"),
        (
            [strike(until=None)],
            "injected and measured differ: backend was killed at 25.0 s and did not come back"
            + LOOK,
        ),
        ([strike()], None),
    ],
)
def test_a_process_fault_that_is_missing_is_a_reason(
    lines: list[Evidence], reason: str | None
) -> None:
    seen = observation(samples(60), [*at_rest(), *lines])
    assert reasons(cell(faults=["backend-kill"]), seen) == ([reason] if reason else [])


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        ("load", "the load never finished"),
        ("worker", "no worker was read, so its CPU and pool are unknown"),
        ("machine", "the machine was not read, so the lab's own CPU is unknown"),
        ("audit", "there was no audit, so lost uploads cannot be ruled out"),
    ],
)
def test_evidence_that_is_missing_is_a_reason(missing: str, reason: str) -> None:
    rest = [line for line in at_rest() if line.kind != missing]
    assert reasons(cell(), observation(samples(60), rest)) == [reason]


@pytest.mark.parametrize(
    ("late", "latency", "invalid"), [(0.2, 1, False), (0.3, 1, True), (0.8, 60, False)]
)
def test_a_late_generator_is_a_reason_unless_latency_dwarfs_it(
    late: float, latency: float, invalid: bool
) -> None:
    uploads = [sample(20, latency, planned_at=20 - late) for _ in range(60)]
    found = reasons(cell(), observation(uploads))
    assert any("sent 0.30 s late" in reason for reason in found) == invalid


def test_an_answer_500_without_a_cause_is_a_reason_also_outside_the_window() -> None:
    uploads = [*samples(60), sample(1, error=Cause.INTERNAL_ERROR)]
    assert reasons(cell(), observation(uploads)) == [
        "1 answers were 500 without a cause: a defect of the replica"
    ]


BY, OTHERS = "this machine's CPU was ", "55 % by other programs - stop them"


def shares(speed: float, parts: float, whole: float) -> list[Evidence]:
    """Readings of two cores, of whose CPU the parts and the lab have a share, and all the whole."""
    cores = {"backend": 2 * parts * 0.9, "lab": 2 * parts * 0.1}
    used = [{part: t / speed * share for part, share in cores.items()} for t in WINDOW]
    lines = [machine(t, whole, **cpu) for t, cpu in zip(WINDOW, used, strict=True)]
    return [line.model_copy(update={"cores": 2}) for line in lines]


@pytest.mark.parametrize(
    ("speed", "parts", "whole", "kind", "fitting", "reason"),
    [
        (
            4,
            0.40,
            0.95,
            "machine",
            3.5,
            f"{BY}95 % in use, {OTHERS} or lower --speed, to about 3.5",
        ),
        (4, 0.89, 0.95, "speed", 3.5, f"{BY}95 % in use - stop other programs or lower --speed"),
        (4, 0.99, 0.99, "speed", 3.5, f"{BY}99 % in use - stop other programs or lower --speed"),
        (4, 0.02, 0.95, "machine", None, f"{BY}95 % in use, 93 % by other programs - stop them"),
        (1, 0.40, 0.95, "machine", None, f"{BY}95 % in use, {OTHERS} or lower the users"),
        (1, 0.95, 0.95, "speed", None, f"{BY}95 % in use - lower the users"),
    ],
)
def test_who_keeps_this_machine_busy_decides_what_is_done_about_it(
    speed: float, parts: float, whole: float, kind: str, fitting: float | None, reason: str
) -> None:
    rest = [line for line in at_rest() if line.kind != "machine"]
    seen = observation(samples(60), [*rest, *shares(speed, parts, whole)])
    [found] = invalidities(cell(speed=speed), seen)
    assert (found.kind, found.fitting) == (kind, fitting)
    assert found.reason.startswith(reason)


def test_a_speed_that_the_lab_chose_is_changed_by_the_lab() -> None:
    of = cell(speed=5).model_copy(update={"auto_speed": True})
    [found] = scaling(measured(of, busy(0.60, p50=5.0)))
    assert found.reason.endswith(" - `--resume` measures it again, at a speed of 4.5 at most")


def test_of_a_speed_that_the_lab_chose_nobody_is_told_to_lower_it() -> None:
    of = cell(speed=4).model_copy(update={"auto_speed": True})
    rest = [line for line in at_rest() if line.kind != "machine"]
    [found] = invalidities(of, observation(samples(60), [*rest, *shares(4, 0.40, 0.95)]))
    assert found.reason.endswith("- stop them; `--resume` measures it again")


def test_a_late_generator_names_the_speed_at_which_it_would_be_in_time() -> None:
    uploads = [sample(20, 1, planned_at=19.7) for _ in range(60)]
    [found] = invalidities(cell(speed=2), observation(uploads))
    assert (found.kind, found.fitting) == ("generator", 1.5)
    [found] = invalidities(cell(), observation(uploads))
    assert found.fitting is None


KINDS: dict[str, tuple[Sequence[Evidence], str]] = {
    "part": ([PartDown(t=31.2, part="postgres", why="signal 9")], "part"),
    "the lab": ([PartDown(t=31.2, part="lab", why="it stood still")], "standstill"),
    "exit code": ([LoadDone(t=80, window=WINDOW, generator_exit=1)], "part"),
    "lost": ([audit(lost=["a"])], "defect"),
    "lost scores": ([audit(lost_scores=["a"])], "defect"),
    "read back": ([Injected(t=0, proxy="gcs", enabled=False, toxics=[])], "injection"),
}


@pytest.mark.parametrize("name", KINDS)
def test_each_reason_has_its_kind(name: str) -> None:
    lines, kind = KINDS[name]
    others = [line for line in at_rest() if line.kind not in {line.kind for line in lines}]
    [found] = invalidities(cell(), observation(samples(60), [*others, *lines]))
    assert found.kind == kind


def test_what_is_missing_is_of_the_part_that_was_down() -> None:
    rest = [line for line in at_rest() if line.kind not in ("worker", "audit")]
    seen = observation(samples(60), rest)
    assert {found.kind for found in invalidities(cell(), seen)} == {"evidence"}
    down = PartDown(t=0.1, part="backend", why="signal 9")
    seen = observation(samples(60), [*rest, down])
    assert {found.kind for found in invalidities(cell(faults=["backend-kill"]), seen)} == {"part"}


def test_what_a_dead_part_makes_of_answers_is_no_defect_of_the_replica() -> None:
    uploads = [*samples(60), sample(1, error=Cause.INTERNAL_ERROR)]
    rest = [line for line in at_rest() if line.kind != "audit"]
    down = PartDown(t=31.2, part="postgres", why="client backend 7 was killed by SIGKILL")
    assert reasons(cell(), observation(uploads, [*rest, audit(lost=["a"]), down])) == [
        "postgres was down at 31.2 s: client backend 7 was killed by SIGKILL"
    ]


@pytest.mark.parametrize(
    ("settings", "invalid"),
    [
        ({"speed": 25}, False),
        ({"speed": 26}, True),
        ({"speed": 50, "db_rtt": "0 s"}, False),
        ({"speed": 50, "db_rtt": "50 ms"}, False),
    ],
)
def test_a_delay_below_what_timers_keep_is_a_reason(
    settings: dict[str, Any], invalid: bool
) -> None:
    rest = [line for line in at_rest() if line.kind not in ("worker", "machine")]
    lines = [*rest, *working(0, 1), *machines(generator=0.0)]
    found = reasons(cell(faults=["db-distance"], **settings), observation(evidence=lines))
    assert found == (
        [
            "at speed 26 db-distance delays by 0.96 ms of wall time, which timers do not keep"
            " - lower --speed, to about 25, or let the lab choose it (speed: auto)"
        ]
        if invalid
        else []
    )


EVEN = {
    "attempts": 120.0,
    "succeeded": 120.0,
    "p50": 4.0,
    "auth": 0.05,
    "release": 0.025,
    "write": 0.1,
}
"""120 uploads in a window of 60 s by one worker: 2 a second, 35 % of its loop in the database."""


def busy(cores: float, **metrics: float) -> dict[str, float]:
    return EVEN | {"cpu_worker_max": cores, "cpu_backend": cores} | metrics


@pytest.mark.parametrize(
    ("speed", "metrics", "says"),
    [
        (1, busy(1.0), None),  # at speed 1 all work is real, however much there is
        (5, busy(0.10), None),  # 0.08 / 2 = 0.04 s more than 4 s: 1 %
        (5, busy(0.40), None),  # 0.16 s: 4 %
        (5, busy(0.50), None),  # its loop is busy 85 %: something else limits it
        (5, busy(0.60), "of what keeps the busiest event loop busy"),  # 0.48 of 0.95
        (5, busy(0.40, p50=2.0), "an upload takes 0.16 s longer than it would"),
        (5, busy(0.05, write=0.4), None),  # (0.05 + 2 x 0.3) x 0.8 / 1.0, but without a fault
    ],
)
def test_work_that_speed_makes_dense_is_a_reason_where_it_matters(
    speed: float, metrics: dict[str, float], says: str | None
) -> None:
    found = told(scaling(measured(cell(speed=speed), metrics)))
    assert bool(found) == (says is not None)
    assert all(" - lower --speed, to about " in reason for reason in found)
    assert says is None or any(says in reason for reason in found)


def test_the_speed_that_is_advised_is_the_highest_that_is_true() -> None:
    """Loop 95 % busy at 5, of it 12 % a unit of speed: at 4.5 it is 89 % busy, and no limit."""
    [found] = scaling(measured(cell(speed=5), busy(0.60, p50=5.0)))
    assert found.reason.endswith(
        "(5 % is allowed) - lower --speed, to about 4.5, or let the lab choose it (speed: auto)"
    )
    assert (found.kind, found.fitting) == ("speed", 4.5)
    dense = busy(1.0, p50=2.0)  # 0.2 a unit of speed, 0.1 s of each upload: of 2 s 5 % at 2
    assert {found.fitting for found in scaling(measured(cell(speed=5), dense))} == {2}
    assert true_speed(5, lambda _speed: False) == 1
    assert true_speed(3.3, lambda _speed: True) == 3
    assert true_speed(3, lambda _speed: True) == 2.5


def test_overhead_beyond_the_injected_distance_counts_as_work() -> None:
    slow = busy(0.1, auth=0.07, write=0.13)  # 50 ms more than 7 round trips of 25 ms
    found = overstated(measured(cell(speed=5, faults=["db-distance"]), slow))
    assert found is not None
    assert found.rate == pytest.approx(2.0)
    assert found.busy == pytest.approx(0.1 + 2 * 0.225)
    assert found.excess == pytest.approx((0.1 + 2 * 0.05) * 0.8)


def test_the_loops_own_meter_tells_how_busy_it_is_where_the_sum_tells_more() -> None:
    """CPU within a call is counted twice in the sum."""
    metered = overstated(measured(cell(speed=5), busy(0.6, loop_busy=0.85)))
    assert metered is not None
    assert metered.busy == pytest.approx(0.85)
    assert list(scaling(measured(cell(speed=5), busy(0.6, p50=5.0, loop_busy=0.85)))) == []
    computing = overstated(measured(cell(speed=5), busy(0.95, loop_busy=0.80)))
    assert computing is not None
    assert computing.busy == pytest.approx(0.95)


def test_what_the_loop_does_is_what_its_meter_tells_beyond_the_delays_that_it_waits_for() -> None:
    """0.85 of its time, of which two uploads a second wait for calls for 0.35; at speed 5."""
    found = overstated(measured(cell(speed=5), busy(0.6, loop_busy=0.85)))
    assert found is not None
    assert found.work == pytest.approx(0.12)
    assert found.loop_work == pytest.approx(0.1)
    assert found.busy_at(1) == pytest.approx(0.85 - 4 * 0.1)
    most = overstated(measured(cell(speed=5), busy(0.2, loop_busy=0.99)))  # a wedge is no work
    assert most is not None
    assert most.loop_work == most.work == pytest.approx(0.04)
    unread = overstated(measured(cell(speed=5), busy(0.2)))
    assert unread is not None
    assert unread.loop_work == unread.work


def test_a_loop_that_blocks_on_storage_is_a_limit_of_which_work_takes_its_share() -> None:
    blocking = cell(speed=20, gcs_call="blocking")
    for cores, invalid in ((0.05, False), (0.06, True)):  # 19 twentieths of it are not real
        metrics = busy(cores, loop_busy=1.0, p50=60.0)
        worker = overstated(measured(blocking, metrics))
        assert worker is not None
        assert (worker.busy, worker.loop_work) == (1.0, None)
        assert bool(list(scaling(measured(blocking, metrics)))) == invalid


@pytest.mark.parametrize(
    ("rate", "settings", "load", "valid"),
    [
        (3.05, {}, {}, True),  # 11 threads and 3.5 s of storage: 3.14 a second, of which 97 %
        (2.95, {}, {}, False),  # 94 %: the loop keeps some of them idle
        (3.05, {}, {"rate": "3/s"}, False),  # who does not wait for an answer gets it later
        (3.05, {"gcs_threads": 12}, {}, False),
        (3.05, {"gcs_call": "blocking"}, {}, False),  # there is no thread behind the loop
        (3.05, {"speed": 1}, {}, True),
    ],
)
def test_a_busy_loop_is_no_limit_where_the_threads_behind_it_are_full(
    rate: float, settings: dict[str, Any], load: dict[str, Any], valid: bool
) -> None:
    """At speed 11 a loop is 93 % busy, a third of it with work; latency is what it is at 5."""
    knobs = {"speed": 11, "gcs_call": "executor", "gcs_threads": 11, **settings}
    of = cell(faults=["gcs-latency"], load=load or {"users": 26}, **knobs)
    metrics = busy(0.40, loop_busy=0.93, p50=8.3, throughput=rate, gcs_latency=3.5)
    metrics |= {"attempts": 184.0, "succeeded": 184.0}
    assert (list(scaling(measured(of, metrics))) == []) == valid


def test_of_threads_that_a_speed_holds_for_longer_less_is_used_than_it_seems() -> None:
    """A call of 3.72 s at speed 11 is one of 3.52 s: its delay, and 20 ms of work."""
    of = cell(speed=11, faults=["gcs-latency"], gcs_call="executor", gcs_threads=11)
    trial = measured(of, {"throughput": 2.95, "gcs_latency": 3.72})
    assert threads_used(trial) == pytest.approx(2.95 * 3.52 / 11)
    assert threads_used(measured(of, {"throughput": 2.95})) is None
    undelayed = cell(speed=11, gcs_call="executor", gcs_threads=11)
    assert threads_used(measured(undelayed, {"throughput": 2.95, "gcs_latency": 3.72})) is None


@pytest.mark.parametrize(
    ("speed", "auto", "fitting", "text"),
    [
        (1, False, None, "lower the users"),
        (4, False, None, "lower the users: no lower speed would do"),
        (4, True, None, "lower the users: no lower speed would do"),
        (4, False, 2.5, "lower --speed, to about 2.5, or let the lab choose it (speed: auto)"),
        (4, True, 2.5, "`--resume` measures it again, at a speed of 2.5 at most"),
    ],
)
def test_what_is_done_about_a_speed_depends_on_who_chose_it_and_on_what_would_do(
    speed: float, auto: bool, fitting: float | None, text: str
) -> None:
    assert slower(cell(speed=speed).model_copy(update={"auto_speed": auto}), fitting) == text


@pytest.mark.parametrize(
    ("speed", "auto", "remedy"),
    [
        (1, False, " or lower the users"),
        (2, False, " or lower --speed, to about 1.5, or let the lab choose it (speed: auto)"),
        (2, True, "; `--resume` measures it again"),
    ],
)
def test_a_late_generator_says_what_would_have_it_in_time(
    speed: float, auto: bool, remedy: str
) -> None:
    uploads = [sample(20, 1, planned_at=19.7) for _ in range(60)]
    of = cell(speed=speed).model_copy(update={"auto_speed": auto})
    [found] = reasons(of, observation(uploads))
    late = "the load generator sent 0.30 s late (p95; 0.26 s is allowed)"
    assert found == f"{late} - stop other programs{remedy}"


def test_a_delay_that_no_speed_keeps_is_to_be_lengthened() -> None:
    of = cell(faults=["db-distance"], speed=2, db_rtt="0.5 ms")
    [found] = [one for one in scaling(measured(of, {})) if "timers" in one.reason]
    assert found.reason.endswith("do not keep - lengthen the delay: no lower speed would do")


def test_calls_in_other_threads_keep_no_loop_busy() -> None:
    found = overstated(measured(cell(speed=5, db_call="threadpool"), busy(0.1)))
    assert found is not None
    assert found.busy == pytest.approx(0.1)


def test_the_busiest_worker_has_its_share_of_the_uploads() -> None:
    metrics = busy(0.3) | {"cpu_backend": 0.4}
    found = overstated(measured(cell(speed=5, workers=2), metrics))
    assert found is not None
    assert found.rate == pytest.approx(2.0 / 2 * 0.3 / 0.2)


def test_an_upload_that_failed_made_no_calls() -> None:
    found = overstated(measured(cell(speed=5), busy(0.1, succeeded=60.0)))
    assert found is not None
    assert found.rate == pytest.approx(2.0)
    assert found.busy == pytest.approx(0.1 + 1 * 0.175)


def test_nothing_is_said_without_a_rate() -> None:
    assert overstated(measured(cell(speed=5), {})) is None
    assert list(scaling(measured(cell(speed=5), {}))) == []


def test_a_burst_is_as_dense_as_the_time_until_its_last_answer() -> None:
    """50 uploads answered within 14 s are 3.6 a second, however long a client would wait."""
    metrics = busy(0.043 * 14, attempts=50.0, succeeded=50.0)
    found = overstated(measured(cell(speed=5, load={"burst": 50}), metrics, (0.0, 14.0)))
    assert found is not None
    assert found.rate == pytest.approx(50 / 14)
    assert overstated(measured(cell(speed=5, load={"burst": 50}), metrics, (0.0, 0.0))) is None


@pytest.mark.parametrize(
    ("speed", "queued", "settings", "advised"),
    [
        (4, {"anyio_queued": 3}, {"db_call": "threadpool"}, "a thread of anyio's"),
        (4, {"waiting": 3}, {}, "a connection of its pool"),
        (4, {"waiting": 3}, {"db_session": "hold"}, None),  # of 3.7 s it is little
        (1, {"waiting": 3}, {}, None),  # the threads' own behaviour
        (4, {"waiting": 0}, {}, None),  # nobody waits for what is held
    ],
)
def test_a_slot_that_uploads_wait_for_must_not_be_held_for_longer_than_is_real(
    speed: float, queued: dict[str, int], settings: dict[str, Any], advised: str | None
) -> None:
    """Of 16 ms beyond 175 ms 12 are not real at speed 4; at 3 it is 8, which is 5 %."""
    of = cell(speed=speed, faults=["db-distance"], **settings)
    trial = measured(of, busy(0.05, write=0.116, gcs_latency=3.5))
    vars(trial).update(workers=[worker(t, **queued) for t in WINDOW])
    found = list(scaling(trial))
    assert bool(found) == (advised is not None)
    if advised:
        [one] = found
        assert f"an upload holds {advised} 0.012 s longer than it would, of 0.191 s" in one.reason
        assert (one.kind, one.fitting) == ("speed", 3)


def test_a_session_that_was_held_makes_a_round_trip_less() -> None:
    metrics = busy(0.1, auth=0.05, release=0.025, write=0.1)
    excess = []
    for session in ("release", "hold"):
        of = cell(speed=5, faults=["db-distance"], db_session=session)
        found = overstated(measured(of, metrics))
        assert found is not None
        excess.append(found.excess)
    assert excess[1] - excess[0] == pytest.approx(2 * 0.025 * 0.8)


@pytest.mark.parametrize(
    ("speed", "until", "reason"),
    [
        (1, 99.0, None),
        (4, 33.9, None),  # 3.9 s more than planned, 2.9 s of them not real
        (
            4,
            34.1,
            "at speed 4 backend was away 3.1 s longer than it would be, in a window of 60 s"
            " (5 % is allowed) - lower --speed, to about 3.5, or let the lab choose it (speed:"
            " auto)",
        ),
        (4, 26.0, None),
        (4, None, None),
    ],
)
def test_a_part_that_speed_keeps_away_for_longer_is_a_reason(
    speed: float, until: float | None, reason: str | None
) -> None:
    of = cell(faults=["backend-kill"], speed=speed)
    found = told(prolonged(Trial(of, observation(evidence=[strike(until=until)]))))
    assert found == ([reason] if reason else [])
    assert list(prolonged(Trial(of, observation(evidence=[])))) == []


@pytest.mark.parametrize(("speed", "told_so"), [(1, False), (4, True)])
def test_a_backend_that_its_probes_ended_is_away_for_longer_at_a_higher_speed(
    speed: float, told_so: bool
) -> None:
    of = cell(speed=speed, health_probe="10 s")
    away = [ProbeRecord(t=30, event="ended"), ProbeRecord(t=30 + 2 * speed, event="back")]
    found = told(prolonged(Trial(of, observation(evidence=away))))
    said = (
        "at speed 4 the backend, which did not answer its probes, was away 6.0 s longer than it"
        " would be, in a window of 60 s (5 % is allowed)"
    )
    assert [reason.startswith(said) for reason in found] == [True] * told_so
    never_back = [ProbeRecord(t=30, event="ended")]
    assert list(prolonged(Trial(of, observation(evidence=never_back)))) == []


def test_an_instance_that_its_probes_ended_is_a_result() -> None:
    ended = [
        instance(40.0, "sigkill"),
        instance(40.1, "stopped", why="killed by signal 9", during="stopping"),
    ]
    of = on_cloudrun(health_probe="10 s")
    assert list(instances(Trial(of, observation(evidence=ended)))) == []


SOUND = [*at_rest(), *one_instance()]
NO_WORKER = [line for line in at_rest() if line.kind != "worker"]


def of_instances(evidence: Sequence[Evidence], faults: Sequence[str] = ()) -> tuple[str, ...]:
    """Why such a burst is invalid; nothing where it is not."""
    of = on_cloudrun("errors.no_instance <= 5", faults=faults)
    verdict = judge(of, observation(burst(), evidence))
    return verdict.reasons if verdict.outcome is Outcome.INVALID else ()


def test_a_sound_front_gives_no_reason() -> None:
    assert of_instances(SOUND) == ()


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (
            [instance(240.0, "start_failed", why="it did not listen within 240 s")],
            "instance-1 did not start: it did not listen within 240 s (at 240.0 s)",
        ),
        (
            [
                instance(1.0, "died", why="exit code 3", during="starting"),
                instance(1.0, "start_failed", why="it ended before it listened: exit code 3"),
                instance(
                    3.0,
                    "start_failed",
                    instance="instance-2",
                    why="it ended before it listened: exit code 3",
                ),
            ],
            "instance-1, and 1 more did not start: it ended before it listened: exit code 3"
            " (at 1.0 s)",
        ),
        (
            [instance(9.0, "stuck", why="SIGKILL did not end it")],
            "instance-1 could not be controlled: SIGKILL did not end it (at 9.0 s)",
        ),
        (
            [instance(9.0, "frozen", why="process 7 was stopped (SIGSTOP)", during="ready")],
            "instance-1 was frozen: process 7 was stopped (SIGSTOP) (at 9.0 s)",
        ),
        (
            [instance(9.0, "died", why="exit code 1", during="ready")],
            "instance-1 died: exit code 1 (at 9.0 s)",
        ),
    ],
)
def test_what_is_no_result_is_a_reason(lines: Sequence[Evidence], reason: str) -> None:
    assert reason in of_instances([*SOUND, *lines])


@pytest.mark.parametrize(
    "lines",
    [
        [instance(9.0, "oom", why="out of memory", during="ready")],
        [
            instance(1.0, "oom", why="out of memory", during="starting"),
            instance(1.0, "start_failed", why="it ended before it listened: out of memory"),
        ],
        [instance(9.0, "stopped", why="exit code 0", during="stopping")],
    ],
)
def test_a_kill_for_memory_is_a_result_also_in_a_start_up(lines: Sequence[Evidence]) -> None:
    assert of_instances([*SOUND, *lines]) == ()


def test_a_death_that_was_planned_is_no_reason() -> None:
    lines = [instance(10.0, "died", why="killed by signal 9", during="ready")]
    assert of_instances([*SOUND, strike(10.0, 13.0), *lines], faults=["backend-kill"]) == ()


def test_where_no_instance_was_ever_ready_no_worker_is_missed() -> None:
    of = on_cloudrun("errors.no_instance <= 5")
    seen = observation([refused()] * 5, [*NO_WORKER, front(0.0, queue=5), front(0.2, starting=1)])
    assert judge(of, seen).outcome is Outcome.HELD


@pytest.mark.parametrize(
    ("evidence", "reason"),
    [
        (at_rest(), "the gateway was not read, so its queue and instances are unknown"),
        ([*NO_WORKER, *one_instance()], "no worker was read, so its CPU and pool are unknown"),
        ([*NO_WORKER], "the gateway was not read, so its queue and instances are unknown"),
        ([*NO_WORKER, worker(1.0)], "the gateway was not read, so its queue and instances are"),
    ],
)
def test_without_the_fronts_log_nothing_is_known(evidence: Sequence[Evidence], reason: str) -> None:
    (first, *_) = of_instances(evidence)
    assert first.startswith(reason)


@pytest.mark.parametrize(
    ("of", "kind", "reason"),
    [
        ("files", "descriptors", "nginx had no file descriptor left, as its log says 2 times"),
        ("space", "space", "nginx had no room to write to left, as its log says 2 times"),
    ],
)
def test_a_part_that_ran_out_of_what_is_this_machines_shows_nothing(
    of: str, kind: str, reason: str
) -> None:
    ran_out = audit(shortages=[{"part": "nginx", "of": of, "count": 2}])
    evidence = [*(line for line in at_rest() if line.kind != "audit"), ran_out]
    [found] = invalidities(cell(), observation(samples(60), evidence))
    assert found.kind == kind
    assert found.reason.startswith(reason)
