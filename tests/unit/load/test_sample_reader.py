from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab.load.driver import SampleReader


def line(ended: float, error: str | None = None) -> str:
    return json.dumps({"sent_at": ended - 1, "latency_s": 1, "error": error}) + "\n"


def test_totals_run_and_a_torn_line_waits_for_its_end(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    torn = line(2.0)
    path.write_text(line(1.0) + line(1.5, "connection") + torn[:10])
    reader = SampleReader(path)
    reader.read()
    assert (reader.answered, reader.failed) == (2, 1)
    with path.open("a") as file:
        file.write(torn[10:])
    reader.read()
    reader.read()
    assert (reader.answered, reader.failed) == (3, 1)


def test_the_rate_is_that_of_the_last_five_seconds_or_of_all_if_fewer(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text("".join(line(t) for t in (1, 2, 6, 7, 8, 9)) + line(9, "gcs_error"))
    reader = SampleReader(path)
    reader.read()
    assert reader.rate(0) == 0
    assert reader.rate(2) == pytest.approx(6 / 2)
    assert reader.rate(10) == pytest.approx(4 / 5)
    assert reader.rate(20) == 0


@pytest.mark.parametrize(
    "raw",
    [
        *('{"x": 1}', "5", "null", "[]", '"beat"', "no JSON", "", "{}{", "[" * 100_000, "\udcff"),
        *('{"beat": "soon"}', '{"beat": null}', '{"beat": %s}' % ("9" * 400), '{"error": 5}'),
        '{"error": null, "sent_at": "1", "latency_s": 1}',
        '{"error": null, "sent_at": 1, "latency_s": "1"}',
        '{"error": null, "sent_at": 1.5, "latency_s": %s}' % ("9" * 400),
        '{"error": null, "sent_at": 1}',
    ],
)
def test_a_line_of_somebody_elses_is_not_counted(tmp_path: Path, raw: str) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_bytes((line(1.0) + raw + "\n" + line(1.5)).encode(errors="surrogateescape"))
    reader = SampleReader(path)
    reader.read()
    assert (reader.answered, reader.failed, reader.beat) == (2, 0, 0.0)
    assert reader.rate(2) == pytest.approx(2 / 2)
