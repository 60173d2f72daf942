"""A load with a mix and health probes, by the real generator against a real service."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from lab.load import audio, schedule
from lab.load.plan import GeneratorStatus
from lab.model.evidence import Cause
from lab.model.journeys import OF_PATH, REQUESTS, Journey
from lab.model.load import AnyLoad, Mix
from lab.model.replica import REQUEST_HEADER, token
from lab.observe.observer import answered
from tests.component.load.conftest import load_of, offer, serving

SHARES = {"upload": "40 %", "assess": "20 %", "convert": "20 %", "progress": "20 %"}


@dataclass
class Students:
    """Answers every journey as the service does; ``broken`` ones with what is no answer to it."""

    url: str = ""
    broken: frozenset[Journey] = frozenset()
    delay: dict[Journey, float] = field(default_factory=dict)
    received: list[tuple[Journey, Request, bytes]] = field(default_factory=list)

    async def answer(self, request: Request) -> Response:
        journey = OF_PATH[request.url.path]
        self.received.append((journey, request, await request.body()))
        await asyncio.sleep(self.delay.get(journey, 0.0))
        if journey in self.broken:
            return Response(b"RIFF", media_type="audio/wav")
        name = request.headers[REQUEST_HEADER]
        answers: dict[Journey, Response] = {
            Journey.UPLOAD: JSONResponse({"recording": f"r-{name}"}),
            Journey.ASSESS: JSONResponse({"assessment": f"a-{name}", "score": 71.5}),
            Journey.CONVERT: Response(audio.wav(500, b"\0" * 2000), media_type="audio/wav"),
            Journey.PROGRESS: JSONResponse({"recordings": []}),
            Journey.HEALTH: JSONResponse({"status": "ok"}),
        }
        return answers[journey]


@pytest.fixture
def students() -> Iterator[Students]:
    made = Students()
    routes = {of.path: (made.answer, of.method) for of in REQUESTS.values()}
    with serving(routes) as url:
        made.url = url
        yield made


def mixed(load: AnyLoad, shares: dict[str, str] = SHARES) -> AnyLoad:
    return load.model_copy(update={"mix": Mix.parse(shares)})


def test_every_journey_is_asked_for_as_its_draw_says(tmp_path: Path, students: Students) -> None:
    load = mixed(load_of(users=6, ramp=0, warmup=0.1, window=1.5, think=0.05))
    done = offer(tmp_path, students.url, load)
    assert {s.journey for s in done.samples} == {Journey(name) for name in SHARES}
    assert {s.error for s in done.samples} == {None}
    for sample in done.samples:
        user, number = map(int, str(sample.request).split("-"))
        drawn = schedule.journey_of(load, 1, user, number, sample.planned_at)
        assert sample.journey is drawn
        assert (sample.bytes > 0) == REQUESTS[drawn].audio
    asked = {request.headers[REQUEST_HEADER]: journey for journey, request, _ in students.received}
    assert asked == {sample.request: sample.journey for sample in done.samples}


def test_an_id_is_kept_of_what_was_stored_and_only_recordings_are_audited(
    tmp_path: Path, students: Students
) -> None:
    load = mixed(load_of(burst=40, timeout=10))
    done = offer(tmp_path, students.url, load)
    ids = {
        journey: {s.recording for s in done.samples if s.journey is journey} for journey in Journey
    }
    assert ids[Journey.CONVERT] == ids[Journey.PROGRESS] == {None}
    assert all(str(name).startswith("a-") for name in ids[Journey.ASSESS])
    assert answered(tmp_path / "samples.jsonl") == ids[Journey.UPLOAD]


def test_each_journey_goes_with_what_it_needs(tmp_path: Path, students: Students) -> None:
    load = mixed(load_of(burst=40, timeout=10))
    offer(tmp_path, students.url, load)
    rates = {16_000: {Journey.UPLOAD, Journey.ASSESS}, 44_100: {Journey.CONVERT}}
    for journey, request, body in students.received:
        assert re.fullmatch("Bearer .+", request.headers["authorization"])
        assert request.method == REQUESTS[journey].method
        if not REQUESTS[journey].audio:
            assert body == b""
            assert "content-type" not in request.headers
            continue
        file = body.split(b"\r\n\r\n", 1)[1]
        assert file.startswith(b"RIFF")
        assert journey in rates[int.from_bytes(file[24:28], "little")]
    assert {request.headers["authorization"] for _, request, _ in students.received} == {
        f"Bearer {token(user)}" for user in range(40)
    }


@pytest.mark.parametrize("journey", [Journey(name) for name in SHARES])
def test_a_200_that_is_no_answer_to_it_is_a_defect(
    tmp_path: Path, students: Students, journey: Journey
) -> None:
    students.broken = frozenset({journey})
    done = offer(tmp_path, students.url, mixed(load_of(burst=3), {str(journey): "100 %"}))
    assert [(s.journey, s.error) for s in done.samples] == [(journey, Cause.INTERNAL_ERROR)] * 3


def test_health_is_asked_for_beside_the_users_whatever_keeps_them(
    tmp_path: Path, students: Students
) -> None:
    students.delay = {Journey.UPLOAD: 0.6}
    load = load_of(users=3, ramp=0, warmup=0, window=1.05, health_every=0.1)
    done = offer(tmp_path, students.url, load)
    probes = [s for s in done.samples if s.journey is Journey.HEALTH]
    assert sorted(s.planned_at for s in probes) == pytest.approx([n / 10 for n in range(11)])
    assert {(s.status, s.error, s.user, s.bytes) for s in probes} == {(200, None, 3, 0)}
    assert len({s.request for s in probes}) == len(probes)
    uploads = [s for s in done.samples if s.journey is Journey.UPLOAD]
    assert len(uploads) == 6
    assert done.ticks[-1].sent == done.ticks[-1].answered == len(uploads)
    asked = [request for journey, request, _ in students.received if journey is Journey.HEALTH]
    assert all("authorization" not in request.headers for request in asked)


def test_a_probe_is_given_up_after_its_own_time_and_the_next_is_not_late(
    tmp_path: Path, students: Students
) -> None:
    students.delay = {Journey.HEALTH: 0.7}
    keys = {"health_every": 0.2, "health_timeout": 0.5}
    done = offer(tmp_path, students.url, load_of(users=1, ramp=0, warmup=0, window=1, **keys))
    probes = [s for s in done.samples if s.journey is Journey.HEALTH]
    assert len(probes) == 5
    assert {(s.status, s.error) for s in probes} == {(0, Cause.CLIENT_TIMEOUT)}
    assert all(0.5 <= s.latency_s < 0.6 for s in probes)
    assert max(s.sent_at - s.planned_at for s in probes) < 0.1


def test_in_a_burst_health_is_asked_for_until_the_last_is_answered(
    tmp_path: Path, students: Students
) -> None:
    students.delay = {Journey.UPLOAD: 0.55}
    done = offer(tmp_path, students.url, load_of(burst=4, timeout=10, health_every=0.1), speed=1)
    probes = [s.planned_at for s in done.samples if s.journey is Journey.HEALTH]
    assert sorted(probes) == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])


def test_what_is_under_way_is_told_by_journey(tmp_path: Path) -> None:
    status = GeneratorStatus(0.0, 5, False, under_way=(1.0,), others_under_way={"assess": (2.0,)})
    status.write(tmp_path / "status.json")
    assert GeneratorStatus.read(tmp_path / "status.json") == status
    (tmp_path / "status.json").write_text(json.dumps({"t0": 0, "others_under_way": 7}))
    assert GeneratorStatus.read(tmp_path / "status.json") is None


def test_a_line_of_an_upload_is_as_an_earlier_lab_wrote_it(
    tmp_path: Path, students: Students
) -> None:
    offer(tmp_path, students.url, load_of(burst=2, timeout=10))
    lines = (tmp_path / "samples.jsonl").read_text().splitlines()
    keys = {tuple(json.loads(line)) for line in lines if not line.startswith('{"beat"')}
    assert keys == {
        (
            *("planned_at", "sent_at", "latency_s", "status", "error", "bytes", "user", "stage"),
            *("stages", "recording", "request", "uplink_s", "worker"),
        )
    }
