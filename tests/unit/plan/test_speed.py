"""The choice of a speed: the fastest that its bounds allow, and what says so."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from lab.config import read_faults
from lab.model.costs import Costs, WorkCost
from lab.model.experiment import Cell
from lab.model.fidelity import SPLIT, keeps_split
from lab.model.speed import MAX_SPEED
from lab.model.split import Split, SplitEffect
from lab.paths import ROOT
from lab.plan.estimate import estimate
from lab.plan.sharing import LoopWork
from lab.plan.speed import TYPICAL, Expected, choose_speed, foreseen, guessed, with_split
from tests.fakes import make_cell

FAULTS = read_faults(ROOT / "faults")
CHEAP = Costs(
    parts={"backend": WorkCost(upload_s=0.0005), "generator": WorkCost(upload_s=0.0001)},
    machine=WorkCost(upload_s=0.0004),
    trip_s=0.0,
)
"""Of a machine on which hardly anything takes time."""

EXECUTOR: dict[str, Any] = {"gcs_call": "executor", "gcs_threads": 11}


def cell(
    load: dict[str, Any],
    target: Any = "vm",
    faults: tuple[str, ...] = ("gcs-latency", "db-distance"),
    **knobs: Any,
) -> Cell:
    """A cell without a rate limit, whose speed is to be chosen; of files that nobody refuses."""
    made = make_cell(
        {"global_rate_limit": "off", **knobs},
        load={"audio": "200 KB", **load},
        criteria=["error_rate < 5 %"],
        faults=[FAULTS[name] for name in faults],
        target=target,
    )
    return made.model_copy(update={"auto_speed": True})


def costs(
    backend: float = 0.0005,
    generator: float = 0.0001,
    machine: float = 0.0004,
    trip: float = 0.0,
    rest: float = 0.0,
    loop: float | None = None,
    call: float = 0.0,
) -> Costs:
    return Costs(
        parts={"backend": WorkCost(upload_s=backend), "generator": WorkCost(upload_s=generator)},
        machine=WorkCost(upload_s=machine, rest=rest),
        trip_s=trip,
        loop=None if loop is None else WorkCost(upload_s=loop),
        call_s=call,
    )


USERS = {"users": 30, "window": "300 s"}
KILLED = ("gcs-latency", "db-distance", "db-restart")


@pytest.mark.parametrize(
    ("of", "known", "speed", "says"),
    [
        (cell(USERS), CHEAP, 18.5, "timers do not keep its shortest delay"),
        (cell({"users": 1, "window": "20 s"}), CHEAP, 5.0, "over in less than 4 s"),
        (
            cell(USERS, workers=2, **EXECUTOR),
            CHEAP,
            3.0,
            "2 workers of one socket would share",
        ),
        (
            cell(USERS, workers=4, **EXECUTOR),
            CHEAP,
            2.5,
            "share more evenly at 3",
        ),
        (cell(USERS, target="cloudrun"), CHEAP, 1.0, "an instance's share of a core"),
        (cell(USERS), costs(backend=0.03), 5.5, "an event loop"),
        (cell(USERS), costs(trip=0.002), 10.5, "an event loop"),
        (cell(USERS, **EXECUTOR), costs(backend=0.02), 4.5, "an event loop"),
        (cell(USERS, **EXECUTOR), costs(backend=0.02, loop=0.008), 11.5, "an event loop"),
        (cell(USERS), costs(backend=0.03, loop=0.008), 5.5, "an event loop"),  # it waits in it
        (cell({"rate": "1/s"}, **EXECUTOR), costs(backend=0.05), 3.5, "an upload would take"),
        (cell(USERS, **EXECUTOR), costs(machine=0.05), 4.0, "CPU would be"),
        (cell(USERS, **EXECUTOR), costs(call=0.011), 10.5, "a call to storage would take 0.12 s"),
        (cell(USERS, **EXECUTOR), costs(generator=0.05), 5.0, "generator would use"),
        (cell({"burst": 100}), costs(generator=0.002), 7.5, "generator would send"),
        (cell(USERS, faults=KILLED), CHEAP, 4.5, "postgres would be away"),
        (cell(USERS, health_probe="10 s"), CHEAP, 4.5, "started anew, would be away"),
        (
            cell(USERS, db_call="threadpool", db_session="hold", **EXECUTOR, pool_size=5),
            costs(trip=0.003),
            10.0,
            "a connection of its pool would be held longer",
        ),
    ],
)
def test_the_reason_is_the_bound_that_the_next_half_step_would_break(
    of: Cell, known: Costs, speed: float, says: str
) -> None:
    choice = choose_speed(of, known)
    assert says in choice.reason
    assert (choice.speed, choice.too_slow) == (speed, "")
    assert 1 <= choice.speed <= MAX_SPEED
    assert (2 * choice.speed).is_integer()


@pytest.mark.parametrize(
    ("of", "known", "says"),
    [
        (
            cell({"rate": "20/s"}),
            costs(machine=0.1),
            "this machine's CPU would be 200 % in use at 1 - stop other programs, lower the users,"
            " or use more cores",
        ),
        (
            cell({"rate": "20/s"}),
            costs(generator=0.1),
            "the load generator would use 2.00 of its core at 1 - lower the users or the rate",
        ),
        (
            cell({"burst": 100}),
            costs(generator=0.02),
            "the load generator would send 2.00 s late at 1 - lower the users that upload at once",
        ),
        (
            cell(USERS, db_rtt="1 ms"),
            CHEAP,
            "timers do not keep its shortest delay at 1 - lengthen the delay",
        ),
        (
            cell(USERS, **EXECUTOR),
            costs(rest=0.8),
            "this machine's CPU would be 80 % in use at 1 - stop other programs, lower the users,"
            " or use more cores",
        ),
    ],
)
def test_where_even_speed_1_breaks_a_bound_it_is_said_what_is_too_slow_and_what_would_do(
    of: Cell, known: Costs, says: str
) -> None:
    choice = choose_speed(of, known)
    assert (choice.speed, choice.too_slow) == (1.0, says)


@pytest.mark.parametrize(
    ("limit", "bites"),
    [
        ({"global_rate_limit": "60/min"}, True),
        ({"global_rate_limit": "60/min", "upload_rate_limit": "60/min"}, True),
        ({"global_rate_limit": "600/min"}, False),
        ({"upload_rate_limit": "2/min"}, True),
        ({"upload_rate_limit": "60/min"}, False),
        ({"max_inflight_uploads": 10}, True),
    ],
)
def test_who_is_turned_away_at_once_comes_back_and_is_work_too(
    limit: dict[str, Any], bites: bool
) -> None:
    load, known = {**USERS, "backoff": "1 s"}, costs(machine=0.005)
    free = choose_speed(cell(load, **EXECUTOR), known).speed
    limited = choose_speed(cell(load, **{**EXECUTOR, **limit}), known)
    assert (limited.speed < free) == bites
    assert ("CPU would be" in limited.reason) == bites


@pytest.mark.parametrize(
    ("limit", "workers", "rate"),
    [
        ("150/min", 1, 2.5 + (30 - 2.5 * 3.7) / 1),  # they are served, and the others come back
        ("150/min", 4, 30 / 3.7),  # each worker counts for itself
    ],
)
def test_a_limit_of_rate_is_each_workers_own(limit: str, workers: int, rate: float) -> None:
    load = {**USERS, "backoff": "1 s"}
    limited = cell(load, workers=workers, global_rate_limit=limit, **EXECUTOR)
    assert Expected(limited, costs()).rate == pytest.approx(rate, rel=0.02)


REPORT = {**USERS, "audio": "50 KB - 2 MB"}


def test_files_too_large_for_nginx_come_back_and_are_work_too() -> None:
    known = costs(machine=0.005)
    chosen = [
        Expected(cell({**REPORT, "backoff": backoff}, nginx_body=body, **EXECUTOR), known).rate
        for backoff, body in (("5 s", "off"), ("5 s", "preset"), ("1 s", "preset"))
    ]
    free, refused = chosen[0], 0.175
    assert chosen[0] < chosen[1] <= chosen[2]
    # Of more attempts as many are served: the threads carry no more than before.
    assert chosen[2] * (1 - refused) == pytest.approx(free, rel=0.01)
    everyone = cell({**USERS, "audio": "2 MB", "backoff": "5 s"}, **EXECUTOR)
    assert Expected(everyone, known).rate == pytest.approx(30 / 5)


def test_a_byte_costs_what_the_mean_file_has_of_them() -> None:
    """Of log-uniform sizes that is (b - a) / ln(b / a), 529 KB of the report's, and not 1 MB."""
    by_byte = Costs(
        parts={"backend": WorkCost(upload_s=0.0, byte_s=1e-8)},
        machine=WorkCost(upload_s=0.0),
        trip_s=0.0,
    )
    found = choose_speed(cell(REPORT, **EXECUTOR, nginx_body="off"), by_byte)
    same = choose_speed(cell({**REPORT, "audio": "529 KB"}, **EXECUTOR), by_byte)
    assert found == same


