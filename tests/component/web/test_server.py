"""The live server, over HTTP: who is answered, with what, and what its stream of events tells."""

from __future__ import annotations

import http.client
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

import pytest
import requests

from lab.cli.watcher import documents
from lab.web.app import make_site
from lab.web.guard import HEADERS
from lab.web.render import REGIONS
from lab.web.site import Site
from tests.component.web.serving import Event, events, served
from tests.fakes import sample_run
from tests.fakes.live_run import LiveTrial, going_on
from tests.unit.web.test_guard import CASES

FIRST, SECOND = sample_run.cells()[:2]
WITHIN_S = 2.0
"""Seconds after which the state of every cell is on the page."""


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


@pytest.fixture
def site(results: Path) -> Site:
    return make_site(results, documents())


@pytest.fixture
def address(site: Site) -> Iterator[str]:
    with served(site) as told:
        yield told


def unchanged(address: str, path: str) -> tuple[int, str]:
    """The answer to a path that no client has tidied up before: its status and text."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_every_answer_forbids_what_a_page_of_another_could_do(results: Path, address: str) -> None:
    run = sample_run.stored(results, finished=1)
    of_run = f"/runs/{run.info.name}"
    for path in ("/", "/runs", of_run, f"{of_run}/replay", "/assets/watch.js", "/nothing"):
        answer = requests.get(address + path, timeout=10)
        assert answer.headers.items() >= HEADERS.items(), path
        assert "access-control-allow-origin" not in answer.headers
        assert "set-cookie" not in answer.headers
        assert requests.head(address + path, timeout=10).status_code == answer.status_code
        assert "<script>" not in answer.text
        assert " style=" not in answer.text
        assert " onclick=" not in answer.text


@pytest.mark.parametrize("path", ["/", "/events", "/runs", "/assets/watch.js", "/nothing"])
def test_who_may_not_ask_gets_403_everywhere(address: str, path: str) -> None:
    port = address.rpartition(":")[2]
    for method, headers, reason in CASES:
        if reason is None or not headers.get("Host", "x"):
            continue
        given = {name: text.replace("8088", port) for name, text in headers.items()}
        answer = requests.request(method, address + path, headers=given, timeout=10)
        assert answer.status_code == 403, (method, headers)
        assert answer.text == reason.replace("8088", port) or method == "HEAD"


def test_a_form_sent_from_elsewhere_gets_403(address: str) -> None:
    for headers in ({"Origin": "https://example.org"}, {"Origin": "null"}, {}):
        form = {"at": "1"}
        answer = requests.post(f"{address}/runs", data=form, headers=headers, timeout=10)
        assert answer.status_code == 403


def test_a_socket_is_listened_on_by_this_machine_alone(address: str) -> None:
    port = int(address.rpartition(":")[2])
    others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), port, socket.AF_INET)}
    for other in others - {"127.0.0.1"}:
        if not str(other).startswith("127."):
            with socket.socket() as probe:
                assert probe.connect_ex((str(other), port)) != 0


@pytest.mark.parametrize(
    "name",
    [
        *("..", "../secret", "..%2fsecret", "%2e%2e", "/etc", "latest", "no-such-run"),
        *("<script>alert(1)</script>", "\x1b[31m", "%00", "%ff", "a" * 300),
    ],
)
def test_a_run_is_looked_up_by_its_name_and_never_joined_to_a_path(
    results: Path, address: str, name: str
) -> None:
    stored = sample_run.stored(results, finished=1)
    shutil.copytree(stored.path, results.parent / "secret")
    quoted = name if "%" in name else quote(name, safe="")
    for rest in ("", "/events", "/report", "/replay", "/replay/events"):
        status, text = unchanged(address, f"/runs/{quoted}{rest}")
        assert status in (404, 307)
        assert "<script>alert" not in text
        assert "\x1b" not in text


def test_what_a_hostile_folder_is_called_and_holds_is_shown_and_does_nothing(
    results: Path, address: str
) -> None:
    evil = "<img src=x onerror=alert(1)>&\"'\x1b[31m\u202e run"
    stored = sample_run.stored(results, finished=1)
    shutil.copytree(stored.path, results / evil)
    (results / "half").mkdir()
    (results / "half" / "run.json").write_text("{")
    listing = requests.get(f"{address}/runs", timeout=10)
    page = requests.get(f"{address}/runs/{quote(evil, safe='')}", timeout=10)
    assert (listing.status_code, page.status_code) == (200, 200)
    for text in (listing.text, page.text):
        assert "<img" not in text
        assert not {"\x1b", "\u202e"} & set(text)
    assert "half/run.json:1: the file is damaged" in listing.text
    assert requests.get(f"{address}/runs/half", timeout=10).status_code == 503


def test_the_state_of_a_cell_is_told_within_two_seconds(
    results: Path, address: str, tmp_path: Path
) -> None:
    heard: list[tuple[float, Event]] = []

    def listen() -> None:
        for event in events(f"{address}/events"):
            heard.append((time.monotonic(), event))
            if event.name == "regions" and "done-and-dusted" in event.data.get("cells", ""):
                return

    ear = threading.Thread(target=listen, daemon=True)
    ear.start()
    happened: list[tuple[float, str, str]] = []

    def step(region: str, text: str) -> None:
        began = time.monotonic()
        happened.append((began, region, text))
        while time.monotonic() < began + WITHIN_S + 1:  # what is late is told by the comparison
            if any(t > began and text in e.data.get(region, "") for t, e in heard if e.data):
                return
            ear.join(0.02)

    with going_on(results) as run:
        step("head", run.info.name)
        trial = LiveTrial(run, FIRST, tmp_path / "replica")
        step("status", "settings are applied")
        trial.inject()
        step("status", "faults are injected")
        trial.start(20.0)
        step("status", ": window")
        trial.answer(16.0, error="db_refused")
        step("figures", "db_refused")
        trial.status(done=True)
        step("status", "audit for lost uploads")
        trial.observe()
        step("status", ": verdict")
        trial.judge()
        step("cells", f'chip {sample_run.verdict(FIRST).outcome}"')
        LiveTrial(run, SECOND, tmp_path / "replica").judge(
            sample_run.disturbed(SECOND, "done-and-dusted")
        )
        step("cells", "done-and-dusted")
    ear.join(5)
    assert not ear.is_alive()
    for at, region, text in happened:
        told = [t - at for t, event in heard if t > at and text in event.data.get(region, "")]
        assert told, text
        assert told[0] <= WITHIN_S, text


def test_a_browser_that_comes_back_hears_only_what_has_changed(
    results: Path, address: str, tmp_path: Path
) -> None:
    with going_on(results) as run:
        trial = LiveTrial(run, FIRST, tmp_path / "replica")
        first = next(events(f"{address}/events"))
        assert set(first.data) == set(REGIONS)
        trial.inject()
        again = next(events(f"{address}/events", {"Last-Event-ID": first.id}))
        assert "status" in again.data
        assert "head" not in again.data
        for unknown in ("", "x-1", "1", f"{first.id}0000", first.id.replace("-", "--")):
            all_of_it = next(events(f"{address}/events", {"Last-Event-ID": unknown}))
            assert set(all_of_it.data) == set(REGIONS), unknown


def test_a_browser_that_leaves_is_forgotten_and_others_go_on(
    results: Path, address: str, site: Site, tmp_path: Path
) -> None:
    with going_on(results) as run:
        trial = LiveTrial(run, FIRST, tmp_path / "replica")
        staying = events(f"{address}/events")
        next(staying)
        for _ in range(3):
            next(events(f"{address}/events"))  # and closes
        trial.inject()
        assert "faults are injected" in next(staying).data["status"]
        for step in range(60):
            if site.listeners == 1:
                break
            trial.start(float(step))  # who has left is noticed when something is to be sent
            next(staying)
        assert site.listeners == 1


def test_nothing_is_looked_at_while_nobody_listens(
    results: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample_run.stored(results, finished=1)
    looks = []
    from lab.web import site as of_site

    look = of_site.Latest.look

    def counted(latest: of_site.Latest) -> object:
        looks.append(time.monotonic())
        return look(latest)

    monkeypatch.setattr(of_site.Latest, "look", counted)
    for _ in range(20):
        requests.get(address, timeout=10)
    ear = events(f"{address}/events")
    next(ear)
    assert len(looks) >= 1
    assert all(later - earlier >= 0.9 for earlier, later in pairwise(looks))


def test_a_run_that_is_removed_under_the_page_is_told(
    results: Path, address: str, tmp_path: Path
) -> None:
    with going_on(results) as run:
        LiveTrial(run, FIRST, tmp_path / "replica")
        ear = events(f"{address}/runs/{run.info.name}/events")
        next(ear)
        shutil.rmtree(run.path)
        told = next(event for event in ear if "problem" in event.data.get("status", ""))
        assert "was removed; `lab runs` lists the runs" in told.data["status"]


def test_the_page_goes_over_to_a_run_that_begins_later(results: Path, address: str) -> None:
    assert "No run yet" in requests.get(address, timeout=10).text
    ear = events(f"{address}/events")
    assert "No run yet" in next(ear).data["head"]
    run = sample_run.stored(results, finished=1)
    assert run.info.name in next(event for event in ear if "head" in event.data).data["head"]


def test_a_server_that_ends_says_so_to_its_browsers(results: Path, site: Site) -> None:
    sample_run.stored(results, finished=1)
    with served(site) as address:
        ear = events(f"{address}/events")
        next(ear)
    *_, last = ear
    assert (last.name, last.data) == (
        "end",
        "This page's server has ended; `lab watch` starts it again.",
    )


def test_a_stream_in_which_nothing_happens_gives_signs_of_life(
    results: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample_run.stored(results, finished=1)
    monkeypatch.setattr("fastapi.routing._PING_INTERVAL", 0.1)
    with requests.get(f"{address}/events", stream=True, timeout=20) as answer:
        assert ": ping" in (line.decode() for line in answer.iter_lines(chunk_size=1))


def test_a_replay_is_sent_to_its_end_and_goes_on_where_it_was(results: Path, address: str) -> None:
    run = sample_run.stored(results, finished=3)
    path = f"{address}/runs/{run.info.name}/replay"
    told = list(events(f"{path}/events?pace=400"))
    assert [event.name for event in told[:2]] == ["moment", "regions"]
    assert (told[-1].name, told[-1].data) == ("end", "The replay is at its end.")
    last = {k: v for event in told if event.name == "regions" for k, v in event.data.items()}
    page = requests.get(f"{path}?at=100000", timeout=10).text
    assert all(html in page for html in last.values())
    resumed = next(events(f"{path}/events?pace=400", {"Last-Event-ID": "60.0"}))
    assert resumed.data["at"] == 60.0


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("pace=0", "pace: Input should be greater than 0"),
        ("pace=fast", "pace: Input should be a valid number"),
        ("pace=1e9", "pace: Input should be less than or equal to 1000"),
        ("at=-1", "at: Input should be greater than or equal to 0"),
        ("at=nan", "at: Input should be"),
    ],
)
def test_a_replay_that_cannot_be_is_told_why(
    results: Path, address: str, query: str, told: str
) -> None:
    run = sample_run.stored(results, finished=1)
    answer = requests.get(f"{address}/runs/{run.info.name}/replay?{query}", timeout=10)
    assert answer.status_code == 400
    assert told in answer.text


def test_a_report_is_made_anew_and_what_is_stored_as_one_is_not_served(
    results: Path, address: str
) -> None:
    run = sample_run.stored(results, finished=1)
    (run.path / "report.html").write_text("<script>alert(1)</script>")
    answer = requests.get(f"{address}/runs/{run.info.name}/report", timeout=60)
    assert answer.status_code == 200
    assert FIRST.id in answer.text
    assert "alert(1)" not in answer.text
    assert "'nonce-" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]


def test_a_report_that_cannot_be_made_is_told_why(results: Path, address: str) -> None:
    run = sample_run.stored(results, finished=1)
    (run.path / "cells").rename(run.path / "moved")
    answer = requests.get(f"{address}/runs/{run.info.name}/report", timeout=60)
    assert answer.status_code in (200, 503)
    assert "Traceback" not in answer.text
