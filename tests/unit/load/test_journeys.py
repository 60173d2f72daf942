"""What each attempt of a load with a mix is, what it sends, and what its answer means."""

from __future__ import annotations

import io
import wave
from collections import Counter

import pytest
from scipy import stats

from lab.load import audio, schedule, upload
from lab.model.evidence import Cause
from lab.model.journeys import Journey
from lab.model.load import AnyLoad, ClosedLoad, Mix, OpenLoad
from lab.model.replica import ADDRESS_HEADER
from lab.model.units import SizeRange
from tests.component.load.conftest import load_of

MIX = Mix.parse({"upload": "70 %", "assess": "20 %", "progress": "10 %"})
FORMS: dict[str, AnyLoad] = {
    "closed": load_of(users=50),
    "stages": load_of(stages=[{"users": 50, "hold": 60}]),
    "burst": load_of(burst=50),
    "open": load_of(rate=50),
}


def mixed(load: AnyLoad, mix: Mix | None = MIX) -> AnyLoad:
    return load.model_copy(update={"mix": mix})


def drawn(load: AnyLoad, seed: int = 1) -> list[Journey]:
    """A hundred attempts of each of fifty users; of an open load each at a moment of its own."""
    return [
        schedule.journey_of(load, seed, user, number, planned=number + user / 100)
        for user in range(50)
        for number in range(1, 101)
    ]


@pytest.mark.parametrize("form", FORMS)
def test_each_journey_has_its_share_whatever_the_form_of_the_load(form: str) -> None:
    load = mixed(FORMS[form])
    counts = Counter(drawn(load))
    expected = {journey: 5000 * share for journey, share in load.shares.items()}
    observed = [counts[journey] for journey in expected]
    assert sum(observed) == 5000
    assert stats.chisquare(observed, list(expected.values())).pvalue > 0.001


@pytest.mark.parametrize("form", FORMS)
def test_the_seed_alone_says_what_an_attempt_is(form: str) -> None:
    load = mixed(FORMS[form])
    assert drawn(load) == drawn(load)
    assert drawn(load) != drawn(load, seed=2)


def test_who_takes_an_arrival_does_not_change_what_it_is() -> None:
    load = mixed(FORMS["open"])
    assert isinstance(load, OpenLoad)
    for at in schedule.arrivals(load, 1)[:50]:
        taken = {
            schedule.journey_of(load, 1, user, number=user + 1, planned=at) for user in range(9)
        }
        assert len(taken) == 1


def test_attempts_of_a_user_do_not_depend_on_how_long_the_others_took() -> None:
    load = mixed(FORMS["closed"])
    early = [schedule.journey_of(load, 1, 3, number, planned=number) for number in range(1, 60)]
    late = [
        schedule.journey_of(load, 1, 3, number, planned=9.0 * number) for number in range(1, 60)
    ]
    assert early == late
    assert len(set(early)) > 1


def test_without_a_mix_all_are_uploads_and_of_one_journey_all_are_that() -> None:
    assert set(drawn(FORMS["closed"])) == {Journey.UPLOAD}
    only = mixed(FORMS["closed"], Mix.parse({"progress": "100 %"}))
    assert set(drawn(only)) == {Journey.PROGRESS}


def test_health_is_asked_for_at_even_intervals_from_the_start() -> None:
    load = ClosedLoad(users=1).model_copy(update={"health_every": 10.0})
    planned = schedule.probes(load)
    assert [next(planned) for _ in range(4)] == [0.0, 10.0, 20.0, 30.0]
    assert list(schedule.probes(ClosedLoad(users=1))) == []


@pytest.mark.parametrize(
    ("keys", "seconds"),
    [
        ({"health_every": 10.0}, 10.0),
        ({"health_every": 10.0, "health_timeout": 60.0}, 60.0),
        ({"health_every": 300.0}, 120.0),
    ],
)
def test_a_probe_waits_until_the_next_one_unless_it_is_told_otherwise(
    keys: dict[str, float], seconds: float
) -> None:
    load = ClosedLoad(users=1).model_copy(update=keys)
    assert load.timeout_of(Journey.HEALTH) == seconds
    assert load.timeout_of(Journey.PROGRESS) == 120.0


WAV = audio.wav(2000, audio.voice(1))
JSON, PROBLEM = "application/json", "application/problem+json"


@pytest.mark.parametrize(
    ("journey", "kind", "body", "expected"),
    [
        (Journey.ASSESS, JSON, b'{"assessment": "a1", "score": 7.5}', (None, "a1")),
        (Journey.ASSESS, JSON, b'{"recording": "a1"}', (Cause.INTERNAL_ERROR, None)),
        (Journey.UPLOAD, JSON, b'{"assessment": "a1"}', (Cause.INTERNAL_ERROR, None)),
        (Journey.CONVERT, "audio/wav", WAV, (None, None)),
        (Journey.CONVERT, "Audio/WAV; x=1", WAV, (None, None)),
        (Journey.CONVERT, "audio/wav", WAV[:-10], (Cause.INTERNAL_ERROR, None)),
        (Journey.CONVERT, "audio/wav", b"", (Cause.INTERNAL_ERROR, None)),
        (
            Journey.CONVERT,
            "audio/wav",
            b"RIFF" + WAV[4:8] + b"AVI " + WAV[12:],
            (Cause.INTERNAL_ERROR, None),
        ),
        (Journey.CONVERT, JSON, WAV, (Cause.INTERNAL_ERROR, None)),
        (Journey.PROGRESS, JSON, b'{"recordings": []}', (None, None)),
        (Journey.PROGRESS, JSON, b"[]", (Cause.INTERNAL_ERROR, None)),
        (Journey.PROGRESS, JSON, b"<html>", (Cause.INTERNAL_ERROR, None)),
        (Journey.HEALTH, JSON, b'{"status": "ok"}', (None, None)),
        (Journey.HEALTH, JSON, b"", (Cause.INTERNAL_ERROR, None)),
    ],
)
def test_what_a_200_means(
    journey: Journey, kind: str, body: bytes, expected: tuple[Cause | None, str | None]
) -> None:
    assert upload.outcome(200, kind, body, journey) == expected


@pytest.mark.parametrize("journey", Journey)
def test_a_failure_means_the_same_whatever_was_asked_for(journey: Journey) -> None:
    named = b'{"cause": "db_refused"}'
    assert upload.outcome(503, PROBLEM, named, journey) == (Cause.DB_REFUSED, None)
    assert upload.outcome(504, "text/html", b"", journey) == (Cause.GATEWAY_TIMEOUT, None)


def test_each_journey_sends_what_it_needs() -> None:
    of_upload = upload.headers(7)
    assert of_upload["Content-Type"].startswith("multipart/form-data")
    progress = upload.headers(7, Journey.PROGRESS)
    assert "Content-Type" not in progress
    assert progress["Authorization"] == of_upload["Authorization"]
    assert upload.headers(7, Journey.CONVERT)["Accept"] == "audio/wav"
    assert upload.headers(7, Journey.HEALTH).keys() & {"Authorization", ADDRESS_HEADER} == set()


def test_what_is_to_be_converted_is_at_another_rate() -> None:
    size = SizeRange(low=20_000, high=20_000)
    [plain], [device] = (
        audio.recordings(size, 1)[:1],
        audio.recordings(size, 1, audio.DEVICE_RATE)[:1],
    )
    assert len(plain) == len(device) == 20_000
    with wave.open(io.BytesIO(device)) as read:
        assert (read.getframerate(), read.getnchannels()) == (44_100, 1)
        assert read.getnframes() == (20_000 - audio.HEADER) // 2