def test_a_limit_is_kept_and_named() -> None:
    of = cell(USERS)
    assert choose_speed(of, CHEAP, 7.3).speed == 7.0
    assert choose_speed(of, CHEAP, 7.3).reason == "no more than 7 is allowed"
    assert choose_speed(of, CHEAP, 0.5).speed == 1.0


def test_without_costs_nothing_is_claimed() -> None:
    choice = choose_speed(cell(USERS), None)
    assert (choice.speed, choice.too_slow) == (1.0, "")
    assert "could not be measured" in choice.reason


def test_a_slower_machine_chooses_no_higher_speed() -> None:
    of = cell({"users": 50, "window": "300 s"}, **EXECUTOR)
    chosen = [
        choose_speed(of, costs(0.004 * n, 0.0005 * n, 0.004 * n, 0.0003 * n)).speed
        for n in (1, 2, 4, 8)
    ]
    assert chosen == sorted(chosen, reverse=True)
    assert len(set(chosen)) == 4


def test_workers_of_one_socket_have_a_bound_of_their_own() -> None:
    def chosen(workers: int, balance: str = "shared_socket") -> float:
        of = cell(USERS, gcs_call="to_thread", workers=workers, balance=balance)
        return choose_speed(of, TYPICAL).speed

    assert [chosen(workers) for workers in (2, 3, 4)] == [SPLIT[2], SPLIT[3], SPLIT[3]]
    assert chosen(1) > SPLIT[2]
    assert chosen(2, "round_robin") == chosen(2, "least_conn") > SPLIT[2]


