"""Leaks in synthetic series: noise that is none, and slopes that are."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab.judge import judge
from lab.judge.leaks import QUANTITIES, SETTLING, fit, leaks
from lab.judge.metrics import measure
from lab.judge.trial import Trial
from lab.model.evidence import Evidence, Observation, OomKill, Sample, WorkerReading
from lab.model.experiment import Cell
from lab.model.readings import DatabaseReading
from lab.model.verdict import Leak
from tests.unit.judge.observations import cell, observation, sample, samples, worker

WINDOW = (0.0, 1800.0)
STEP = 2.0
TIMES = [STEP * i for i in range(int(WINDOW[1] / STEP))]
SETTLED = (WINDOW[1] * SETTLING, WINDOW[1])
MB = 1e6
BOUND = QUANTITIES["rss_slope"].bound

Series = Callable[[random.Random], Iterator[float]]


def white(rng: random.Random) -> Iterator[float]:
    yield from (rng.gauss(100 * MB, 5 * MB) for _ in TIMES)


def correlated(seconds: float) -> Series:
    """Noise that forgets itself within so many seconds (AR(1))."""

    def values(rng: random.Random) -> Iterator[float]:
        kept = math.exp(-STEP / seconds)
        level = rng.gauss(0, 1)
        for _ in TIMES:
            level = kept * level + math.sqrt(1 - kept * kept) * rng.gauss(0, 1)
            yield 100 * MB + 5 * MB * level

    return values


def collected(rng: random.Random) -> Iterator[float]:
    """A garbage collector's sawtooth: memory rises, and falls at a height of its own."""
    level, height, rate = 0.0, rng.uniform(10, 30) * MB, rng.uniform(0.02, 0.4) * MB
    for _ in TIMES:
        level += rate * STEP * rng.uniform(0.5, 1.5)
        if level > height:
            level, height = 0.0, rng.uniform(10, 30) * MB
        yield 80 * MB + level


def warming(rng: random.Random) -> Iterator[float]:
    """Growth that comes to an end, as caches and arenas fill, below noise."""
    seconds = rng.uniform(50, 400)
    for t in TIMES:
        yield 80 * MB + 40 * MB * (1 - math.exp(-t / seconds)) + rng.gauss(0, MB)


def stepping(rng: random.Random) -> Iterator[float]:
    """A whole number that wanders between ten and twenty, as connections do."""
    level = 15
    for _ in TIMES:
        level = min(20, max(10, level + rng.choice((-1, 0, 1))))
        yield float(level)


NOISE = {
    "white": white,
    "forgets in 10 s": correlated(10),
    "forgets in a minute": correlated(60),
    "forgets in 200 s": correlated(200),
    "collected": collected,
}


def fitted(values: Iterator[float], slope: float = 0.0) -> Any:
    points = [(t, value + slope * t) for t, value in zip(TIMES, values, strict=True)]
    found = fit([points], SETTLED)
    assert found
    return found


@pytest.mark.parametrize("noise", [*NOISE.values(), warming], ids=[*NOISE, "warming"])
def test_no_leak_is_claimed_where_there_is_none(noise: Series) -> None:
    rng, trials = random.Random(3), 150
    false = sum(fitted(noise(rng)).low > BOUND for _ in range(trials))
    assert false / trials < 0.05


@pytest.mark.parametrize("noise", [white, correlated(10), correlated(60), collected])
def test_the_interval_holds_the_true_slope_as_often_as_it_says(noise: Series) -> None:
    rng, trials, true = random.Random(4), 200, 3 * BOUND
    found = [fitted(noise(rng), true) for _ in range(trials)]
    missed = sum(not one.low <= true <= one.high for one in found)
    assert missed <= 18  # 5 % are to be; of 200, this many or fewer in 99 of 100 such tests


@pytest.mark.parametrize("noise", [white, correlated(10), collected])
def test_a_leak_is_found(noise: Series) -> None:
    rng, trials = random.Random(5), 60
    found = sum(fitted(noise(rng), 5 * BOUND).low > BOUND for _ in range(trials))
    assert found / trials > 0.95


@pytest.mark.parametrize("noise", [white, correlated(10)])
def test_no_leak_is_shown_and_not_only_not_found(noise: Series) -> None:
    rng, trials = random.Random(6), 60
    shown = sum(fitted(noise(rng)).high < BOUND for _ in range(trials))
    assert shown / trials > 0.95


def test_a_leak_just_at_the_bound_is_rarely_called_none() -> None:
    rng, trials = random.Random(7), 150
    wrong = sum(fitted(correlated(10)(rng), BOUND).high < BOUND for _ in range(trials))
    assert wrong / trials < 0.05


def test_a_constant_has_no_slope_and_no_doubt() -> None:
    found = fitted(iter([15.0] * len(TIMES)))
    assert (found.low, found.value, found.high) == pytest.approx((0, 0, 0), abs=1e-12)


