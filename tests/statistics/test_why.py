"""`validation.why`: its cells are what they are made to be, and what is not right is told so."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lab.cli import session
from lab.diagnosis.trials import relaxed_settings
from lab.errors import PartFailed
from lab.model.diagnosis import Diagnosis
from lab.model.evidence import Cause
from lab.model.experiment import Cell
from lab.model.physics import quantile
from lab.model.verdict import Outcome, Resource
from lab.stack.base import Replica
from tests.component.cli.faked import Faked
from tests.fakes import FakeStack
from validation import drawn_limits, why
from validation.drawn_limits import Combination, draw, limit_of
from validation.expected_waits import offered_of, system_of
from validation.oracle_waits import simulate
from validation.why import AMBIGUOUS, CASES, CONSTRUCTED, DRAWN, MATRIX, Case, asked

pytestmark = [pytest.mark.statistics, pytest.mark.long]

POOL, SLOTS = Resource.POOL, Resource.DATABASE_SLOTS


# The cells.


def test_each_resource_is_the_only_limit_of_a_cell_and_two_share_one() -> None:
    alone = [case for case in CASES if case.part == CONSTRUCTED]
    shared = [case for case in CASES if case.part == AMBIGUOUS]
    assert (len(alone), len(shared)) == (14, 2)
    assert all(len(case.limit) == 1 for case in alone)
    assert all(len(set(case.limit)) == 2 for case in shared)
    assert len({case.limit for case in alone}) == 13  # the loop's, by two calls that block
    assert len({case.name for case in CASES}) == len(CASES)


def test_there_is_more_of_each_limit_in_its_cell() -> None:
    for case, planned in asked((CONSTRUCTED, AMBIGUOUS), "*", 1):
        [cell] = planned.cells
        assert (cell.auto_speed, cell.target) == (True, "vm")
        assert cell.load.peak_users <= 20
        assert isinstance(relaxed_settings(cell, case.limit), dict), case.name


def simulated(cell: Cell, more: Sequence[Resource] = ()) -> tuple[float, int]:
    """The p95 of a cell with more of some resources, and how many uploads fail, in a simulation."""
    settings = relaxed_settings(cell, more) if more else {}
    assert isinstance(settings, dict)
    changed = cell.model_copy(update={"knobs": cell.knobs.with_settings(settings)})
    uploads = simulate(system_of(changed), offered_of(changed.load))
    latencies = [upload.latency for upload in uploads if upload.cause is None]
    return quantile(sorted(latencies), 0.95), len(uploads) - len(latencies)


def test_what_is_made_to_be_late_is_so_in_the_simulation_until_there_is_more_of_its_limit() -> None:
    late = [one for one in asked((CONSTRUCTED, AMBIGUOUS), "*", 1) if "p95 <" in one[0].criteria[0]]
    assert len(late) == 10
    for case, planned in late:
        [cell] = planned.cells
        [criterion] = cell.criteria
        p95, failed = simulated(cell)
        assert (p95 > 1.15 * criterion.bound, failed) == (True, 0), case.name
        p95, failed = simulated(cell, case.limit)
        assert (p95 < criterion.bound, failed) == (True, 0), case.name
        for one in case.limit if case.part == AMBIGUOUS else ():
            p95, failed = simulated(cell, [one])
            assert p95 > criterion.bound or failed, f"{case.name}: {one}"


def test_the_matrix_is_that_of_the_shipped_spec_a_cell_at_a_time() -> None:
    found = asked((MATRIX,), "*", 1)
    assert len(found) == 12
    assert [planned.cells[0].id for _, planned in found] == [case.name for case, _ in found]
    assert not any(cell.stop_when_decided for _, planned in found for cell in planned.cells)
    assert len(asked((MATRIX,), "matrix/workers=1,*", 1)) == 4


def test_a_dry_run_says_what_there_is_and_how_long_it_takes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert why.main(["--dry-run", "--part", "constructed", "ambiguous", "--only", "*pool*"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "constructed/pool: proven pool, about 22 s",
        "ambiguous/pool-and-threads: shared pool + own_threads, about 34 s",
        "ambiguous/pool-and-slots: shared pool + database_slots, about 34 s",
        "constructed: about 0 min",
        "ambiguous: about 1 min",
    ]


def test_what_takes_no_cell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert why.main(["--dry-run", "--part", "constructed", "--only", "pol"]) == 2
    assert capsys.readouterr().err == (
        "'pol' takes no cell of constructed - they are own-threads, default-executor,"
        " blocking-call, blocking-queries ...\n"
    )


# The simulation that names the limit of what is drawn.


def test_it_uses_nothing_of_the_lab() -> None:
    tree = ast.parse(Path(drawn_limits.__file__).read_text(encoding="utf-8"))
    modules = {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not any(name.startswith(("lab", "tests")) for name in modules)


@pytest.mark.parametrize(
    ("combination", "limit"),
    [
        (Combination(1, 2, 20, "release", 8), "own_threads"),
        (Combination(1, 12, 2, "hold", 8), "pool"),
        (Combination(2, 12, 2, "hold", 16), "pool"),
        (Combination(1, 0, 20, "release", 8), "event_loop"),
        (Combination(1, 2, 2, "hold", 8), None),  # two that are equally tight
        (Combination(1, 40, 20, "release", 8), None),  # nothing is late
        (Combination(1, 0, 20, "release", 20), None),  # nginx cuts off what waits so long
    ],
    ids=str,
)
def test_the_limit_of_a_combination_is_what_more_of_moves_it(
    combination: Combination, limit: str | None
) -> None:
    found = limit_of(combination, seed=1)
    assert (found.limit if found else None) == limit
    if found:
        others = [gain for name, gain in found.gains.items() if name != limit]
        assert found.gains[found.limit] >= drawn_limits.CLEARLY
        assert max(others) <= drawn_limits.HARDLY


def test_what_is_drawn_has_several_limits_and_is_the_same_for_a_seed() -> None:
    drawn = draw(why.OF_DRAWN, seed=1)
    limits = [one.limit for one in drawn]
    assert len(drawn) == why.OF_DRAWN
    assert max(limits.count(limit) for limit in limits) == drawn_limits.MAX_OF_ONE
    assert {"event_loop", "own_threads", "pool"} <= set(limits)
    assert draw(2, seed=1) == drawn[:2]
    assert draw(2, seed=2) != drawn[:2]
    cases = asked((DRAWN,), "*", 1)
    assert [str(case.limit[0]) for case, _ in cases] == limits
    for (_, planned), one in zip(cases, drawn, strict=True):
        [cell] = planned.cells
        assert (cell.knobs.workers, cell.load.peak_users) == (
            one.combination.workers,
            one.combination.users,
        )
        [criterion] = cell.criteria
        assert criterion.bound == one.bound


# What is right.


def diagnosis(outcome: str, *limit: Resource) -> Diagnosis:
    return Diagnosis.model_validate(
        {
            "id": "cell",
            "outcome": outcome,
            "verdict": Outcome.BROKE,
            "named": None,
            "limit": limit,
            "missed": (),
            "trials": (),
            "untried": (),
            "text": "so it is",
        }
    )


ALONE, SHARED = Case(CONSTRUCTED, "a", (POOL,)), Case(AMBIGUOUS, "b", (POOL, SLOTS))
OPEN = Case(MATRIX, "c")
JUDGED = [
    (ALONE, diagnosis("proven", POOL), True),
    (ALONE, diagnosis("proven", SLOTS), False),
    (ALONE, diagnosis("withdrawn", POOL), False),
    (ALONE, diagnosis("shared", POOL, SLOTS), False),
    (ALONE, diagnosis("undecided", POOL), False),
    (SHARED, diagnosis("shared", SLOTS, POOL), True),
    (SHARED, diagnosis("shared", SLOTS, Resource.OWN_THREADS), False),
    (SHARED, diagnosis("proven", POOL), False),
    (OPEN, diagnosis("proven", POOL), True),
    (OPEN, diagnosis("withdrawn"), True),
    (OPEN, diagnosis("unbroken"), True),
    (OPEN, diagnosis("undecided"), False),
    (OPEN, diagnosis("shared", POOL, SLOTS), True),
    (OPEN, diagnosis("invalid"), False),
]


@pytest.mark.parametrize(("case", "found", "right"), JUDGED)
def test_a_diagnosis_is_right_or_its_text_says_what_it_is(
    case: Case, found: Diagnosis, right: bool
) -> None:
    assert case.wrong(found) == ("" if right else "so it is")


# The walk, on a fake replica.


class Short(FakeStack):
    """Fails every second upload where the pool is small; breaks down where it has 7 connections."""

    origins = "no real part"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, self.cause)
        self.pool = 0

    def apply(self, cell: Cell) -> Replica:
        self.pool = cell.knobs.pool_size
        if self.pool == 7:
            raise PartFailed("backend did not come up", "see its log")
        return super().apply(cell)

    def cause(self, number: int) -> Cause | None:
        return Cause.POOL_TIMEOUT if number % 2 and self.pool < 10 else None


def of_pool(name: str, size: int, limit: Resource) -> Case:
    knobs: dict[str, Any] = {"speed": 1, "global_rate_limit": "off", "pool_size": size}
    return Case(CONSTRUCTED, name, (limit,), knobs, why.FAILS, {"warmup": "10 s"})


@pytest.fixture
def faked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faked[Short]]:
    fakes = Faked(tmp_path, Short(tmp_path / "fake"), "")
    at_once = SimpleNamespace(wait=lambda _show: True)
    monkeypatch.setattr(session, "QuietMachine", lambda: at_once)
    with fakes.wired(monkeypatch):
        yield fakes


def test_one_that_fails_is_told_and_the_next_goes_on(
    faked: Faked[Short], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = (
        of_pool("small", 5, POOL),
        of_pool("broken", 7, POOL),
        of_pool("other", 5, SLOTS),
        of_pool("large", 20, POOL),
    )
    monkeypatch.setattr(why, "CASES", cases)
    code = why.main(["--part", "constructed", "--results", str(faked.results)])
    out = capsys.readouterr().out.splitlines()
    assert code == 1
    begins = (
        "right  constructed/small: proven pool (proven pool is right), 2 trials, ",
        "WRONG  constructed/broken: not measured (proven pool is right), - trials, ",
        "WRONG  constructed/other: proven pool (proven database_slots is right), 2 trials, ",
        "WRONG  constructed/large: unbroken (proven pool is right), 1 trials, ",
    )
    lines = [text for text in out if f"  {CONSTRUCTED}/" in text]
    assert [line[: len(start)] for line, start in zip(lines, begins, strict=True)] == list(begins)
    assert out[2].startswith("       backend did not come up - see its log")
    table = out[7:]
    assert table[0].split() == ["part", "cell", "right", "is", "so", "it", "is", "trials", "took"]
    assert [line.split()[:3] for line in table[1:5]] == [
        ["right", CONSTRUCTED, "small"],
        ["WRONG", CONSTRUCTED, "broken"],
        ["WRONG", CONSTRUCTED, "other"],
        ["WRONG", CONSTRUCTED, "large"],
    ]
    assert table[5].startswith("constructed: 1 of 4 are as is right, in ")
    assert table[6] == "1 of 4 cells are as is right"


def test_where_all_are_right_it_ends_with_0(
    faked: Faked[Short], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(why, "CASES", (of_pool("small", 5, POOL),))
    assert why.main(["--part", "constructed", "--results", str(faked.results)]) == 0
    assert capsys.readouterr().out.endswith("1 of 1 cells are as is right\n")
