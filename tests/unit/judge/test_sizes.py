"""Uploads by size of file: where classes are cut, what each holds, and who is too large."""

from __future__ import annotations

from typing import Any

import pytest

from lab.judge import judge
from lab.judge.sizes import boundaries, by_size, oversize
from lab.judge.trial import Trial
from lab.model.distribution import SizeClass
from lab.model.evidence import Cause, Sample
from lab.model.journeys import Journey
from lab.model.replica import MULTIPART_BYTES
from lab.model.run import as_json
from lab.model.units import SizeRange
from lab.model.verdict import Verdict
from tests.unit.judge.observations import cell, observation, sample

MIB = 1024**2
LIMIT = MIB - MULTIPART_BYTES
REPORT = {"users": 5, "audio": "50 KB - 2 MB"}


def of(*sizes: int, error: Cause | None = None, **more: Any) -> list[Sample]:
    return [sample(bytes=size, error=error, **more) for size in sizes]


def trial(sent: list[Sample], load: dict[str, Any] | None = None, **settings: Any) -> Trial:
    return Trial(cell(load=load or REPORT, **settings), observation(sent))


@pytest.mark.parametrize(
    ("audio", "limit", "cut"),
    [
        ("50 KB - 2 MB", None, [50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000]),
        ("50 KB - 2 MB", LIMIT, [50_000, 100_000, 200_000, 500_000, LIMIT, 2_000_000]),
        ("50 KB - 2 MB", 3 * MIB, [50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000]),
        ("180 KB - 220 KB", LIMIT, [180_000, 220_000]),
        ("46 B - 100 MB", None, [46, 100, *(10**n for n in range(3, 9))]),
    ],
)
def test_classes_are_cut_at_round_sizes_and_at_the_limit(
    audio: str, limit: int | None, cut: list[int]
) -> None:
    assert boundaries(SizeRange.parse(audio), limit) == cut


def test_each_upload_is_in_one_class_with_what_became_of_it() -> None:
    sent = [
        *of(50_000, latency=2.0),
        *of(100_000, latency=4.0),
        *of(100_001, error=Cause.POOL_TIMEOUT),
        *of(LIMIT, latency=6.0),
        *of(LIMIT + 1, 2_000_000, error=Cause.BODY_TOO_LARGE, status=413),
    ]
    classes = by_size(trial(sent))
    assert [(one.from_, one.to, one.attempts, one.failed) for one in classes] == [
        (50_000, 100_000, 2, 0),
        (100_000, 200_000, 1, 1),
        (200_000, 500_000, 0, 0),
        (500_000, LIMIT, 1, 0),
        (LIMIT, 2_000_000, 2, 2),
    ]
    assert [one.causes for one in classes] == [
        {},
        {"pool_timeout": 1},
        {},
        {},
        {"body_too_large": 2},
    ]
    assert [(one.p50, one.p95) for one in classes] == [
        (2.0, 4.0),
        (None, None),
        (None, None),
        (6.0, 6.0),
        (None, None),
    ]
    assert sum(one.attempts for one in classes) == len(sent)


def test_a_header_that_makes_a_file_larger_than_its_range_is_no_reason_to_lose_it() -> None:
    classes = by_size(trial(of(49_999, 2_000_001)))
    assert [one.attempts for one in classes] == [1, 0, 0, 0, 1]


def test_there_are_no_classes_of_one_size_nor_of_nothing() -> None:
    assert by_size(trial(of(50_000), {"users": 5, "audio": "50 KB"})) == ()
    assert by_size(trial([])) == ()


@pytest.mark.parametrize(
    ("settings", "share"),
    [
        ({}, 0.5),
        ({"nginx": "recommended"}, 0.0),
        ({"nginx_body": "off"}, None),
        ({"nginx_body": "off", "backend_body": "2 MB"}, 0.25),
        ({"target": "cloudrun"}, 0.0),
        ({"target": "cloudrun", "backend_body": "1 MiB"}, 0.5),
    ],
)
def test_too_large_is_whose_body_is_above_the_least_limit(
    settings: dict[str, Any], share: float | None
) -> None:
    sent = of(50_000, LIMIT, LIMIT + 1, 2_000_000)
    assert oversize(trial(sent, **settings)) == share


def test_other_journeys_are_no_uploads() -> None:
    others = of(2_000_000, journey=Journey.CONVERT)
    assert oversize(trial(of(50_000) + others)) == 0.0
    assert sum(one.attempts for one in by_size(trial(of(50_000) + others))) == 1
    assert oversize(trial(others)) is None


def test_the_verdict_holds_them_and_is_read_back() -> None:
    verdict = judge(cell(load=REPORT), observation(of(50_000, 2_000_000)))
    assert '"from": 50000' in as_json(verdict)
    again = Verdict.model_validate_json(as_json(verdict))
    assert again.sizes == verdict.sizes
    assert verdict.sizes[0] == SizeClass.model_validate(
        {"from": 50_000, "to": 100_000, "attempts": 1, "failed": 0, "p50": 4.0, "p95": 4.0}
    )
    assert verdict.metrics["oversize"] == 0.5
