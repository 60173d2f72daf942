"""Strikes on a fake stack: when, what counts as down meanwhile, and what a failure leaves."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from lab.errors import MissingComponent, PartFailed
from lab.faults.process import Striker, require
from lab.model.experiment import Cell
from lab.model.fault import Fault
from tests.fakes import FakeStack, make_cell
from tests.live import wait_until

AT_ONCE = {"users": 1, "ramp": "0 s", "warmup": "0 s", "window": "60 s"}


def strike(
    action: str = "kill", part: str = "backend", at: str = "0 s", lasts: str = "1 h"
) -> Fault:
    """A fault whose strike is over only when the load is, if nothing else is said."""
    keys = {"fault": f"{part}-{action}", "about": "x", "part": part, "strike": action}
    return Fault.model_validate(keys | {"at": at, "for": lasts})


def cell(*faults: Fault, speed: float = 50, warmup: str = "0 s") -> Cell:
    return make_cell({"speed": speed}, load=AT_ONCE | {"warmup": warmup}, faults=faults)


class Stack(FakeStack):
    """A fake whose acts may fail, once each."""

    def __init__(self, folder: Path, **fails: Exception) -> None:
        super().__init__(folder)
        self._fail = fails

    def inject_fault(self, part: str, action: str) -> None:
        if error := self._fail.get("strike"):
            raise error
        super().inject_fault(part, action)

    def recover(self, part: str, action: str) -> None:
        super().recover(part, action)
        if error := self._fail.get("recover"):
            self.down[part] = "exited (1)"
            raise error


def struck(striker: Striker, stack: FakeStack, error: BaseException | None = None) -> None:
    """A load that ends, or fails, when the stack was first asked to act."""
    with striker:
        striker.begin(time.time())
        wait_until(lambda: stack.acts)
        if error:
            raise error


def test_a_part_is_struck_when_it_is_due_and_brought_back_when_its_time_is_over(
    tmp_path: Path,
) -> None:
    stack = FakeStack(tmp_path)
    planned = cell(strike(at="20 s", lasts="1 s"), speed=10, warmup="10 s")
    with Striker(stack, planned) as striker:
        striker.begin(time.time() - 2.9)  # 29 of the 30 s are over
        wait_until(lambda: len(stack.acts) == 2)
    assert stack.acts == ["kill backend", "recover backend"]
    [seen] = striker.evidence
    assert (seen.fault, seen.part, seen.action) == ("backend-kill", "backend", "kill")
    assert seen.until
    assert 29.9 < seen.t < seen.until  # neither may come early; late they may


@pytest.mark.parametrize("begun", [True, False])
def test_a_strike_that_is_not_due_while_the_load_runs_does_not_happen(
    tmp_path: Path, begun: bool
) -> None:
    stack = FakeStack(tmp_path)
    with Striker(stack, cell(strike())) as striker:
        if begun:
            striker.begin(time.time() + 1000)
    assert (stack.acts, striker.evidence) == ([], [])


def test_a_strike_ends_with_the_load(tmp_path: Path) -> None:
    stack = FakeStack(tmp_path)
    striker = Striker(stack, cell(strike("pause")))
    struck(striker, stack)
    assert stack.acts == ["pause backend", "recover backend"]
    assert striker.evidence[0].until is not None


def test_a_strike_ends_also_when_the_load_fails(tmp_path: Path) -> None:
    stack = FakeStack(tmp_path)
    striker = Striker(stack, cell(strike()))
    with pytest.raises(KeyboardInterrupt):
        struck(striker, stack, KeyboardInterrupt())
    assert stack.acts == ["kill backend", "recover backend"]
    assert len(striker.evidence) == 1


def test_two_parts_may_be_struck_at_once(tmp_path: Path) -> None:
    stack = FakeStack(tmp_path)
    with Striker(stack, cell(strike(), strike("stop", "nginx"))) as striker:
        striker.begin(time.time())
        wait_until(lambda: set(stack.acts) == {"kill backend", "stop nginx"})
        assert set(stack.down) == {"backend", "nginx"}
        assert striker.down_parts() == {}
    assert stack.down == {}
    assert {each.part for each in striker.evidence} == {"backend", "nginx"}


def test_a_part_that_is_struck_is_not_down_and_every_other_is(tmp_path: Path) -> None:
    stack = FakeStack(tmp_path)
    with Striker(stack, cell(strike())) as striker:
        stack.down["backend"] = "died before"
        assert striker.down_parts() == {"backend": "died before"}
        striker.begin(time.time())
        wait_until(lambda: stack.acts)
        stack.down["nginx"] = "killed by SIGKILL"
        assert striker.down_parts() == {"nginx": "killed by SIGKILL"}
    stack.down["backend"] = "died after it had come back"
    assert set(striker.down_parts()) == {"backend", "nginx"}


def test_a_part_that_comes_back_while_it_is_looked_at_is_not_down(tmp_path: Path) -> None:
    class Slow(FakeStack):
        """Tells of a part that is down when it no longer is."""

        looked = threading.Event()

        def recover(self, part: str, action: str) -> None:
            self.looked.wait()
            super().recover(part, action)

        def down_parts(self) -> dict[str, str]:
            seen = super().down_parts()
            self.looked.set()
            wait_until(lambda: striker.evidence)
            return seen

    stack = Slow(tmp_path)
    with Striker(stack, cell(strike(lasts="1 ms"))) as striker:
        striker.begin(time.time())
        wait_until(lambda: stack.down)
        assert striker.down_parts() == {}


@pytest.mark.parametrize(
    ("fails", "down", "evidence"),
    [
        (
            {"strike": PartFailed("the engine does not answer")},
            "backend-kill: the engine does not answer",
            [],
        ),
        (
            {"recover": PartFailed("backend exited (1): no module")},
            "backend-kill: backend exited (1): no module",
            [None],
        ),
        (
            {"strike": PartFailed("no such container"), "recover": PartFailed("still none")},
            "backend-kill: no such container; and then backend-kill: still none",
            [],
        ),
    ],
    ids=["strike", "recover", "both"],
)
def test_a_strike_that_fails_makes_its_part_down_and_says_why(
    tmp_path: Path, fails: dict[str, Exception], down: str, evidence: list[float | None]
) -> None:
    stack = Stack(tmp_path, **fails)
    with Striker(stack, cell(strike(lasts="1 ms"))) as striker:
        striker.begin(time.time())
        wait_until(striker.down_parts)
    assert stack.acts[-1] == "recover backend"
    assert striker.down_parts() == {"backend": down}
    assert [each.until for each in striker.evidence] == evidence


def test_a_defect_is_raised_when_the_load_has_ended_and_the_part_is_brought_back(
    tmp_path: Path,
) -> None:
    stack = Stack(tmp_path, strike=RuntimeError("a defect"))
    with pytest.raises(RuntimeError, match="a defect"):
        struck(Striker(stack, cell(strike())), stack)
    assert stack.acts == ["recover backend"]


def test_a_defect_does_not_hide_the_first_error(tmp_path: Path) -> None:
    stack = Stack(tmp_path, recover=RuntimeError("a defect"))
    with pytest.raises(KeyError) as raised:
        struck(Striker(stack, cell(strike())), stack, KeyError("the first"))
    assert raised.value.__notes__ == ["and then: a defect"]


def test_a_stack_must_be_able_to_strike_as_the_cells_plan(tmp_path: Path) -> None:
    stack = FakeStack(tmp_path)
    cells = [make_cell(), cell(strike("pause"))]
    require(stack, cells)
    stack.process_faults = frozenset({"kill"})
    require(stack, cells[:1])
    with pytest.raises(MissingComponent) as error:
        require(stack, cells)
    assert str(error.value) == (
        "backend-pause pauses a container, and the fake stack has none - use --stack compose"
    )
