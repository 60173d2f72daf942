"""The line that blocks, on the running replica: named where a call blocks, and nowhere else."""

from __future__ import annotations

import re
from typing import Any

import pytest

from lab.judge.trial import Trial
from lab.model.journeys import Journey
from lab.services.backend.core.standing import SERVICE
from tests.live import Live
from tests.replica.trial import trial

pytestmark = pytest.mark.replica

LOAD = {"users": 6, "ramp": "0 s", "warmup": "10 s", "window": "40 s", "audio": "50 KB"}
SPEED = 10
STORAGE = ("services/audio_upload.py", "blob.upload_from_string(", "upload_from_string")
QUERIES = (
    ("services/authentication.py", "student = session.scalar(", "scalar"),
    ("api/students.py", "session.flush()", "flush"),
)
"""The file, how its line begins, and the function that is called there."""


def line_of(place: str) -> tuple[str, str, str]:
    """The file, the text of the line that a place names, and the function."""
    found = re.fullmatch(r"(\S+):(\d+) (.+)", place)
    assert found, place
    file, number, called = found.groups()
    with open(f"{SERVICE}{file}", encoding="utf-8") as lines:  # noqa: PTH123 - of a text prefix
        return file, lines.read().splitlines()[int(number) - 1].strip(), called


def named(places: list[str], line: tuple[str, str, str]) -> bool:
    found = [line_of(place) for place in places]
    return any((f, c) == (line[0], line[2]) and text.startswith(line[1]) for f, text, c in found)


@pytest.mark.parametrize(
    ("settings", "at_least", "lines"),
    [
        ({"gcs_call": "blocking", "db_call": "threadpool"}, 0.8, [STORAGE]),
        ({"gcs_call": "blocking", "db_call": "blocking"}, 0.8, [STORAGE]),
        ({"gcs_call": "executor", "db_call": "blocking"}, 0.05, QUERIES),
        ({"gcs_call": "executor", "db_call": "threadpool"}, 0.0, []),
    ],
    ids=["storage", "as found", "database", "neither"],
)
def test_the_line_that_blocks_is_named_and_no_line_where_none_does(
    live: Live, settings: dict[str, Any], at_least: float, lines: list[tuple[str, str, str]]
) -> None:
    cell, seen = trial(live, {"speed": SPEED, **settings}, LOAD)
    of = Trial(cell, seen)
    places = [row.place for row in of.stood]
    assert all(named(places, line) for line in lines), of.stood
    assert bool(places) is bool(lines), of.stood
    if settings["gcs_call"] == "blocking":
        assert named(places[:1], STORAGE), of.stood
    assert of.metrics["loop_stood"] >= at_least
    assert of.metrics["loop_stood"] <= of.metrics["loop_busy"] + 0.05


CONVERSION = ("services/conversion.py", "return encode(samplerate.resample(", "in to_16_khz")
CONVERTING = {**LOAD, "audio": "900 KB", "mix": {"upload": "50 %", "convert": "50 %"}}


@pytest.mark.parametrize("call", ["blocking", "audio_pool"])
def test_a_conversion_in_the_loop_is_named_by_its_line_and_none_in_a_thread(
    live: Live, call: str
) -> None:
    settings = {"gcs_call": "executor", "db_call": "threadpool", "convert_call": call}
    cell, seen = trial(live, {"speed": 4, **settings}, CONVERTING)
    of = Trial(cell, seen)
    places = [row.place for row in of.stood]
    assert {sample.status for sample in of.of(Journey.CONVERT).samples} == {200}
    assert named(places[:1], CONVERSION) is (call == "blocking"), of.stood
    assert bool(places) is (call == "blocking"), of.stood
