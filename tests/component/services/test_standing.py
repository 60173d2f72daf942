"""A real event loop that stands in known lines, seen by the evidence thread of a worker."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from lab.model.evidence import ELSEWHERE
from lab.services.backend.core import standing
from lab.services.backend.core.evidence import EvidenceWriter, MeteredLoop
from lab.services.backend.core.standing import Lookout
from lab.services.backend.core.uploads import UploadLog

HERE = Path(__file__)


@pytest.fixture(autouse=True)
def this_folder_is_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that lines of this file are the service's own."""
    monkeypatch.setattr(standing, "SERVICE", f"{HERE.parent}{os.sep}")


def line_of(text: str) -> str:
    """The line of this file that is this text, as a place says it."""
    lines = [line.strip() for line in HERE.read_text().splitlines()]
    return f"{HERE.name}:{lines.index(text) + 1}"


def seen(folder: Path, work: Callable[[], Coroutine[Any, Any, float]]) -> tuple[float, Any]:
    """What the work returns, and the seconds by place that the worker's last line tells."""

    async def watched() -> float:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, MeteredLoop)
        lookout = Lookout(loop.meter, threading.get_ident())
        writer = EvidenceWriter(folder, lambda: {"stood": lookout.seconds()}, UploadLog(), lookout)
        writer.start()
        await asyncio.sleep(0.05)
        returned = await work()
        await asyncio.sleep(0.05)
        writer.close()
        return returned

    with asyncio.Runner(loop_factory=MeteredLoop) as runner:
        returned = runner.run(watched())
    [file] = folder.glob("worker-*.jsonl")
    return returned, json.loads(file.read_text().splitlines()[-1])["stood"]


def blocking_call(seconds: float) -> float:
    begun = time.monotonic()
    time.sleep(seconds)
    return time.monotonic() - begun


def computing_call(seconds: float) -> float:
    begun = time.monotonic()
    while time.monotonic() < begun + seconds:
        pass
    return time.monotonic() - begun


def other_call(seconds: float) -> float:
    begun = time.monotonic()
    threading.Event().wait(seconds)
    return time.monotonic() - begun


@pytest.mark.parametrize(
    ("call", "lasts", "line"),
    [
        (blocking_call, 0.3, "time.sleep(seconds)"),
        (blocking_call, 0.03, "time.sleep(seconds)"),
        (blocking_call, 0.01, "time.sleep(seconds)"),
        (computing_call, 0.05, "while time.monotonic() < begun + seconds:"),
    ],
)
def test_a_call_in_the_loop_is_seen_with_its_line_for_as_long_as_it_lasts(
    tmp_path: Path, call: Callable[[float], float], lasts: float, line: str
) -> None:
    async def work() -> float:
        took = 0.0
        while took < 1.5:
            took += call(lasts)
            await asyncio.sleep(0.013)
        return took

    took, stood = seen(tmp_path, work)
    stood.pop(ELSEWHERE, None)
    assert set(stood) <= {
        f"{line_of(line)} in {call.__name__}",
        f"{line_of('pass')} in {call.__name__}",
    }
    assert sum(stood.values()) == pytest.approx(took, rel=0.5)


def test_lines_have_their_shares(tmp_path: Path) -> None:
    async def work() -> float:
        long = short = 0.0
        for _ in range(25):
            long += blocking_call(0.09)
            short += other_call(0.03)
            await asyncio.sleep(0)
        return short / (long + short)

    share, stood = seen(tmp_path, work)
    short = stood[f"{line_of('threading.Event().wait(seconds)')} wait"]
    long = stood[f"{line_of('time.sleep(seconds)')} in blocking_call"]
    assert short / (long + short) == pytest.approx(share, abs=0.18)


def test_a_loop_that_waits_or_calls_in_threads_stands_nowhere(tmp_path: Path) -> None:
    async def work() -> float:
        calls = [asyncio.to_thread(blocking_call, 0.2) for _ in range(4)]
        return sum(await asyncio.gather(*calls, asyncio.sleep(0.3, result=0.0)))

    took, stood = seen(tmp_path, work)
    assert took >= 0.8
    assert sum(seconds for place, seconds in stood.items() if place != ELSEWHERE) <= 0.1


@pytest.mark.parametrize("looking", [True, False])
def test_a_worker_writes_ten_times_a_second_whether_or_not_it_looks(
    tmp_path: Path, looking: bool
) -> None:
    meter = MeteredLoop()
    lookout = Lookout(meter.meter, threading.get_ident()) if looking else None
    writer = EvidenceWriter(tmp_path, dict, UploadLog(), lookout)
    writer.start()
    time.sleep(1.05)
    writer.close()
    meter.close()
    [file] = tmp_path.glob("worker-*.jsonl")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert 7 <= len(lines) <= 12
    assert lines[0]["threads_named"]["MainThread"] == 1
