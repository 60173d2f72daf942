"""Where the event loop stands: stacks become places, and looks become seconds."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, cast

import pytest

from lab.model.evidence import ELSEWHERE
from lab.services.backend.core import standing
from lab.services.backend.core.middleware import by_address
from lab.services.backend.core.standing import (
    LOOK_S,
    OVERSLEPT_S,
    PLACES,
    SERVICE,
    Lookout,
    place_of,
    stack_of,
)

PLAIN, COROUTINE, GENERATOR = 0, 0x80, 0x20
ASYNCIO = standing._CALLBACK


class Code(NamedTuple):
    """What `place_of` reads of a code object."""

    co_filename: str
    co_name: str
    co_flags: int = PLAIN


Called = tuple[str, int, str, int]
"""A frame of a test: file, line, function, and kind."""

LOOP: Called = ("/python/asyncio/base_events.py", 1922, "_run_once", PLAIN)
MAIN: Called = (f"{SERVICE}__main__.py", 147, "main", PLAIN)
ROUTE: Called = ("/site/fastapi/routing.py", 301, "app", COROUTINE)
TAKE: Called = (f"{SERVICE}api/students.py", 70, "take", COROUTINE)
UPLOAD: Called = (f"{SERVICE}services/audio_upload.py", 83, "upload_audio", COROUTINE)
CALL: Called = (f"{SERVICE}services/audio_upload.py", 96, "_upload", PLAIN)
CLIENT: Called = ("/site/google/cloud/storage/blob.py", 3000, "upload_from_string", PLAIN)
COUNTING: Called = (f"{SERVICE}services/audio_upload.py", 43, "request", PLAIN)
SOCKET: Called = ("/python/socket.py", 718, "readinto", PLAIN)
SESSION: Called = (f"{SERVICE}database.py", 129, "session", GENERATOR)
CONNECTION: Called = ("/site/sqlalchemy/orm/session.py", 2100, "connection", PLAIN)
CONTEXT: Called = (contextlib.__file__, 137, "__enter__", PLAIN)
AUTHENTICATE: Called = (f"{SERVICE}api/students.py", 180, "authenticate", PLAIN)
RESAMPLE: Called = (f"{SERVICE}services/audio.py", 40, "resample", PLAIN)
PARSE: Called = ("/site/starlette/formparsers.py", 150, "parse", COROUTINE)
BODY: Called = (f"{SERVICE}core/middleware.py", 88, "__call__", COROUTINE)
RECORD: Called = (f"{SERVICE}core/uploads.py", 130, "finish", PLAIN)
PROTOCOL: Called = ("/site/uvicorn/protocols/http/h11_impl.py", 170, "data_received", PLAIN)


def stack(called: Sequence[Called]) -> Sequence[standing.Called]:
    """The stack, innermost first, of a loop whose callback called these, outermost first."""

    def codes(of: Sequence[Called]) -> Iterator[tuple[Code, int]]:
        for file, line, name, kind in of:
            yield Code(file, name, kind), line

    outer = [*codes((MAIN, LOOP)), (ASYNCIO, 80), *codes(called)]
    return cast("Sequence[standing.Called]", outer[::-1])


@pytest.mark.parametrize(
    ("called", "place"),
    [
        (
            [ROUTE, TAKE, UPLOAD, CALL, CLIENT, SOCKET],
            "services/audio_upload.py:96 upload_from_string",
        ),
        (  # what the library calls back is still the library's call
            [ROUTE, TAKE, UPLOAD, CALL, CLIENT, COUNTING, SOCKET],
            "services/audio_upload.py:96 upload_from_string",
        ),
        ([ROUTE, TAKE, CONTEXT, SESSION, CONNECTION, SOCKET], "database.py:129 connection"),
        ([ROUTE, TAKE, AUTHENTICATE, CONNECTION], "api/students.py:180 connection"),
        ([ROUTE, TAKE, RESAMPLE], "services/audio.py:40 in resample"),
        ([ROUTE, TAKE, CONTEXT], "api/students.py:70 in take"),
        ([BODY, RECORD], "core/middleware.py:88 finish"),
        ([BODY, ROUTE, PARSE, SOCKET], ELSEWHERE),
        ([BODY, ROUTE], ELSEWHERE),
        ([PROTOCOL, SOCKET], ELSEWHERE),
        ([RECORD], ELSEWHERE),
        ([], ELSEWHERE),
    ],
)
def test_the_line_that_called_is_named_where_it_is_the_service_s(
    called: list[Called], place: str
) -> None:
    assert place_of(stack(called)) == place


def test_a_thread_that_is_gone_is_nowhere() -> None:
    assert place_of([]) == ELSEWHERE


class Loop:
    """Turns of an event loop, a clock and a processor, as a test says."""

    def __init__(self) -> None:
        self.now = self.cpu = 100.0
        self.in_turn: int | None = 1
        self.late_turns: set[int] = set()
        self.moves_on: Callable[[], None] = lambda: None

    def turn(self) -> int | None:
        turn, then = self.in_turn, self.moves_on
        self.moves_on = lambda: None
        then()
        return turn

    def late(self, turn: int) -> bool:
        return turn in self.late_turns

    def passes(self, seconds: float = LOOK_S, cpu: float = 0.0) -> None:
        self.now += seconds
        self.cpu += cpu


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Where the loop is found; its last is what holds."""
    found = ["api/students.py:180 scalar"]
    monkeypatch.setattr(standing, "place_of", lambda _stack: found[-1])
    return found


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def lookout(loop: Loop) -> Lookout:
    return Lookout(loop, 0, lambda: loop.now, lambda: loop.cpu)