def test_connections_that_wander_are_no_leak() -> None:
    rng, trials, bound = random.Random(8), 200, QUANTITIES["connections_slope"].bound
    false = sum(fitted(stepping(rng)).low > bound for _ in range(trials))
    assert false / trials < 0.05


def test_a_batch_without_a_reading_says_nothing() -> None:
    whole = [(t, 1.0) for t in TIMES]
    assert fit([whole, whole], SETTLED)
    assert fit([whole, [(t, 1.0) for t in TIMES if not 890 < t < 1000]], SETTLED) is None
    assert fit([], SETTLED) is None


LONG = {"users": 20, "ramp": "0 s", "warmup": "0 s", "window": "1800 s"}


def lived(**slopes: float) -> list[Evidence]:
    """Readings of two workers whose figures grow by so much a second, both together."""
    lines: list[Evidence] = []
    for t in TIMES:
        for pid in (1, 2):
            grown = {name: int(slope * t / 2) for name, slope in slopes.items() if name != "pg"}
            base = {"rss": 50_000_000, "threads": 30, "fds": 40, "abandoned": 0}
            gauges = {name: base[name] + grown.get(name, 0) for name in base}
            lines.append(worker(t + 0.1 * pid, pid, **gauges))
        lines.append(DatabaseReading(t=t, connections=10 + int(slopes.get("pg", 0) * t)))
    return lines


def outcomes(of: Cell, seen: Observation) -> dict[str, str]:
    return {one.metric: one.outcome for one in leaks(Trial(of, seen))}


@pytest.mark.parametrize(
    ("slopes", "leaking"),
    [
        ({}, None),
        ({"rss": 100_000.0}, "rss_slope"),
        ({"pg": 0.01}, "connections_slope"),
        ({"abandoned": 0.05}, "pool_slope"),
        ({"threads": 0.05}, "threads_slope"),
        ({"fds": 0.05}, "fds_slope"),
    ],
)
def test_what_grows_is_named_and_nothing_else(
    slopes: dict[str, float], leaking: str | None
) -> None:
    found = outcomes(cell(load=LONG), observation(samples(100), lived(**slopes)))
    assert found == {name: "leak" if name == leaking else "none" for name in QUANTITIES}


def test_a_statement_is_a_sentence_with_its_interval_and_its_bound() -> None:
    rss, connections, *_ = leaks(Trial(cell(load=LONG), observation([], lived(rss=100_000.0))))
    assert rss.reason == (
        "memory grew by 6.00 MB a minute (6.00 .. 6.00 at 95 %) over 20 min:"
        " a leak of memory: more than 1 MB a minute matters"
    )
    assert connections.reason == (
        "database connections grew by 0.00 an hour (0.00 .. 0.00 at 95 %) over 20 min:"
        " no leak: 6 an hour would matter"
    )


def sent_all_along(count: int) -> list[Sample]:
    """That many uploads in the whole window, evenly."""
    return [sample(WINDOW[1] * i / count, 1.0) for i in range(count)]


HEARD = sent_all_along(1800)
"""One a second."""


def named_threads(**more: float) -> list[Evidence]:
    """As `lived`, where so many threads of each name are added a second."""
    grown = lived(threads=sum(more.values()))
    return [
        line.model_copy(
            update={
                "threads_named": {
                    "gcs": 2,
                    **{name: int(slope * line.t / 2) for name, slope in more.items()},
                }
            }
        )
        if isinstance(line, WorkerReading)
        else line
        for line in grown
    ]


def test_threads_that_a_pool_bounds_are_no_leak_however_many_there_are() -> None:
    pools = named_threads(**{"AnyIO worker thread": 0.05, "default": 0.02})
    assert outcomes(cell(load=LONG), observation([], pools))["threads_slope"] == "none"


@pytest.mark.parametrize(
    ("evidence", "metric", "what"),
    [
        (lived(rss=100_000.0), "rss_slope", "memory, 100 KB an upload"),
        (
            lived(pg=0.025, fds=0.025),
            "connections_slope",
            "connections beside the pool, which nobody has closed, one in 40 uploads",
        ),
        (
            lived(pg=0.025, abandoned=0.025),
            "connections_slope",
            "connections of the pool that were checked out and never returned, one in 40 uploads",
        ),
        (
            lived(pg=0.025, abandoned=0.025),
            "pool_slope",
            "connections of the pool that were checked out and never returned, one in 40 uploads",
        ),
        (
            lived(pg=0.025, fds=0.025),
            "fds_slope",
            "the sockets of database connections, one in 40 uploads",
        ),
        (lived(fds=0.05), "fds_slope", "files or sockets left open, one in 20 uploads"),
        (lived(threads=0.05), "threads_slope", "threads that never ended, one in 20 uploads"),
        (
            named_threads(leak=0.05, speech=0.01),
            "threads_slope",
            "threads named 'leak' that never ended, one in 20 uploads",
        ),
    ],
)
def test_what_leaks_is_told_by_all_that_grew(
    evidence: list[Evidence], metric: str, what: str
) -> None:
    found = {one.metric: one for one in leaks(Trial(cell(load=LONG), observation(HEARD, evidence)))}
    assert found[metric].outcome == "leak"
    assert found[metric].what == what
    assert f": a leak of {what}: more than" in found[metric].reason
    assert all((one.what == "") is (one.outcome != "leak") for one in found.values())


