"""The limiting factor of cells on Cloud Run: an instance's share of CPU and memory, its places."""

from __future__ import annotations

from typing import Any

import pytest

from lab.model.evidence import Evidence
from lab.model.verdict import Bottleneck, Resource
from tests.unit.judge.observations import cell, front, instance, observation
from tests.unit.judge.test_limits import SLOW, limit, lived, uploads

LOAD = {"users": 5}
MANY = {"cloudrun_concurrency": 80, "cloudrun_enforce": "none"}


def found(
    settings: dict[str, Any], samples: list[Any], evidence: list[Evidence], ready: int = 1
) -> Bottleneck:
    of = cell(target="cloudrun", load=LOAD, **settings)
    return limit(of, observation(samples, [*evidence, front(0.0, ready=ready)]))


def killed(peak: float) -> Evidence:
    return instance(30.0, "oom", why="out of memory", during="ready", peak_bytes=peak)


@pytest.mark.parametrize(
    ("settings", "samples", "evidence", "resource", "words"),
    [
        (
            {},
            uploads(20, no_instance=80),
            lived(inflight=1),
            "instance_queue",
            "80 of 100 uploads were refused: no instance was free in time, of 1 at most, 1 at once"
            " in each",
        ),
        (
            MANY,
            uploads(20, instance_died=80),
            [*lived(), killed(256 * 1024**2)],
            "memory",
            "memory 268 MB at most of 256 MiB, 1 kill, 80 of 100 uploads lost with them",
        ),
        (
            {"gcs_call": "blocking", **MANY},
            uploads(60, SLOW),
            lived(busy=0.99, inflight=30, threads_busy=1),
            "event_loop",
            "event loop busy 99 % (storage 3.50 s an upload, database 0.18 s an upload)",
        ),
        (
            {"gcs_threads": 60, **MANY},
            uploads(60, SLOW),
            lived(cores=0.49, inflight=30),
            "cpu",
            "busiest worker used 0.49 of its 0.5 of a core",
        ),
        (
            {"gcs_call": "to_thread", **MANY},
            uploads(60, SLOW),
            lived(inflight=30, threads_busy=5, threads_queued=3),
            "default_executor",
            "default executor 100 % busy, 5 threads, uploads queued 100 % of the time",
        ),
    ],
)
def test_the_limit_is_what_the_cell_is_made_to_have(
    settings: dict[str, Any],
    samples: list[Any],
    evidence: list[Evidence],
    resource: str,
    words: str,
) -> None:
    answer = found(settings, samples, evidence)
    assert answer.resource == resource
    assert answer.evidence.startswith(words)
    assert Resource.PROXY_TIMEOUT not in {one.resource for one in answer.candidates}


def test_the_cores_of_all_instances_count_together() -> None:
    evidence = [*lived(cores=0.3, pid=1), *lived(cores=0.3, pid=2)]
    answer = found({"cloudrun_max_instances": 2}, uploads(60, 4.0), evidence, ready=2)
    (cpu,) = [one for one in answer.candidates if one.resource is Resource.CPU]
    assert cpu.level == pytest.approx(0.6)
    assert not cpu.at_limit