def look(lookout: Lookout, loop: Loop, *turns: int | None, **passes: float) -> None:
    for turn in turns:
        loop.in_turn = turn
        loop.passes(**passes)
        lookout.look()


def test_each_look_in_a_late_turn_counts_for_the_time_since_the_one_before(
    lookout: Lookout, loop: Loop, place: list[str]
) -> None:
    loop.late_turns = {1, 3}
    look(lookout, loop, 1, 1, 2, 3, None, 4)
    assert lookout.seconds() == {place[-1]: pytest.approx(3 * LOOK_S, abs=1e-3)}


def test_a_call_that_was_over_before_the_next_look_counts_if_its_turn_was_late(
    lookout: Lookout, loop: Loop, place: list[str]
) -> None:
    look(lookout, loop, 1)
    loop.late_turns = {1}
    look(lookout, loop, None)
    assert lookout.seconds() == {place[-1]: pytest.approx(LOOK_S, abs=1e-3)}


def test_a_loop_that_went_on_while_it_was_looked_at_is_not_counted(
    lookout: Lookout, loop: Loop, place: list[str]
) -> None:
    loop.late_turns = {1, 2}
    loop.moves_on = lambda: setattr(loop, "in_turn", 2)
    look(lookout, loop, 1, None)
    assert lookout.seconds() == {}
    assert place


@pytest.mark.parametrize(
    ("pause", "cpu", "counted"),
    [
        (OVERSLEPT_S * 4, 0.0, 0.0),  # no core for anybody
        (OVERSLEPT_S * 4, OVERSLEPT_S * 3, OVERSLEPT_S * 4),  # a call kept the interpreter's lock
        (OVERSLEPT_S * 0.9, 0.0, OVERSLEPT_S * 0.9),
    ],
)
def test_a_process_that_had_no_core_stood_nowhere(
    lookout: Lookout, loop: Loop, place: list[str], pause: float, cpu: float, counted: float
) -> None:
    loop.late_turns = {1}
    look(lookout, loop, 1, seconds=pause, cpu=cpu)
    look(lookout, loop, None)
    assert lookout.seconds().get(place[-1], 0.0) == pytest.approx(counted)


def test_lines_are_told_apart_up_to_a_number(
    lookout: Lookout, loop: Loop, place: list[str]
) -> None:
    loop.late_turns = {1}
    for line in range(PLACES + 3):
        place.append(f"api/students.py:{line} scalar")
        look(lookout, loop, 1)
    place.append("api/students.py:0 scalar")
    look(lookout, loop, 1, 1)
    seconds = lookout.seconds()
    assert len(seconds) == PLACES + 1
    assert seconds[ELSEWHERE] == pytest.approx(3 * LOOK_S, abs=1e-3)
    assert seconds["api/students.py:0 scalar"] == pytest.approx(2 * LOOK_S, abs=1e-3)


def test_real_code_is_told_apart_as_that_of_the_tables() -> None:
    assert standing.own(by_address.__code__)
    assert standing.relative(by_address.__code__) == "core/middleware.py"
    assert not standing.own(place_of.__code__)
    assert place_of(stack_of(threading.get_ident())) == ELSEWHERE


@pytest.fixture
def waiting() -> Iterator[threading.Thread]:
    """A thread that stands in a line of this file."""
    goes_on = threading.Event()

    def stands_here() -> None:
        goes_on.wait()

    thread = threading.Thread(target=stands_here)
    thread.start()
    yield thread
    goes_on.set()
    thread.join()


@pytest.mark.parametrize("collects", [True, False])
def test_a_stack_is_that_of_a_thread_from_its_innermost_frame_outwards(
    waiting: threading.Thread, collects: bool
) -> None:
    if not collects:
        gc.disable()
    try:
        names = [code.co_name for code, _ in wait_for(lambda: called_by(waiting, "stands_here"))]
        assert gc.isenabled() == collects
    finally:
        gc.enable()
    assert names[names.index("stands_here") - 1 :] == [
        "wait",
        "stands_here",
        "run",
        "_bootstrap_inner",
        "_bootstrap",
    ]


def test_each_frame_of_a_stack_has_its_line(waiting: threading.Thread) -> None:
    stack = wait_for(lambda: called_by(waiting, "stands_here"))
    [line] = [line for code, line in stack if code.co_name == "stands_here"]
    assert Path(__file__).read_text().splitlines()[line - 1].strip() == "goes_on.wait()"


def test_of_a_thread_that_is_gone_there_is_no_stack() -> None:
    assert not stack_of(0)


def test_no_frame_is_kept() -> None:
    class Kept:
        """What a frame of this test has, and loses as it returns."""

    def looked_at() -> weakref.ref[Kept]:
        kept = Kept()
        assert stack_of(threading.get_ident())
        return weakref.ref(kept)

    gc.disable()
    try:
        assert looked_at()() is None
    finally:
        gc.enable()


def called_by(thread: threading.Thread, name: str) -> Sequence[standing.Called]:
    """The stack of a thread, once it waits in a function that this one has called."""
    stack = stack_of(thread.ident or 0)
    names = [code.co_name for code, _ in stack]
    return stack if name in names[1:] and names[names.index(name) - 1] == "wait" else []


def wait_for(found: Callable[[], Sequence[standing.Called]]) -> Sequence[standing.Called]:
    """What is found, once there is something."""
    deadline = time.monotonic() + 10
    while not (of := found()):
        assert time.monotonic() < deadline
    return of
