"""Which invalid cell is measured again, how fast, and whether this machine is to be quiet first."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import get_args

import pytest

from lab.model.experiment import Cell
from lab.model.verdict import Invalidity, InvalidityKind, Outcome, Verdict
from lab.plan.attempts import REPEATS, NextAttempt, Repeat, again, next_attempt
from tests.fakes import make_cell

Reason = tuple[InvalidityKind, float | None]


def cell(speed: float = 8, auto: bool = True) -> Cell:
    return make_cell({"speed": speed}).model_copy(update={"auto_speed": auto})


def verdict(*reasons: Reason) -> Verdict:
    invalid = tuple(Invalidity(kind=kind, reason="x", fitting=speed) for kind, speed in reasons)
    return Verdict(
        cell="cell",
        outcome=Outcome.INVALID if reasons else Outcome.HELD,
        reasons=tuple(one.reason for one in invalid),
        metrics={},
        findings=(),
        injected=(),
        invalid=invalid,
    )


def test_the_table_has_every_kind() -> None:
    assert set(REPEATS) == set(get_args(InvalidityKind))


@pytest.mark.parametrize(
    ("attempts", "auto", "step"),
    [
        ([[("speed", 4.5)]], True, NextAttempt(False, 4.0, 4.0)),
        ([[("speed", 1.5)]], True, NextAttempt(False, 1.0, 1.0)),
        ([[("speed", 4.5), ("speed", 3.0)]], True, NextAttempt(False, 2.5, 2.5)),
        ([[("speed", 10.0)], [("speed", 8.0)]], True, NextAttempt(False, 6.0, 6.0)),
        ([[("speed", 8.0)], [("speed", 10.0)]], True, NextAttempt(False, 6.0, 6.0)),
        ([[("speed", 4.5)]], False, None),  # a number given by hand is never changed
        ([[("speed", None)]], True, None),  # no speed would do
        ([[("speed", 9.0)]], True, None),  # it was no faster
        ([[("machine", 3.5)]], True, NextAttempt(True, inf, 3.5)),
        ([[("machine", None)]], False, NextAttempt(True)),
        ([[("part", None)]], False, NextAttempt(True)),
        ([[("standstill", None)]], True, NextAttempt(True)),
        ([[("clock", None)]], True, NextAttempt(False)),
        ([[("generator", 6.0)]], True, NextAttempt(True, inf, 6.0)),
        ([[("machine", 3.5), ("speed", 5.0)]], True, NextAttempt(True, 4.5, 3.5)),
        ([[("machine", 3.5), ("speed", 5.0)]], False, NextAttempt(True, 4.5, 3.5)),
        ([[("part", None), ("defect", None)]], True, None),
        ([[("injection", None)]], True, None),
        ([[("evidence", None)]], True, None),
        ([[("descriptors", None)]], True, None),
        ([[("speed", 4.0)], [("part", None)]], True, NextAttempt(True, 3.5, 3.5)),
        ([[("machine", 3.5)], [("machine", 4.0)]], True, NextAttempt(True, 4.0, 4.0)),
        (
            [[("machine", 3.5)], [("part", None)], [("machine", 4.0)]],
            True,
            NextAttempt(True, inf, 4.0),
        ),
        ([[]], True, None),  # a valid one
    ],
)
def test_what_is_done_again(
    attempts: Sequence[Sequence[Reason]], auto: bool, step: NextAttempt | None
) -> None:
    assert next_attempt(cell(auto=auto), [verdict(*reasons) for reasons in attempts]) == step


def test_a_run_that_is_continued_makes_again_what_would_not_be_repeated() -> None:
    assert again([verdict(("defect", None))]) == NextAttempt()
    assert again([]) == NextAttempt()
    fast, broken = verdict(("speed", 4.0)), verdict(("defect", None))
    assert again([fast, broken]) == NextAttempt(False, 3.5, 3.5)


def test_no_kind_that_may_be_the_replicas_own_doing_is_repeated() -> None:
    kept = {kind for kind, repeat in REPEATS.items() if repeat is Repeat.NEVER}
    assert kept == {"injection", "evidence", "descriptors", "space", "defect"}
