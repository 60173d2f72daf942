"""nginx: the two configurations as they are rendered, and as they run."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from lab.load.upload import headers, multipart, outcome
from lab.model.evidence import Cause
from lab.model.replica import HEALTH_PATH, UPLOAD_PATH, nginx_limits
from lab.stack.base import Replica
from lab.stack.nginx import render
from tests.live import PATIENCE_S, Live, by_worker, causes, upload, uploads, wait_until

MIB = 1024**2


def site(live: Live) -> dict[str, str]:
    """The directives of the configuration that runs, those inside of blocks left out."""
    folder = live.stack.folder / "nginx"
    text = (folder / f"{live.knobs.nginx}.conf").read_text() + (folder / "proxy.conf").read_text()
    lines = [line.strip(" ;") for line in text.splitlines() if line and line[0] not in "# }"]
    return dict(line.rsplit(" ", 1) for line in lines if not line.endswith("{"))


@pytest.mark.replica
@pytest.mark.knob("nginx", "speed")
@pytest.mark.parametrize(
    ("nginx", "speed", "limit", "read_ms", "others_ms"),
    [
        ("as-found", 1, MIB, 60_000, 60_000),
        ("as-found", 20, MIB, 3_000, 3_000),
        ("recommended", 1, 3 * MIB, 30_000, 60_000),
        ("recommended", 20, 3 * MIB, 1_500, 3_000),
    ],
)
def test_the_configuration_is_rendered_with_its_times_divided_by_speed(
    live: Live, nginx: str, speed: int, limit: int, read_ms: int, others_ms: int
) -> None:
    live({"nginx": nginx, "speed": speed})
    directives = site(live)
    assert directives["client_max_body_size"] == str(limit)
    assert directives["proxy_read_timeout"] == f"{read_ms}ms"
    for name in ("proxy_connect_timeout", "proxy_send_timeout", "client_body_timeout"):
        assert directives[name] == f"{others_ms}ms"
    frame = (live.stack.folder / "nginx" / "nginx.conf").read_text()
    assert f"keepalive_timeout {75_000 // speed}ms;" in frame
    assert f"keepalive_timeout {60_000 // speed}ms;" in frame
    assert f"keepalive_time {3_600_000 // speed}ms;" in frame


@pytest.mark.replica
@pytest.mark.knob("nginx")
@pytest.mark.parametrize(
    ("nginx", "size", "status"),
    [
        ("as-found", MIB // 2, 200),
        ("as-found", MIB + 1, 413),
        ("recommended", MIB + 1, 200),
        ("recommended", 3 * MIB + 1, 413),
    ],
)
def test_a_body_passes_up_to_the_limit(live: Live, nginx: str, size: int, status: int) -> None:
    replica = live({"nginx": nginx})
    assert upload(replica.url, size=size).status_code == status


@pytest.mark.replica
@pytest.mark.knob("nginx_body")
@pytest.mark.parametrize("nginx", ["as-found", "recommended"])
def test_a_body_limit_of_its_own_is_exact_to_the_byte(live: Live, nginx: str) -> None:
    limit = 1_234_567
    replica = live({"nginx": nginx, "nginx_body": f"{limit} B"})
    size = limit - len(multipart(b"", "test.wav"))
    assert upload(replica.url, size=size).status_code == 200
    answer = upload(replica.url, size=size + 1)
    assert outcome(answer.status_code, "text/html", answer.content) == (Cause.BODY_TOO_LARGE, None)


@pytest.mark.replica
@pytest.mark.knob("nginx_body")
def test_without_a_body_limit_every_size_passes(live: Live) -> None:
    replica = live({"nginx_body": "off", "speed": 1})
    assert upload(replica.url, size=12 * MIB).status_code == 200


@pytest.mark.replica
@pytest.mark.knob("nginx_read_timeout")
@pytest.mark.parametrize(
    ("timeout", "served"), [("preset", False), ("20 s", False), ("55 s", True), ("off", True)]
)
def test_an_answer_after_45_s_is_in_time_where_nginx_waits_longer(
    live: Live, timeout: str, served: bool
) -> None:
    knobs = {"nginx": "recommended", "nginx_read_timeout": timeout, "gcs_call": "executor"}
    replica = live({**knobs, "speed": 10})
    with live.slow("gcs", "45 s"):
        answer = upload(replica.url)
    assert answer.status_code == (200 if served else 504)
    if not served:
        took = answer.elapsed.total_seconds() * 10
        assert nginx_limits(live.knobs).read_s == pytest.approx(took, abs=8)


@pytest.mark.replica
def test_a_read_timeout_that_is_off_is_longer_than_any_client_waits(live: Live) -> None:
    live({"nginx_read_timeout": "off", "speed": 50})
    assert site(live)["proxy_read_timeout"] == f"{7 * 86_400_000 // 50}ms"


def backend_ports(live: Live) -> set[int]:
    """The ports from which nginx is connected to the backend now."""
    port = live.stack.backend.port
    return {
        each.laddr.port
        for pid in live.stack.nginx.pids()
        for each in psutil.Process(pid).net_connections("tcp")
        if each.raddr and each.raddr.port == port and each.status == psutil.CONN_ESTABLISHED
    }


@pytest.mark.replica
@pytest.mark.knob("nginx_keepalive", "keep_alive")
@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"nginx_keepalive": "off"}, False),
        ({"nginx_keepalive": 4}, True),
        ({"nginx_keepalive": 4, "keep_alive": "200 ms"}, False),
    ],
)
def test_a_connection_to_the_backend_serves_the_next_upload_if_both_keep_it(
    live: Live, settings: dict[str, Any], kept: bool
) -> None:
    replica = live({"keep_alive": "600 s", "speed": 1, **settings})
    assert upload(replica.url).status_code == 200
    if not kept:
        wait_until(lambda: not backend_ports(live))
    first = backend_ports(live)
    assert len(first) == kept
    assert upload(replica.url).status_code == 200
    assert backend_ports(live) & first == first


@pytest.mark.replica
@pytest.mark.knob("nginx_keepalive")
def test_nginx_keeps_no_more_idle_connections_than_it_may(live: Live) -> None:
    replica = live({"nginx_keepalive": 2, "keep_alive": "600 s", "gcs_call": "executor"})
    with live.slow("gcs", "20 s"):
        assert causes(uploads(replica.url, 5)) == {"ok": 5}
    wait_until(lambda: len(backend_ports(live)) == 2)


@pytest.mark.replica
@pytest.mark.knob("balance")
@pytest.mark.parametrize("nginx", ["as-found", "recommended"])
@pytest.mark.parametrize("keepalive", ["off", 8])
def test_uploads_go_to_each_worker_in_turn(live: Live, nginx: str, keepalive: int | str) -> None:
    knobs = {"nginx": nginx, "nginx_keepalive": keepalive, "gcs_call": "executor"}
    replica = live({"workers": 3, "balance": "round_robin", **knobs})
    answers = uploads(replica.url, 12)
    assert causes(answers) == {"ok": 12}
    assert sorted(by_worker(answers).values()) == [4, 4, 4]
    assert {int(pid) for pid in by_worker(answers)} == set(live.stack.workers.alive())


def all_inside(replica: Replica, count: int) -> bool:
    """Whether that many uploads are inside the workers."""
    return replica.inflight() == count


@pytest.mark.replica
@pytest.mark.knob("balance")
@pytest.mark.parametrize(("balance", "evenly"), [("round_robin", False), ("least_conn", True)])
def test_an_upload_goes_where_the_fewest_are_under_way(
    live: Live, balance: str, evenly: bool
) -> None:
    """Every other upload is answered at once, so in turn one worker has all of the slow ones."""
    replica = live({"workers": 2, "balance": balance, "gcs_call": "executor", "speed": 10})
    with live.slow("gcs", "50 s"), ThreadPoolExecutor(6) as pool:
        slow = []
        for student in range(6):
            slow.append(pool.submit(upload, replica.url, student))
            wait_until(partial(all_inside, replica, student + 1))
            assert requests.get(replica.url + HEALTH_PATH, timeout=PATIENCE_S).ok
        had = sorted(by_worker(one.result() for one in slow).values())
    assert had == ([3, 3] if evenly else [6])


@pytest.mark.replica
@pytest.mark.knob("balance")
def test_a_worker_that_answers_late_stays_in_service(live: Live) -> None:
    """By default nginx leaves out for ten seconds a server, of several, that failed once."""
    replica = live({"workers": 2, "balance": "round_robin", "gcs_call": "executor"})
    with live.slow("gcs", "65 s"):
        assert [upload(replica.url).status_code for _ in range(2)] == [504, 504]
    answers = uploads(replica.url, 4)
    assert sorted(by_worker(answers).values()) == [2, 2]


@pytest.mark.replica
@pytest.mark.knob("nginx_connections")
@pytest.mark.parametrize(("connections", "passed"), [(64, False), (1024, True)])
def test_uploads_past_nginxs_connections_are_cut_off_and_its_log_says_why(
    live: Live, connections: int, passed: bool
) -> None:
    at_once = {"gcs_call": "executor", "gcs_threads": 64, "speed": 20}
    replica = live({"nginx_connections": connections, **at_once})
    assert replica.shortages() == []
    with live.slow("gcs", "20 s"), ThreadPoolExecutor(60) as pool:
        answers = list(pool.map(lambda number: status(replica.url, number), range(60)))
    served = answers.count(200)
    ran_out = [each for each in replica.shortages() if each.of == "connections"]
    assert (served == 60) == passed
    if passed:
        assert ran_out == []
    else:
        assert served <= nginx_limits(live.knobs).uploads == 31
        assert [(each.part, each.count > 0) for each in ran_out] == [("nginx", True)]


def status(url: str, student: int) -> int:
    """The status of an upload; 0 if its connection was cut."""
    try:
        return upload(url, student).status_code
    except requests.ConnectionError:
        return 0


@pytest.mark.replica
@pytest.mark.knob("nginx")
@pytest.mark.parametrize(("nginx", "served"), [("as-found", True), ("recommended", False)])
def test_an_answer_that_takes_45_s_is_too_late_for_the_recommended(
    live: Live, nginx: str, served: bool
) -> None:
    replica = live({"nginx": nginx, "gcs_call": "executor", "speed": 50})
    with live.slow("gcs", "45 s"):
        answer = upload(replica.url)
    kind = answer.headers["Content-Type"]
    cause, recording = outcome(answer.status_code, kind, answer.content)
    assert (recording is not None) == served
    assert cause == (None if served else Cause.GATEWAY_TIMEOUT)


@pytest.mark.replica
def test_a_backend_that_is_gone_is_a_bad_gateway(live: Live) -> None:
    replica = live({})
    live.stack.backend.stop()
    answer = requests.post(
        replica.url + UPLOAD_PATH, data=b"x", headers=headers(0), timeout=PATIENCE_S
    )
    kind = answer.headers["Content-Type"]
    assert outcome(answer.status_code, kind, answer.content) == (Cause.BAD_GATEWAY, None)


def logged(live: Live, into: Path, client: str) -> list[dict[str, Any]]:
    """What the access log of this cell says of a client.

    nginx writes a line just after it has answered, so one of an earlier cell may be in it.
    """
    live.stack.collect_logs(into)
    lines = (into / "nginx-access.log").read_text().splitlines()
    return [found for line in lines if (found := json.loads(line))["client"] == client]


@pytest.mark.replica
def test_the_access_log_names_the_user_and_the_backends_time(live: Live, tmp_path: Path) -> None:
    replica = live({})
    body = multipart(b"\0" * 100, "a.wav")
    client = "198.18.7.7"
    fields = {**headers(0), "X-Lab-Client-Address": client}
    requests.post(replica.url + UPLOAD_PATH, data=body, headers=fields, timeout=PATIENCE_S)
    wait_until(lambda: logged(live, tmp_path, client))
    (line,) = logged(live, tmp_path, client)
    assert (line["status"], line["upstream_status"]) == (200, "200")
    assert 0 < float(line["upstream_time"]) <= line["request_time"] + 0.001


def test_only_the_labs_own_variables_are_filled_in() -> None:
    template = "listen ${LAB_LISTEN}; set $x $remote_addr; log '${request_time}';"
    assert render(template, {"LAB_LISTEN": "127.0.0.1:80"}) == (
        "listen 127.0.0.1:80; set $x $remote_addr; log '${request_time}';"
    )
    with pytest.raises(KeyError, match="LAB_LISTEN"):
        render(template, {})
