"""How often a window that is looked at again and again ends with a wrong word, and how soon."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from math import exp, sqrt
from statistics import NormalDist

import pytest

from lab.judge.sequential import certain
from lab.judge.statistics import share_bounds
from lab.model.evalues import correlation_of
from lab.model.evidence import Cause, Sample
from lab.model.experiment import Cell
from lab.model.run import LoadSoFar
from tests.fakes import make_cell
from tests.unit.judge.observations import sample

NORMAL = NormalDist()
LIKE = sample()
ALLOWED, RATE, BEGIN, LOOK_S = 0.05, 5.0, 5.0, 10.0
WINDOWS = 100
WRONG = 0.05 * WINDOWS + 1.65 * sqrt(0.05 * 0.95 * WINDOWS)
"""So many wrong words of as many windows are no sign, at 95 %, of more than one in twenty."""

Share = Callable[[float], float]
"""The share of bad uploads at a moment of the window."""


def cell_of(criterion: str, workers: int, window: float = 180) -> Cell:
    load = {"users": 5, "ramp": "0 s", "warmup": f"{BEGIN} s", "window": f"{window} s"}
    return make_cell({"workers": workers}, load=load, criteria=[criterion])


def by_the_minute(rng: random.Random, share: float, cell: Cell) -> Share:
    """All uploads of a minute have as much in common, those of two nothing."""
    size = 1 / correlation_of(cell) - 1
    drawn = [rng.betavariate(share * size, (1 - share) * size) for _ in range(4)]
    return lambda t: drawn[int(t // 60)]


COMMON = {0.01: 0.245, 0.06: 0.906}
"""The part of a latent normal variable that uploads of one moment share, where what they share
fades in 5 s: two uploads of one minute then have the correlation that is assumed, in the mean."""


def by_seconds(rng: random.Random, share: float, cell: Cell) -> Share:
    """Uploads of a few seconds have far more in common than those of a minute."""
    common, fades = COMMON[correlation_of(cell)], exp(-1 / 5)
    states = [rng.gauss(0, 1)]
    for _ in range(240):
        states.append(fades * states[-1] + sqrt(1 - fades**2) * rng.gauss(0, 1))
    middle = NORMAL.inv_cdf(share)
    return lambda t: NORMAL.cdf((middle + sqrt(common) * states[int(t)]) / sqrt(1 - common))


def uploads(rng: random.Random, share: Share, cell: Cell) -> list[Sample]:
    """A window's uploads; bad ones are slow, or fail, some quickly and some late."""
    fails = cell.criteria[0].metric == "error_rate"
    at, length, sent = rng.expovariate(RATE), cell.load.measured[1] - BEGIN, list[Sample]()
    while at < length:
        bad = rng.random() < share(at)
        latency = rng.uniform(2, 10)
        if bad:
            latency = rng.uniform(2, 30) if fails else rng.uniform(10, 30)
        error = Cause.POOL_TIMEOUT if bad and fails else None
        sent.append(
            LIKE.model_copy(update={"sent_at": BEGIN + at, "latency_s": latency, "error": error})
        )
        at += rng.expovariate(RATE)
    return sent


def first_word(
    cell: Cell, sent: list[Sample], say: Callable[[Cell, LoadSoFar], str | None], from_s: float = 10
) -> tuple[str | None, float]:
    """The first word of who looks every few seconds, and which part of the window it took."""
    length = cell.load.measured[1] - BEGIN
    at = BEGIN + from_s
    while at < BEGIN + length:
        ended = [s for s in sent if s.sent_at + s.latency_s <= at]
        waiting = [s.sent_at for s in sent if s.sent_at <= at < s.sent_at + s.latency_s]
        if word := say(cell, LoadSoFar(at, ended, waiting)):
            return word, (at - BEGIN) / length
        at += LOOK_S
    return None, 1.0


def by_e_values(cell: Cell, so_far: LoadSoFar) -> str | None:
    found = certain(cell.criteria[0], cell, so_far)
    return found and found.outcome


def by_bounds(_cell: Cell, so_far: LoadSoFar) -> str | None:
    """As the bounds of a window are, whose number of uploads is fixed: not to be looked at so."""
    bad = sum(s.latency_s >= 10 for s in so_far.samples)
    low, high = share_bounds(bad, len(so_far.samples))
    return "met" if high < ALLOWED else "missed" if low >= ALLOWED else None


@pytest.mark.parametrize(
    ("criterion", "workers", "share"),
    [
        ("p95 < 10 s", 1, by_the_minute),
        ("p95 < 10 s", 2, by_the_minute),
        ("p95 < 10 s", 1, by_seconds),
        ("p95 < 10 s", 2, by_seconds),
        ("error_rate < 5 %", 1, by_seconds),
    ],
)
def test_at_the_allowed_share_hardly_a_window_ends_with_a_word(
    criterion: str, workers: int, share: Callable[[random.Random, float, Cell], Share]
) -> None:
    cell, rng = cell_of(criterion, workers), random.Random(7)
    words = Counter(
        first_word(cell, uploads(rng, share(rng, ALLOWED, cell), cell), by_e_values)[0]
        for _ in range(WINDOWS)
    )
    assert words["met"] <= WRONG
    assert words["missed"] <= WRONG


def test_who_looks_again_and_again_at_bounds_is_wrong_far_more_often() -> None:
    cell, rng = cell_of("p95 < 10 s", 1), random.Random(7)
    words = Counter(
        first_word(cell, uploads(rng, by_seconds(rng, ALLOWED, cell), cell), by_bounds)[0]
        for _ in range(WINDOWS)
    )
    assert words["met"] + words["missed"] > 2 * WRONG


@pytest.mark.parametrize(
    ("workers", "share", "word", "part"),
    [
        (1, 0.0, "met", 0.35),
        (1, 0.01, "met", 0.65),
        (2, 0.0, "met", 0.7),
        (1, 0.15, "missed", 0.5),
        (1, 0.5, "missed", 0.2),
        (2, 0.3, "missed", 0.5),
        (2, 0.9, "missed", 0.2),
    ],
)
def test_what_is_far_from_the_bound_is_decided_in_a_part_of_the_window(
    workers: int, share: float, word: str, part: float
) -> None:
    cell, rng = cell_of("p95 < 10 s", workers), random.Random(3)
    ended = [first_word(cell, uploads(rng, lambda _t: share, cell), by_e_values) for _ in range(10)]
    assert [said for said, _ in ended].count(word) >= 9
    assert sum(taken for _, taken in ended) / len(ended) < part