@dataclass
class Linear:
    """A model in which latency is so much farther off with each unit of speed."""

    slope: float | None
    asked: list[tuple[LoopWork, float]] = field(default_factory=list)

    def split(self, cell: Cell, work: LoopWork, up_to: float) -> Split | None:
        assert cell.knobs.sharing > 1
        self.asked.append((work, up_to))
        if self.slope is None:
            return None
        first = SplitEffect(speed=1, moved=0, lead=0.7)
        last = SplitEffect(speed=51, moved=50 * self.slope, lead=0.5)
        return Split(window=60, effects=(first, last))


TWO = cell(USERS, workers=2, **EXECUTOR)


@pytest.mark.parametrize(
    ("slope", "speed", "says"),
    [
        (0.02, 3.5, "2 workers of one socket would share more evenly at 4, and latency be 6 % off"),
        (0.0125, 5.0, "share more evenly at 5.5, and latency be 6 % off"),
        (0.12, 1.0, "share more evenly at 1.5, and latency be 6 % off"),
        (0.0, 18.5, "timers do not keep its shortest delay at 19"),
        (None, 3.0, "2 workers of one socket would share more evenly at 3.5"),  # the table
    ],
)
def test_a_model_says_how_fast_several_workers_may_run(
    slope: float | None, speed: float, says: str
) -> None:
    """Latency may be 5 % off: at a slope of 2 % a unit of speed that is up to 3.5."""
    model = Linear(slope)
    choice = choose_speed(TWO, CHEAP, model=model)
    assert choice.reason.endswith(says)
    assert choice.speed == speed
    assert [up_to for _, up_to in model.asked] == [18.5]  # what no other bound allows is not asked
    given = choice.of(TWO)
    assert given.split == choice.split == model.split(TWO, LoopWork(0, 0), 1)
    assert given.as_planned == TWO


