"""The fakes by the contracts of the real parts, so that what passes with one means something."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from lab.errors import InjectionError, PartFailed
from lab.load.driver import LoadGenerator, LoadStart, LocustLoad
from lab.model.evidence import Cause
from lab.model.run import LoadTick
from lab.runner import Injector
from tests.component.load.conftest import read_samples
from tests.contracts import SETTINGS, InjectorContract, StackContract
from tests.fakes import FakeStack, InstantLoad, RecordingInjector, make_cell
from tests.live import upload

QUICK = {"users": 2, "ramp": "0 s", "warmup": "0 s", "window": "20 s", "audio": "1 KB"}


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[FakeStack]:
    opened = FakeStack(tmp_path / "fake")
    yield opened
    opened.close()


class TestFakeStack(StackContract):
    pass


class TestRecordingInjector(InjectorContract):
    @pytest.fixture
    def injector(self) -> Injector:
        return RecordingInjector()


LOADS: dict[str, LoadGenerator] = {
    "instant": InstantLoad(uploads=8, size=1000),
    "locust": LocustLoad(),
}


@pytest.mark.parametrize("kind", LOADS)
def test_a_load_writes_a_sample_for_each_attempt(
    stack: FakeStack, tmp_path: Path, kind: str
) -> None:
    said: list[LoadStart | LoadTick] = []
    cell = make_cell(SETTINGS, load=QUICK)
    samples, log = tmp_path / "cell" / "samples.jsonl", tmp_path / "cell" / "logs" / "load.log"
    before = time.monotonic()
    replica = stack.apply(cell)
    result = LOADS[kind].run(cell, replica.url, samples, log, said.append, said.append)
    written = read_samples(samples)
    start, *ticks = said
    assert isinstance(start, LoadStart)
    assert start.t0 == result.t0 >= before
    assert (result.window, result.exit_code, result.pid) == (cell.load.measured, 0, start.pid)
    assert ticks
    assert all(isinstance(tick, LoadTick) for tick in ticks)
    assert isinstance(ticks[-1], LoadTick)
    assert ticks[-1].answered == len(written) > 0
    assert {sample.recording for sample in written} == {
        str(row[0]) for row in replica.query("SELECT id FROM recordings")
    }
    assert all(sample.error is None and sample.status == 200 for sample in written)
    low, high = cell.load.measured
    assert all(low <= sample.planned_at <= high for sample in written)


@pytest.mark.parametrize("kind", LOADS)
def test_a_failed_upload_is_data(tmp_path: Path, kind: str) -> None:
    stack = FakeStack(tmp_path / "fake", fails=lambda n: Cause.GCS_ERROR if n % 2 else None)
    cell = make_cell(SETTINGS, load={**QUICK, "backoff": "0 s"})
    samples = tmp_path / "samples.jsonl"
    url = stack.apply(cell).url
    result = LOADS[kind].run(cell, url, samples, tmp_path / "log", lambda _tick: None)
    stack.close()
    errors = [sample.error for sample in read_samples(samples)]
    assert set(errors) == {None, Cause.GCS_ERROR}
    assert result.exit_code == 0


@pytest.mark.parametrize("kind", LOADS)
def test_what_a_tick_raises_ends_the_load(stack: FakeStack, tmp_path: Path, kind: str) -> None:
    def tick(_tick: LoadTick) -> None:
        raise PartFailed("nginx: killed by SIGKILL")

    cell = make_cell(SETTINGS, load={**QUICK, "window": "1200 s"})
    url = stack.apply(cell).url
    with pytest.raises(PartFailed, match="nginx: killed by SIGKILL"):
        LOADS[kind].run(cell, url, tmp_path / "samples", tmp_path / "log", tick)


def test_fakes_can_be_told_to_fail_once(stack: FakeStack, tmp_path: Path) -> None:
    cell = make_cell()
    stack.refuses = PartFailed("nginx did not come up")
    with pytest.raises(PartFailed, match="nginx did not come up"):
        stack.apply(cell)
    replica = stack.apply(cell)
    stack.down["nginx"] = "killed by SIGKILL"
    assert stack.down_parts() == {"nginx": "killed by SIGKILL"}
    injector = RecordingInjector()
    injector.refuses = InjectionError("toxic was not set")
    with pytest.raises(InjectionError, match="toxic was not set"):
        injector.injected(replica, cell).__enter__()
    with injector.injected(replica, cell):
        assert injector.events == ["injected cell"]
    assert injector.events == ["injected cell", "removed cell"]
    dying = InstantLoad(uploads=5, dies_after=2)
    samples = tmp_path / "samples"
    with pytest.raises(PartFailed, match="the load generator died"):
        dying.run(cell, replica.url, samples, tmp_path / "log", lambda _tick: None)
    assert len(samples.read_text().splitlines()) == 2


def test_a_fake_stack_closes_as_often_as_asked(tmp_path: Path) -> None:
    stack = FakeStack(tmp_path)
    url = stack.apply(make_cell()).url
    stack.close()
    stack.close()
    assert stack.closed == 2
    with pytest.raises(requests.ConnectionError):
        upload(url)
