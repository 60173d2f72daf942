"""Process faults on a fake stack: when, what counts as down then, and what a failure leaves."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from lab.errors import MissingComponent, PartFailed
from lab.faults.process import ProcessInjector, require
from lab.model.experiment import Cell
from lab.model.fault import Fault
from tests.fakes import FakeStack, make_cell
from tests.live import wait_until

AT_ONCE = {"users": 1, "ramp": "0 s", "warmup": "0 s", "window": "60 s"}


def process_fault(
    action: str = "kill", part: str = "backend", at: str = "0 s", lasts: str = "1 h"
) -> Fault:
    """A process fault that is over only when the load is, if nothing else is said."""
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


def load_under(
    injector: ProcessInjector, stack: FakeStack, error: BaseException | None = None
) -> None:
    """A load that ends, or fails, when the stack was first asked to act."""
    with injector:
        injector.begin(time.monotonic())
        wait_until(lambda: stack.acts)
        if error:
            raise error


def test_a_fault_begins_when_it_is_due_and_the_part_is_back_when_its_time_is_over(
    tmp_path: Path,
) -> None:
    stack = FakeStack(tmp_path)
    planned = cell(process_fault(at="20 s", lasts="1 s"), speed=10, warmup="10 s")
    with ProcessInjector(stack, planned) as injector:
        injector.begin(time.monotonic() - 2.9)  # 29 of the 30 s are over
        wait_until(lambda: len(stack.acts) == 2)
    assert stack.acts == ["kill backend", "recover backend"]
    [seen] = injector.evidence
    assert (seen.fault, seen.part, seen.action) == ("backend-kill", "backend", "kill")
    assert seen.until
    assert 29.9 < seen.t < seen.until  # neither may come early; late they may


@pytest.mark.parametrize("begun", [True, False])
def test_a_fault_that_is_not_due_while_the_load_runs_does_not_happen(
    tmp_path: Path, begun: bool
) -> None:
    stack = FakeStack(tmp_path)
    with ProcessInjector(stack, cell(process_fault())) as injector:
        if begun:
            injector.begin(time.monotonic() + 1000)
    assert (stack.acts, injector.evidence) == ([], [])


def test_a_fault_ends_with_the_load(tmp_path: Path) -> None:
    stack = FakeStack(tmp_path)
    injector = ProcessInjector(stack, cell(process_fault("pause")))
    load_under(injector, stack)
    assert stack.acts == ["pause backend", "recover backend"]
    assert injector.evidence[0].until is not None


def test_a_fault_ends_also_when_the_load_fails(tmp_path: Path) -> None:
    stack = FakeStack(tmp_path)
    injector = ProcessInjector(stack, cell(process_fault()))
    with pytest.raises(KeyboardInterrupt):
        load_under(injector, stack, KeyboardInterrupt())
    assert stack.acts == ["kill backend", "recover backend"]
    assert len(injector.evidence) == 1


def test_faults_may_befall_two_parts_at_once(tmp_path: Path) -> None:
    stack = FakeStack(tmp_path)
    with ProcessInjector(stack, cell(process_fault(), process_fault("stop", "nginx"))) as injector:
        injector.begin(time.monotonic())
        wait_until(lambda: set(stack.acts) == {"kill backend", "stop nginx"})
        assert set(stack.down) == {"backend", "nginx"}
        assert injector.down_parts() == {}
    assert stack.down == {}
    assert {record.part for record in injector.evidence} == {"backend", "nginx"}


def test_a_part_under_a_fault_is_not_down_and_every_other_is(tmp_path: Path) -> None:
    stack = FakeStack(tmp_path)
    with ProcessInjector(stack, cell(process_fault())) as injector:
        stack.down["backend"] = "died before"
        assert injector.down_parts() == {"backend": "died before"}
        injector.begin(time.monotonic())
        wait_until(lambda: stack.acts)
        stack.down["nginx"] = "killed by SIGKILL"
        assert injector.down_parts() == {"nginx": "killed by SIGKILL"}
    stack.down["backend"] = "died after it had come back"
    assert set(injector.down_parts()) == {"backend", "nginx"}


def test_a_part_that_comes_back_while_it_is_asked_for_is_not_down(tmp_path: Path) -> None:
    class Slow(FakeStack):
        """Tells of a part that is down when it no longer is."""

        asked = threading.Event()

        def recover(self, part: str, action: str) -> None:
            self.asked.wait()
            super().recover(part, action)

        def down_parts(self) -> dict[str, str]:
            seen = super().down_parts()
            self.asked.set()
            wait_until(lambda: injector.evidence)
            return seen

    stack = Slow(tmp_path)
    with ProcessInjector(stack, cell(process_fault(lasts="1 ms"))) as injector:
        injector.begin(time.monotonic())
        wait_until(lambda: stack.down)
        assert injector.down_parts() == {}


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
def test_a_fault_that_fails_makes_its_part_down_and_says_why(
    tmp_path: Path, fails: dict[str, Exception], down: str, evidence: list[float | None]
) -> None:
    stack = Stack(tmp_path, **fails)
    with ProcessInjector(stack, cell(process_fault(lasts="1 ms"))) as injector:
        injector.begin(time.monotonic())
        wait_until(injector.down_parts)
    assert stack.acts[-1] == "recover backend"
    assert injector.down_parts() == {"backend": down}
    assert [record.until for record in injector.evidence] == evidence


def test_a_defect_is_raised_when_the_load_has_ended_and_the_part_is_brought_back(
    tmp_path: Path,
) -> None:
    stack = Stack(tmp_path, strike=RuntimeError("a defect"))
    with pytest.raises(RuntimeError, match="a defect"):
        load_under(ProcessInjector(stack, cell(process_fault())), stack)
    assert stack.acts == ["recover backend"]


def test_a_defect_does_not_hide_the_first_error(tmp_path: Path) -> None:
    stack = Stack(tmp_path, recover=RuntimeError("a defect"))
    with pytest.raises(KeyError) as raised:
        load_under(ProcessInjector(stack, cell(process_fault())), stack, KeyError("the first"))
    assert raised.value.__notes__ == ["and then: a defect"]


def test_a_stack_must_be_able_to_do_what_the_cells_plan(tmp_path: Path) -> None:
    stack = FakeStack(tmp_path)
    cells = [make_cell(), cell(process_fault("pause"))]
    require(stack, cells)
    stack.process_faults = frozenset({"kill"})
    require(stack, cells[:1])
    with pytest.raises(MissingComponent) as error:
        require(stack, cells)
    assert str(error.value) == (
        "backend-pause pauses a container, and the fake stack has none - use --stack compose"
    )
