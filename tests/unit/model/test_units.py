from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.model.units import (
    PER,
    RateLimit,
    SizeRange,
    Span,
    format_duration,
    format_rate,
    format_share,
    format_size,
    parse_duration,
    parse_rate,
    parse_share,
    parse_size,
    percent,
)
from lab.paths import ROOT

NANOSECONDS = st.integers(0, 10**15).map(lambda n: round(n / 1e9, 9))
SIZES = st.integers(0, 10**13)


@given(NANOSECONDS)
def test_a_duration_reads_back_as_it_was_written(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, abs=1e-9)


@given(SIZES)
def test_a_size_reads_back_exactly(size: int) -> None:
    assert parse_size(format_size(size)) == size


@given(st.integers(0, 10**6))
def test_a_share_and_a_rate_read_back_as_they_were_written(millionths: int) -> None:
    share = millionths / 1e6
    assert parse_share(format_share(share)) == pytest.approx(share, abs=1e-9)
    assert parse_rate(format_rate(millionths / 1e3)) == pytest.approx(millionths / 1e3, abs=1e-9)


@pytest.mark.parametrize("text", ["5/s", "0.5/s", "500/min", "6/h", "0/s"])
def test_a_rate_is_told_in_the_unit_in_which_it_is_shortest(text: str) -> None:
    assert format_rate(parse_rate(text)) == text


@given(NANOSECONDS, NANOSECONDS)
def test_a_span_reads_back_as_it_was_written(one: float, other: float) -> None:
    span = Span(low=min(one, other), high=max(one, other))
    back = Span.parse(str(span))
    assert (back.low, back.high) == pytest.approx((span.low, span.high), abs=1e-9)
    assert Span.model_validate_json(span.model_dump_json()) == back


@given(SIZES, SIZES)
def test_a_range_of_sizes_reads_back_exactly(one: int, other: int) -> None:
    sizes = SizeRange(low=min(one, other), high=max(one, other))
    assert SizeRange.parse(str(sizes)) == sizes


@given(st.integers(1, 10**6), st.sampled_from(sorted(PER.values())))
def test_a_rate_limit_reads_back_exactly(count: int, per: float) -> None:
    limit = RateLimit(count=count, per=per)
    assert RateLimit.parse(str(limit)) == limit


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (parse_duration, "10 s", 10.0),
        (parse_duration, "10s", 10.0),
        (parse_duration, " 25 ms ", 0.025),
        (parse_duration, "1.5 min", 90.0),
        (parse_duration, "1 h", 3600.0),
        (parse_duration, "50 us", 0.00005),
        (parse_size, "200 KB", 200_000),
        (parse_size, "1 MiB", 1024**2),
        (parse_size, "1.5 MB", 1_500_000),
        (parse_share, "5 %", 0.05),
        (parse_share, "0.1%", 0.001),
        (parse_rate, "300/min", 5.0),
        (Span.parse, "2-5 s", Span(low=2, high=5)),
        (Span.parse, "2 s – 5 s", Span(low=2, high=5)),
        (Span.parse, "500 ms to 2 s", Span(low=0.5, high=2)),
        (Span.parse, "25 ms", Span(low=0.025, high=0.025)),
        (SizeRange.parse, "50 KB - 2 MB", SizeRange(low=50_000, high=2_000_000)),
        (RateLimit.parse, "500/min", RateLimit(count=500, per=60)),
    ],
)
def test_a_text_is_read_with_its_unit(
    parse: Callable[[object], Any], text: str, value: object
) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (parse_duration, 10, "10 has no unit; write the duration like '10 s'"),
        (parse_duration, 2.5, "2.5 has no unit; write the duration like '10 s'"),
        (parse_duration, "10", "'10' is not a duration; write it like '10 s' (units: us, ms, s"),
        (parse_duration, "10 sec", "'10 sec' is not a duration"),
        (parse_duration, "-1 s", "'-1 s' is not a duration"),
        (parse_duration, "", "'' is not a duration"),
        (parse_duration, True, "True is not a duration"),
        (parse_duration, None, "None is not a duration"),
        (parse_duration, ["1 s"], "is not a duration"),
        (parse_size, "200 kb", "'200 kb' is not a size; write it like '200 KB' (units: B, KB, MB"),
        (parse_size, "200 s", "'200 s' is not a size"),
        (parse_share, "0.05", "'0.05' is not a share; write it like '5 %'"),
        (parse_share, 0.05, "0.05 has no unit; write the share like '5 %'"),
        (parse_rate, "5", "'5' is not a rate; write it like '5/s'"),
        (parse_rate, 5, "'5' is not a rate"),
        (parse_rate, "5/day", "'5/day' is not a rate"),
        (Span.parse, "5-2 s", "'5-2 s' runs backwards; write the smaller end first"),
        (Span.parse, "2-5", "'2-5' is not a"),
        (
            Span.parse,
            "2 KB - 5 s",
            "'2 KB - 5 s' is not a range of durations; write it like '2-5 s",
        ),
        (SizeRange.parse, "1 s - 2 MB", "is not a range of sizes; write it like '50 KB - 2 MB'"),
        (RateLimit.parse, "0/min", "'0/min' is not a rate limit; write it like '500/min', or 'off"),
        (RateLimit.parse, "1.5/s", "'1.5/s' is not a rate limit"),
        (RateLimit.parse, 500, "'500' is not a rate limit"),
    ],
)
def test_a_text_that_stands_for_nothing_is_refused(
    parse: Callable[[object], Any], text: object, message: str
) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the message is what is tested
        parse(text)
    assert message in str(error.value)


def test_a_spans_mean_is_that_of_the_uniform_distribution() -> None:
    assert Span(low=2, high=5).mean == 3.5


@pytest.mark.parametrize(
    ("audio", "mean", "above"),
    [
        ("50 KB - 2 MB", 528_613, {1_048_399: 0.1751, 10: 1.0, 2_000_000: 0.0, 50_000: 1.0}),
        ("1 MB", 1_000_000, {999_999: 1.0, 1_000_000: 0.0}),
    ],
)
def test_a_range_of_sizes_is_log_uniform(audio: str, mean: float, above: dict[int, float]) -> None:
    sizes = SizeRange.parse(audio)
    assert sizes.mean == pytest.approx(mean, rel=1e-5)
    for size, share in above.items():
        assert sizes.share_above(size) == pytest.approx(share, abs=1e-4)


def test_a_percentage_is_written_in_one_way() -> None:
    assert [percent(share) for share in (0.0, 0.214, 1.0)] == ["0 %", "21 %", "100 %"]
    unspaced = re.compile(r":[+\d.]*%\}")  # as f"{share:.0%}" would have it
    told = [
        file
        for room in ("lab", "validation")
        for file in sorted((ROOT / room).rglob("*.py"))
        if unspaced.search(file.read_text())
    ]
    assert told == []
