"""Fakes and real parts by one contract each, so that what passes with a fake means something."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from lab.cli.wiring import ToxiproxyInjector
from lab.config import read_faults
from lab.errors import InjectionError, MissingComponent, PartFailed
from lab.load.driver import LoadGenerator, LoadStart, LocustLoad
from lab.model.evidence import Audit, Cause, LoadDone, Sample, WorkerReading
from lab.model.fault import DONE, beyond
from lab.model.replica import services
from lab.model.run import LoadTick
from lab.observe.observer import Observer
from lab.observe.retention import Retention
from lab.paths import ROOT
from lab.runner import Injector
from lab.stack.base import Replica, Stack
from tests.fakes import FakeStack, InstantLoad, RecordingInjector, make_cell
from tests.live import causes, left_behind, upload, uploads, wait_until

FAULTS = read_faults(ROOT / "faults")
SETTINGS = {"speed": 20, "global_rate_limit": "off"}
QUICK = {"users": 2, "ramp": "0 s", "warmup": "0 s", "window": "20 s", "audio": "1 KB"}
REAL = pytest.mark.replica
IN_CONTAINERS = pytest.mark.compose


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeStack]:
    opened = FakeStack(tmp_path / "fake")
    yield opened
    opened.close()


STACKS = [
    "fake",
    pytest.param("stack", marks=REAL),
    pytest.param("contained", marks=IN_CONTAINERS),
]


@pytest.fixture(params=STACKS)
def either(request: pytest.FixtureRequest) -> Stack:
    """The fake stack, then each real one."""
    found: Stack = request.getfixturevalue(request.param)
    return found


def test_a_stack_takes_uploads_and_keeps_them(either: Stack) -> None:
    replica = either.apply(make_cell(SETTINGS))
    answers = uploads(replica.url, 4)
    assert causes(answers) == {"ok": 4}
    assert all("Server-Timing" in answer.headers for answer in answers)
    ids = {answer.json()["recording"] for answer in answers}
    assert {row[0] for row in replica.query("SELECT id FROM recordings")} == ids
    assert left_behind(replica) == (4, 4)
    assert either.down_parts() == {}


def test_a_stack_refuses_an_upload_without_a_token(either: Stack) -> None:
    replica = either.apply(make_cell(SETTINGS))
    url = f"{replica.url}/api/students/upload-recording"
    answer = requests.post(url, files={"file": ("a.wav", b"x", "audio/wav")}, timeout=10)
    assert (answer.status_code, causes([answer])) == (401, {"unauthorized": 1})
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert left_behind(replica) == (0, 0)


def test_a_stack_starts_each_cell_empty(either: Stack) -> None:
    replica = either.apply(make_cell(SETTINGS))
    upload(replica.url)
    assert left_behind(either.apply(make_cell(SETTINGS))) == (0, 0)


def test_a_stack_can_be_observed(either: Stack, tmp_path: Path) -> None:
    replica = either.apply(make_cell(SETTINGS))
    observer = Observer(replica, either.down_parts, speed=20)
    samples = tmp_path / "samples.jsonl"
    with observer.watch, observer.trim:
        InstantLoad(uploads=5).run(
            make_cell(SETTINGS), replica.url, samples, tmp_path / "log", lambda tick: None
        )
        wait_until(lambda: observer.watch.seen.connections)
        now = time.time()
        wait_until(lambda: max(f.stat().st_mtime for f in replica.evidence.iterdir()) > now)
    done = LoadDone(t=0.0, window=(0.0, 1.0), generator_exit=0)
    found = list(observer.evidence(now, samples, [], done))
    assert any(isinstance(line, WorkerReading) for line in found)
    last = found[-1]
    assert isinstance(last, Audit)
    assert (last.rows, last.objects, last.lost, last.orphans) == (5, 5, [], [])


@pytest.mark.parametrize("action", DONE)
def test_a_stack_strikes_and_brings_back_or_says_that_it_cannot(either: Stack, action: str) -> None:
    replica = either.apply(make_cell(SETTINGS))
    if action not in either.process_faults:
        for act in (either.inject_fault, either.recover):
            with pytest.raises(MissingComponent, match=r"container, .* - use --stack compose"):
                act("backend", action)
        return
    either.inject_fault("backend", action)
    wait_until(lambda: "backend" in either.down_parts())
    either.recover("backend", action)
    assert either.down_parts() == {}
    assert causes([upload(replica.url)]) == {"ok": 1}


@pytest.mark.parametrize("part", ["postgres", "fake-gcs-server"])
def test_a_cell_starts_empty_also_after_a_strike(either: Stack, part: str) -> None:
    if "restart" not in either.process_faults:
        pytest.skip("it strikes nothing")
    upload(either.apply(make_cell(SETTINGS)).url)
    either.inject_fault(part, "restart")
    either.recover(part, "restart")
    assert left_behind(either.apply(make_cell(SETTINGS))) == (0, 0)


def test_a_stack_can_be_trimmed(either: Stack) -> None:
    replica = either.apply(make_cell(SETTINGS))
    uploads(replica.url, 3)
    trim = Retention(replica.query, replica.storage, replica.bucket, keep=1)
    assert trim.once() == 2
    assert left_behind(replica) == (1, 1)


def test_a_stack_keeps_the_logs_of_one_cell(either: Stack, tmp_path: Path) -> None:
    replica = either.apply(make_cell(SETTINGS))
    either.collect_logs(tmp_path / "logs")
    parts = set(replica.logs) or {
        *services("vm"),
        "nginx-access",
    }  # the engine keeps those of containers
    assert {file.stem for file in (tmp_path / "logs").iterdir()} == parts


@pytest.fixture(params=["recording", *STACKS[1:]])
def injector(request: pytest.FixtureRequest) -> tuple[Injector, Replica]:
    """The fake injector with the fake stack, then the real one with each real stack."""
    fakes = request.param == "recording"
    stack: Stack = request.getfixturevalue("fake" if fakes else request.param)
    return RecordingInjector() if fakes else ToxiproxyInjector(), stack.apply(make_cell(SETTINGS))


@pytest.mark.parametrize(
    "names", [(), ("gcs-latency", "db-distance"), ("gcs-down",)], ids=lambda names: "+".join(names)
)
def test_an_injector_reads_back_what_the_cell_asks_for(
    injector: tuple[Injector, Replica], names: tuple[str, ...]
) -> None:
    arms, replica = injector
    cell = make_cell(SETTINGS, faults=[FAULTS[name] for name in names])
    with arms.armed(replica, cell) as injected:
        by_proxy = {line.proxy: line for line in injected}
    assert set(by_proxy) == {"gcs", "db"}
    for proxy, line in by_proxy.items():
        faults = [fault for fault in cell.faults if fault.proxy == proxy]
        knobs = beyond(cell.knobs, line.base_s)
        expected = [one for fault in faults for one in fault.armed(knobs)]
        assert line.enabled == (not any(fault.down for fault in faults))
        assert line.toxics == [armed.model_dump(exclude={"proxy"}) for armed in expected]


@pytest.mark.parametrize(
    "kind",
    [pytest.param("stack", marks=REAL), pytest.param("contained", marks=IN_CONTAINERS)],
)
def test_the_distance_is_a_whole_round_trip(request: pytest.FixtureRequest, kind: str) -> None:
    stack: Stack = request.getfixturevalue(kind)
    cell = make_cell({"speed": 1}, faults=[FAULTS["db-distance"]])
    replica = stack.apply(cell)
    with ToxiproxyInjector().armed(replica, cell) as injected:
        (line,) = [line for line in injected if line.proxy == "db"]
        took = replica.round_trip()
    (armed,) = cell.faults[0].armed(beyond(cell.knobs, line.base_s))
    delay = (armed.attributes["latency"] - armed.attributes["jitter"] / 2) / 1000
    assert line.base_s > 0
    assert took > delay
    assert abs(delay + line.base_s - cell.knobs.db_rtt.mean) <= 0.0005


def test_an_injector_disarms_when_the_load_fails(injector: tuple[Injector, Replica]) -> None:
    arms, replica = injector
    with (
        pytest.raises(PartFailed, match="the load failed"),
        arms.armed(replica, make_cell(SETTINGS, faults=[FAULTS["gcs-down"]])),
    ):
        raise PartFailed("the load failed")
    with arms.armed(replica, make_cell(SETTINGS)) as injected:
        assert all(line.enabled and not line.toxics for line in injected)


LOADS: dict[str, LoadGenerator] = {
    "instant": InstantLoad(uploads=8, size=1000),
    "locust": LocustLoad(),
}


@pytest.mark.parametrize("kind", LOADS)
def test_a_load_writes_a_sample_for_each_attempt(
    fake: FakeStack, tmp_path: Path, kind: str
) -> None:
    said: list[LoadStart | LoadTick] = []
    cell = make_cell(SETTINGS, load=QUICK)
    samples, log = tmp_path / "cell" / "samples.jsonl", tmp_path / "cell" / "logs" / "load.log"
    before = time.time()
    replica = fake.apply(cell)
    result = LOADS[kind].run(cell, replica.url, samples, log, said.append, said.append)
    written = [Sample.model_validate_json(line) for line in samples.read_text().splitlines()]
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
    result = LOADS[kind].run(cell, url, samples, tmp_path / "log", lambda tick: None)
    stack.close()
    errors = [Sample.model_validate_json(line).error for line in samples.read_text().splitlines()]
    assert set(errors) == {None, Cause.GCS_ERROR}
    assert result.exit_code == 0


@pytest.mark.parametrize("kind", LOADS)
def test_what_a_tick_raises_ends_the_load(fake: FakeStack, tmp_path: Path, kind: str) -> None:
    def tick(tick: LoadTick) -> None:
        raise PartFailed("nginx: killed by SIGKILL")

    cell = make_cell(SETTINGS, load={**QUICK, "window": "1200 s"})
    url = fake.apply(cell).url
    with pytest.raises(PartFailed, match="nginx: killed by SIGKILL"):
        LOADS[kind].run(cell, url, tmp_path / "samples", tmp_path / "log", tick)


def test_fakes_can_be_told_to_fail_once(fake: FakeStack, tmp_path: Path) -> None:
    cell = make_cell()
    fake.refuses = PartFailed("nginx did not come up")
    with pytest.raises(PartFailed, match="nginx did not come up"):
        fake.apply(cell)
    replica = fake.apply(cell)
    fake.down["nginx"] = "killed by SIGKILL"
    assert fake.down_parts() == {"nginx": "killed by SIGKILL"}
    injector = RecordingInjector()
    injector.refuses = InjectionError("toxic was not set")
    with pytest.raises(InjectionError, match="toxic was not set"):
        injector.armed(replica, cell).__enter__()
    with injector.armed(replica, cell):
        assert injector.events == ["armed cell"]
    assert injector.events == ["armed cell", "disarmed cell"]
    dying = InstantLoad(uploads=5, dies_after=2)
    samples = tmp_path / "samples"
    with pytest.raises(PartFailed, match="the load generator died"):
        dying.run(cell, replica.url, samples, tmp_path / "log", lambda tick: None)
    assert len(samples.read_text().splitlines()) == 2


def test_a_fake_stack_closes_as_often_as_asked(tmp_path: Path) -> None:
    stack = FakeStack(tmp_path)
    url = stack.apply(make_cell()).url
    stack.close()
    stack.close()
    assert stack.closed == 2
    with pytest.raises(requests.ConnectionError):
        upload(url)
