"""The search against systems whose threshold is known, and against trials that say anything."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lab.capacity.state import allowed_width
from lab.model.capacity import CapacityTrial, Threshold, TrialRequest
from lab.model.verdict import Outcome
from tests.unit.capacity.test_search import ERRORS, METHOD, P95, search, trial
from validation.simulated import SimulatedSystem, search_in

SYSTEMS = 300


@given(st.integers(0, 10**6), st.randoms(use_true_random=False), st.integers(0, 20))
@settings(max_examples=30)
def test_stored_trials_in_any_order_go_on_as_if_nothing_had_happened(
    seed: int, shuffle: random.Random, done: int
) -> None:
    system = SimulatedSystem.draw(random.Random(seed))
    whole = search_in(system, METHOD, random.Random(seed))
    made = sorted(whole.trials, key=lambda t: int(t.id.rpartition("-")[2]))
    shuffled = shuffle.sample(made[:done], len(made[:done]))
    assert METHOD.next("simulated", shuffled) == METHOD.next("simulated", made[:done])
    assert METHOD.next("simulated", shuffle.sample(made, len(made))) == whole


@given(st.integers(0, 10**6))
@settings(max_examples=30)
def test_no_number_of_users_is_tried_beyond_the_rule_and_an_answer_is_sound(seed: int) -> None:
    rng = random.Random(seed)
    answer = search_in(SimulatedSystem.draw(rng), METHOD, rng)
    check(answer)
    if answer.outcome == "found":
        low, high = answer.holds_at or 0, answer.breaks_at or METHOD.max_users + 1
        assert high - low <= allowed_width(low)


def check(answer: Threshold) -> None:
    tried = Counter(t.users for t in answer.trials)
    assert len(tried) <= METHOD.max_levels
    assert all(1 <= users <= METHOD.max_users for users in tried)
    assert max(tried.values()) <= METHOD.max_trials_at_one
    assert all(METHOD.min_window <= t.window <= METHOD.max_window for t in answer.trials)
    assert answer.holds_at is None or answer.holds_at in tried
    assert answer.breaks_at is None or answer.breaks_at in tried
    assert (answer.holds_at or 0) < (answer.breaks_at or METHOD.max_users + 1)
    assert (answer.breaks_at is None) == (answer.crossed_first is None)
    assert Threshold.model_validate_json(answer.model_dump_json()) == answer


CHAOS: list[dict[str, Any]] = [{"outcome": Outcome.INVALID}, {"samples": 0}, {}]


@given(st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_it_ends_whatever_the_trials_say(chaos: random.Random) -> None:
    def anything(request: TrialRequest) -> CapacityTrial:
        shares = {P95: chaos.choice((0, 0.03, 0.05, 0.08, 1)), ERRORS: chaos.choice((0, 0, 0.06))}
        how = chaos.choices(CHAOS, (1, 1, 8))[0]
        return trial(request.users, shares, window=request.window, **how)

    check(search(anything))


def test_of_systems_with_a_known_threshold_hardly_any_is_stated_wrongly() -> None:
    missed, falsely_held, found = 0, 0, 0
    for number in range(SYSTEMS):
        rng = random.Random(number)
        system = SimulatedSystem.draw(rng)
        answer = search_in(system, system.search(), rng)
        truth = system.threshold(METHOD.max_users)
        holds, breaks = answer.holds_at or 0, answer.breaks_at or METHOD.max_users + 1
        missed += not holds <= truth < breaks
        falsely_held += holds > truth
        found += answer.outcome == "found"
    assert missed <= 0.05 * SYSTEMS
    assert falsely_held < 0.05 * SYSTEMS
    assert found > 0.5 * SYSTEMS