def test_connections_of_a_lab_that_did_not_look_at_sessions_are_connections() -> None:
    old = [
        line.model_copy(update={"abandoned": None}) if line.kind == "worker" else line
        for line in lived(pg=0.05)
    ]
    found = {one.metric: one.what for one in leaks(Trial(cell(load=LONG), observation([], old)))}
    assert found["connections_slope"] == "database connections"
    assert "pool_slope" not in found


@pytest.mark.parametrize(("there", "outcome"), [(20, "leak"), (1, "leak"), (0, "none")])
def test_a_pool_that_a_leak_has_used_up_leaks_though_nothing_grows(
    there: int, outcome: str
) -> None:
    evidence = [
        line.model_copy(update={"abandoned": there})
        if line.kind == "worker" and line.pid == 1
        else line
        for line in lived()
    ]
    found = {one.metric: one for one in leaks(Trial(cell(load=LONG), observation(HEARD, evidence)))}
    assert found["pool_slope"].outcome == outcome
    assert found["pool_slope"].slope == pytest.approx(0, abs=1e-9)
    assert (f"{there} or more were there all the time" in found["pool_slope"].reason) is (there > 0)


def test_a_connection_that_is_returned_a_moment_late_is_no_leak() -> None:
    rng = random.Random(10)
    evidence = [
        line.model_copy(update={"abandoned": int(rng.random() < 0.05)})
        if line.kind == "worker"
        else line
        for line in lived()
    ]
    assert outcomes(cell(load=LONG), observation([], evidence))["pool_slope"] == "none"


def test_an_undecided_one_says_how_long_it_would_take() -> None:
    rng = random.Random(9)
    noisy = [
        worker(t, rss=int(value + BOUND * t), threads=1, fds=1)
        for t, value in zip(TIMES, correlated(60)(rng), strict=True)
    ]
    [rss, *_] = leaks(Trial(cell(load=LONG), observation([], noisy)))
    assert rss.outcome == "undecided"
    assert "a window of about" in rss.reason


@pytest.mark.parametrize(
    "load",
    [
        {"users": 20, "window": "299 s"},
        {"stages": [{"users": 5, "hold": "1800 s"}]},
        {"burst": 5},
    ],
)
def test_a_short_load_or_one_that_changes_says_nothing_of_leaks(load: dict[str, Any]) -> None:
    assert leaks(Trial(cell(load=load), observation(samples(10), lived(rss=1e6)))) == ()


def test_after_a_kill_for_memory_nothing_is_said() -> None:
    seen = observation([], [*lived(rss=1e6), OomKill(t=900, pid=1, rss=1)])
    assert leaks(Trial(cell(load=LONG), seen)) == ()


def test_evidence_of_a_lab_that_did_not_count_threads_says_nothing_of_them() -> None:
    old = [
        line.model_copy(update={"threads": None, "fds": None}) if line.kind == "worker" else line
        for line in lived()
    ]
    assert set(outcomes(cell(load=LONG), observation([], old))) == {
        "rss_slope",
        "connections_slope",
        "pool_slope",
    }


@pytest.mark.parametrize(
    ("slope", "criterion", "outcome"),
    [
        (100_000.0, "rss_slope < 20 KB", "missed"),
        (1_000.0, "rss_slope < 20 KB", "met"),
        (0.0, "rss_slope < 20 KB", "met"),
        (100_000.0, "rss_slope < 1 MB", "met"),
    ],
)
def test_a_criterion_on_a_slope_is_held_against_its_interval(
    slope: float, criterion: str, outcome: str
) -> None:
    of = cell(criterion, load=LONG)
    verdict = judge(of, observation(samples(100), lived(rss=slope)))
    [finding] = verdict.findings
    assert finding.outcome == outcome
    assert finding.reason.startswith("memory grew by")
    assert [Leak.model_validate(one.model_dump()) for one in verdict.leaks] == list(verdict.leaks)


def test_a_slope_is_a_metric_where_the_window_is_long() -> None:
    seen = observation(samples(100), lived(threads=0.05))
    assert measure(Trial(cell(load=LONG), seen))["threads_slope"] == pytest.approx(0.05, rel=0.02)
    assert "threads_slope" not in measure(Trial(cell(), seen))