def test_a_model_is_not_asked_of_workers_that_do_not_share_a_socket() -> None:
    model = Linear(1.0)
    for of in (cell(USERS, **EXECUTOR), cell(USERS, workers=2, balance="least_conn", **EXECUTOR)):
        assert choose_speed(of, CHEAP, model=model) == choose_speed(of, CHEAP)
        assert with_split(of.at_speed(5.0), CHEAP, model).split is None
    assert model.asked == []


def test_a_model_is_told_what_this_machines_uploads_cost() -> None:
    """A loop's meter has what its calls take beyond their delays in it: 7 round trips of 1 ms."""
    for known, cpu_s in (
        (costs(backend=0.012, trip=0.001), 0.012),
        (costs(backend=0.012, trip=0.001, loop=0.009), 0.002),
    ):
        model = Linear(0.0)
        choose_speed(TWO, known, model=model)
        [(work, _)] = model.asked
        assert work.cpu_s == pytest.approx(cpu_s)
        assert work.trip_s == 0.001


def test_a_given_speed_stays_and_is_held_against_the_model() -> None:
    model, given = Linear(0.02), TWO.at_speed(8.0).model_copy(update={"auto_speed": False})
    told = with_split(given, None, model)
    assert told.knobs.speed == 8
    assert told.split is not None
    assert not keeps_split(2, 8, told.split)
    assert model.asked[0][0].trip_s == TYPICAL.trip_s  # where nothing is known of this machine
    assert told.as_planned == given
    assert with_split(given, None, None) == given
    assert with_split(given.at_speed(1.0), None, model).split is None


def test_an_estimate_takes_the_speeds_that_the_model_allows() -> None:
    slow, fast = (estimate([TWO], Linear(slope)) for slope in (0.04, 0.01))
    assert fast < estimate([TWO]) < slow
    foretold = foreseen(TWO, CHEAP, model=Linear(0.04))
    assert (foretold.knobs.speed, foretold.split is None) == (2.0, False)


def test_what_is_foreseen_is_what_would_be_chosen_and_a_given_speed_stays() -> None:
    of = cell(USERS)
    known = foreseen(of, CHEAP, 5.0)
    assert (known.knobs.speed, known.speed_reason) == (5.0, "no more than 5 is allowed")
    assert known.as_planned == of
    assert foreseen(of, None) == of
    given = of.model_copy(update={"auto_speed": False})
    assert foreseen(given, CHEAP) == guessed(given) == given.as_planned == given
    cloudrun = foreseen(cell(USERS, target="cloudrun"), None)
    assert cloudrun.knobs.speed == 1.0
    assert "share of a core" in cloudrun.speed_reason


def test_how_long_a_run_takes_is_guessed_until_speeds_are_known() -> None:
    of = cell(USERS)
    slow, quick = of.at_speed(1.0, "it is slow"), of.at_speed(20.0, "it is quick")
    assert estimate([quick]) < estimate([of]) < estimate([slow])
