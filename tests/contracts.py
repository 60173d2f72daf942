"""What every stack and every injector keeps to, the fakes as well as the real ones.

A layer's tests derive from the contract and say which ``stack`` and ``injector`` it is about.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import requests

from lab.cli.wiring import ToxiproxyInjector
from lab.config import read_faults
from lab.errors import MissingComponent, PartFailed
from lab.model.evidence import Audit, LoadDone, WorkerReading
from lab.model.fault import PAST_TENSE, without_base
from lab.model.replica import services
from lab.observe.observer import Observer
from lab.observe.retention import Retention
from lab.paths import ROOT
from lab.runner import Injector
from lab.stack.base import Replica, Stack
from tests.fakes import InstantLoad, make_cell
from tests.live import causes, left_behind, upload, uploads, wait_until

FAULTS = read_faults(ROOT / "faults")
SETTINGS = {"speed": 20, "global_rate_limit": "off"}


class StackContract:
    """A stack, to be given by the fixture ``stack``."""

    def test_a_stack_takes_uploads_and_keeps_them(self, stack: Stack) -> None:
        replica = stack.apply(make_cell(SETTINGS))
        answers = uploads(replica.url, 4)
        assert causes(answers) == {"ok": 4}
        assert all("Server-Timing" in answer.headers for answer in answers)
        ids = {answer.json()["recording"] for answer in answers}
        assert {row[0] for row in replica.query("SELECT id FROM recordings")} == ids
        assert left_behind(replica) == (4, 4)
        assert stack.down_parts() == {}

    def test_a_stack_refuses_an_upload_without_a_token(self, stack: Stack) -> None:
        replica = stack.apply(make_cell(SETTINGS))
        url = f"{replica.url}/api/students/upload-recording"
        answer = requests.post(url, files={"file": ("a.wav", b"x", "audio/wav")}, timeout=10)
        assert (answer.status_code, causes([answer])) == (401, {"unauthorized": 1})
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert left_behind(replica) == (0, 0)

    def test_a_stack_starts_each_cell_empty(self, stack: Stack) -> None:
        replica = stack.apply(make_cell(SETTINGS))
        upload(replica.url)
        assert left_behind(stack.apply(make_cell(SETTINGS))) == (0, 0)

    def test_a_stack_can_be_observed(self, stack: Stack, tmp_path: Path) -> None:
        replica = stack.apply(make_cell(SETTINGS))
        observer = Observer(replica, stack.down_parts, speed=20)
        samples = tmp_path / "samples.jsonl"
        with observer.watch, observer.retention:
            InstantLoad(uploads=5).run(
                make_cell(SETTINGS), replica.url, samples, tmp_path / "log", lambda _tick: None
            )
            wait_until(lambda: observer.watch.seen.connections)
            now, written = time.monotonic(), time.time()
            wait_until(lambda: max(f.stat().st_mtime for f in replica.evidence.iterdir()) > written)
        done = LoadDone(t=0.0, window=(0.0, 1.0), generator_exit=0)
        found = list(observer.evidence(now, samples, [], done))
        assert any(isinstance(line, WorkerReading) for line in found)
        last = found[-1]
        assert isinstance(last, Audit)
        assert (last.rows, last.objects, last.lost, last.orphans) == (5, 5, [], [])

    @pytest.mark.parametrize("action", PAST_TENSE)
    def test_a_stack_strikes_and_brings_back_or_says_that_it_cannot(
        self, stack: Stack, action: str
    ) -> None:
        replica = stack.apply(make_cell(SETTINGS))
        if action not in stack.process_faults:
            for act in (stack.inject_fault, stack.recover):
                with pytest.raises(MissingComponent, match=r"container, .* - use --stack compose"):
                    act("backend", action)
            return
        stack.inject_fault("backend", action)
        wait_until(lambda: "backend" in stack.down_parts())
        stack.recover("backend", action)
        assert stack.down_parts() == {}
        assert causes([upload(replica.url)]) == {"ok": 1}

    @pytest.mark.parametrize("part", ["postgres", "fake-gcs-server"])
    def test_a_cell_starts_empty_also_after_a_strike(self, stack: Stack, part: str) -> None:
        if "restart" not in stack.process_faults:
            pytest.skip("it strikes nothing")
        upload(stack.apply(make_cell(SETTINGS)).url)
        stack.inject_fault(part, "restart")
        stack.recover(part, "restart")
        assert left_behind(stack.apply(make_cell(SETTINGS))) == (0, 0)

    def test_a_stack_can_be_trimmed(self, stack: Stack) -> None:
        replica = stack.apply(make_cell(SETTINGS))
        uploads(replica.url, 3)
        trim = Retention(replica.query, replica.storage, replica.bucket, keep=1)
        assert trim.remove_batch() == 2
        assert left_behind(replica) == (1, 1)

    def test_a_stack_keeps_the_logs_of_one_cell(self, stack: Stack, tmp_path: Path) -> None:
        replica = stack.apply(make_cell(SETTINGS))
        stack.collect_logs(tmp_path / "logs")
        parts = set(replica.logs) or {
            *services("vm"),
            "nginx-access",
        }  # the engine keeps those of containers
        assert {file.stem for file in (tmp_path / "logs").iterdir()} == parts


class InjectorContract:
    """Who injects faults into a stack's replica, to be given by the fixture ``injector``."""

    @pytest.fixture
    def replica(self, stack: Stack) -> Replica:
        return stack.apply(make_cell(SETTINGS))

    @pytest.mark.parametrize(
        "names",
        [(), ("gcs-latency", "db-distance", "speech-latency"), ("gcs-down", "speech-down")],
        ids=lambda names: "+".join(names),
    )
    def test_an_injector_reads_back_what_the_cell_asks_for(
        self, injector: Injector, replica: Replica, names: tuple[str, ...]
    ) -> None:
        cell = make_cell(SETTINGS, faults=[FAULTS[name] for name in names])
        with injector.injected(replica, cell) as injected:
            by_proxy = {line.proxy: line for line in injected}
        assert set(by_proxy) == {"gcs", "db", "speech"}
        for proxy, line in by_proxy.items():
            faults = [fault for fault in cell.faults if fault.proxy == proxy]
            knobs = without_base(cell.knobs, line.base_s)
            expected = [one for fault in faults for one in fault.to_toxics(knobs)]
            assert line.enabled == (not any(fault.down for fault in faults))
            assert line.toxics == [toxic.model_dump(exclude={"proxy"}) for toxic in expected]

    def test_an_injector_disarms_when_the_load_fails(
        self, injector: Injector, replica: Replica
    ) -> None:
        with (
            pytest.raises(PartFailed, match="the load failed"),
            injector.injected(replica, make_cell(SETTINGS, faults=[FAULTS["gcs-down"]])),
        ):
            raise PartFailed("the load failed")
        with injector.injected(replica, make_cell(SETTINGS)) as injected:
            assert all(line.enabled and not line.toxics for line in injected)


class RealInjectorContract(InjectorContract):
    """The real injector, on a real stack."""

    @pytest.fixture
    def injector(self) -> Injector:
        return ToxiproxyInjector()

    def test_the_distance_is_a_whole_round_trip(self, stack: Stack) -> None:
        cell = make_cell({"speed": 1}, faults=[FAULTS["db-distance"]])
        replica = stack.apply(cell)
        with ToxiproxyInjector().injected(replica, cell) as injected:
            (line,) = [line for line in injected if line.proxy == "db"]
            took = replica.round_trip(cell.knobs.db_rtt.mean)
        (toxic,) = cell.faults[0].to_toxics(without_base(cell.knobs, line.base_s))
        latency, jitter = toxic.attributes["latency"], toxic.attributes["jitter"]
        delay = (latency - jitter / 2) / 1000
        assert line.base_s > 0
        assert took > (latency - jitter) / 1000  # a single draw may be as short
        assert abs(delay + line.base_s - cell.knobs.db_rtt.mean) <= 0.0005
