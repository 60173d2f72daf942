"""The workers' records on a running replica: every upload's end, or where it stands, by its id."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import MappingProxyType
from typing import Any

import pytest
import requests

from lab.load.upload import headers, multipart
from lab.model.replica import REQUEST_HEADER, UPLOAD_PATH
from lab.services.backend.core.problems import STATUS
from tests.live import PATIENCE_S, Live, make_fault, uploads, wait_until

pytestmark = pytest.mark.replica

HOLD = {"gcs_call": "executor", "gcs_threads": 20, "db_session": "hold"}
AUDIO = multipart(b"\0" * 1000, "test.wav")


def send(
    url: str,
    more: Mapping[str, str] = MappingProxyType({}),
    *,
    student: int = 0,
    patience: float = PATIENCE_S,
) -> str:
    """An upload with an id; returns it, whether or not an answer came within ``patience``."""
    name = str(uuid.uuid4())
    sent = {**headers(student), REQUEST_HEADER: name, **more}
    with suppress(requests.Timeout):
        requests.post(url + UPLOAD_PATH, data=AUDIO, headers=sent, timeout=patience)
    return name


def send_many(url: str, count: int) -> list[str]:
    """So many at once."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda student: send(url, student=student), range(count)))


def records(live: Live, name: str) -> list[dict[str, Any]]:
    """What was written of an upload so far, in order."""
    lines = [
        json.loads(line)
        for file in live.stack.backend.evidence.glob("uploads-*.jsonl")
        for line in file.read_text().split("\n")[:-1]
    ]
    return [line for line in lines if line["request"] == name]


def ended(live: Live, name: str) -> dict[str, Any]:
    """The record of an upload that has ended, or will."""
    wait_until(lambda: any(line["status"] for line in records(live, name)))
    *_, last = records(live, name)
    return last


def stages(record: Mapping[str, Any]) -> list[str]:
    return [stage for stage, _, _ in record["spans"]]


@pytest.mark.parametrize(
    ("cause", "settings", "fault", "count", "more", "last"),
    [
        ("unauthorized", {}, {}, 1, {"Authorization": "Bearer nobody"}, ["auth"]),
        ("bad_upload", {}, {}, 1, {"Content-Type": "text/plain"}, []),
        ("rate_limited", {"upload_rate_limit": "1/h"}, {}, 1, {}, []),
        (
            "overloaded",
            {"max_inflight_uploads": 1, **HOLD},
            {"proxy": "gcs", "delay": "20 s"},
            2,
            {},
            [],
        ),
        (
            "pool_timeout",
            {**HOLD, "pool_size": 1, "max_overflow": 0, "pool_timeout": "4 s"},
            {"proxy": "gcs", "delay": "20 s"},
            2,
            {},
            ["pool_wait"],
        ),
        (
            "db_refused",
            {**HOLD, "db_cap": 3, "pool_timeout": "60 s"},
            {"proxy": "gcs", "delay": "16 s"},
            6,
            {},
            ["pool_wait"],
        ),
        ("db_error", {}, {"proxy": "db", "down": True}, 1, {}, ["pool_wait"]),
        (
            "gcs_error",
            {"speed": 50, "gcs_call": "executor"},
            {"proxy": "gcs", "down": True},
            1,
            {},
            ["gcs"],
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and value in STATUS else "",
)
def test_the_record_of_a_failed_upload_has_its_status_cause_and_last_stage(
    live: Live,
    cause: str,
    settings: dict[str, Any],
    fault: dict[str, Any],
    count: int,
    more: dict[str, str],
    last: Sequence[str],
) -> None:
    """Asked of the backend itself: nginx would give up some of them before they fail."""
    replica = live({"speed": 20, **settings})
    if cause == "rate_limited":
        send(replica.backend)
    faults = [make_fault(**fault)] if fault else []
    with live.injected(*faults):
        names = [send(replica.backend, more)] if count == 1 else send_many(replica.backend, count)
    found = [ended(live, name) for name in names]
    failed = [record for record in found if record["status"] != 200]
    assert failed
    for record in failed:
        status = 422 if cause == "bad_upload" else STATUS[cause]
        assert (record["status"], record["cause"]) == (status, cause)
        assert stages(record)[-1:] == last
    for record in found:
        if record not in failed:
            assert record["cause"] is None
            assert stages(record)[-1] == "write"


def test_an_upload_whose_client_left_is_recorded_to_its_end(live: Live) -> None:
    """While it is inside its record says where it stands, and afterwards that it succeeded."""
    replica = live({"gcs_call": "executor"})
    send(replica.url)
    with live.slow("gcs", "30 s"):
        name = send(replica.url, patience=0.2)
        assert all(line["status"] is None for line in records(live, name))
        wait_until(lambda: records(live, name))
        [inside] = records(live, name)
        assert (inside["status"], stages(inside)[-1]) == (None, "gcs")
        whole = ended(live, name)
    assert (whole["status"], whole["cause"]) == (200, None)
    assert stages(whole) == [
        "pool_wait", "auth", "release", "gcs_queue", "gcs", "pool_wait2", "write",
    ]  # fmt: skip
    took = {stage: seconds for stage, _, seconds in whole["spans"]}
    assert took["gcs"] >= 30 / live.knobs.speed


@pytest.mark.knob("nginx")
@pytest.mark.parametrize("nginx", ["as-found", "recommended"])
def test_nginx_says_when_it_handed_an_upload_over_and_nobody_else_does(
    live: Live, nginx: str
) -> None:
    replica = live({"nginx": nginx})
    through = ended(live, send(replica.url, {"X-Request-Start": "t=1"}))
    assert 0 <= through["arrived"] - through["handed"] < 1
    assert through["spans"][0][1] >= through["arrived"] - 0.001
    assert through["at"] >= through["spans"][-1][1]
    assert ended(live, send(replica.backend))["handed"] is None


def test_calls_to_the_database_wait_for_one_of_anyios_threads(live: Live) -> None:
    """It has 40 a loop; a checkout that waits for a connection keeps one as well."""
    replica = live({"db_call": "threadpool", "gcs_call": "executor", "pool_timeout": "300 s"})
    with live.slow("db", "10 s"):
        uploads(replica.url, 45)
    assert max(line["anyio_busy"] for line in live.readings()) == 40
    assert max(line["anyio_queued"] for line in live.readings()) >= 1
    replica = live({"db_call": "blocking", "gcs_call": "executor"})
    with live.slow("db", "2 s"):
        uploads(replica.url, 3)
    assert max(line["anyio_queued"] for line in live.readings()) == 0
