"""Stored values are bounded: each hostile one is named with its file and line."""

from __future__ import annotations

import json
import os
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab.errors import StoreError
from lab.model.evidence import EVIDENCE, Sample
from lab.model.extent import SAMPLES_PER_S, Extent
from lab.store import CellFolder, RunFolder, runs
from tests.fakes import make_cell
from tests.fakes import sample_run as sample


@pytest.fixture
def folder(tmp_path: Path) -> CellFolder:
    """A cell of 50 users and 75 s of load at speed 5, observed and judged."""
    run = sample.stored(tmp_path, finished=1)
    return run.cell(run.info.cells[0])


def _text(value: Any) -> str:
    """JSON, with what JSON cannot hold as Python writes it."""
    return json.dumps(value)


SAMPLE = sample.samples(1)[0].model_dump(mode="json")
AUDIT = sample.evidence()[-1].model_dump(mode="json")
HUGE = 10**400


def _sample(changes: dict[str, Any]) -> str:
    return _text({**SAMPLE, **changes})


TOO_LATE = "no load of this cell lasts beyond 432195 s"

SAMPLES: dict[str, tuple[str, str]] = {
    "nan": (_sample({"latency_s": float("nan")}), "latency_s: Input should be a finite number"),
    "infinity": (_sample({"sent_at": float("inf")}), "sent_at: Input should be a finite number"),
    "1e308": (_sample({"latency_s": 1e308}), "latency_s: Input should be less than or equal to"),
    "1e999": (_text(SAMPLE).replace("3.7", "1e999"), "latency_s: Input should be a finite number"),
    "negative": (_sample({"latency_s": -0.001}), "latency_s: Input should be greater than or"),
    "400 digits": (_sample({"bytes": HUGE}), "bytes: Input should be less than or equal to"),
    "400 digits of a time": (_sample({"sent_at": HUGE}), "sent_at: Input should be"),
    "5000 digits": (_text(SAMPLE).replace("200000", "9" * 5000), "Invalid JSON: number out of"),
    "a user there is not": (_sample({"user": 50}), "user 50, and there are 50"),
    "one changed byte": (_sample({"user": 749_958_119}), "user 749958119, and there are 50"),
    "30 years": (_sample({"latency_s": 9e6}), f"ended at 9000015 s, and {TOO_LATE}"),
    "planned too late": (_sample({"planned_at": 9e6}), f"planned at 9000000 s, and {TOO_LATE}"),
    "a file of 1 TB": (_sample({"bytes": 10**12}), "1000000000000 bytes, and the largest file has"),
    "a stage there is not": (_sample({"stage": 1}), "stage 1, and there are 1"),
    "a stage's time": (
        _sample({"stages": {"gcs": -1}}),
        "stages.gcs: Input should be",
    ),
    "nested": ("[" * 100_000, "Invalid JSON: recursion limit exceeded"),
    "nested inside": (
        _text(SAMPLE).replace("200000", "[" * 5000 + "]" * 5000),
        "Invalid JSON: recursion limit exceeded",
    ),
    "not UTF-8": ('{"user": "\udcff"}', "Invalid JSON: invalid unicode code point"),
    "zero bytes": ("\0" * 9, "Invalid JSON: expected value"),
}


@pytest.mark.parametrize("case", SAMPLES)
def test_a_hostile_sample_is_named_with_its_line(folder: CellFolder, case: str) -> None:
    line, says = SAMPLES[case]
    lines = [one.model_dump_json() for one in sample.samples(3)]
    text = "\n".join([*lines[:1], line, *lines[1:], ""])
    folder.samples.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(StoreError) as caught:
        folder.read_observation()
    assert str(caught.value).startswith(f"{folder.samples}:2: the line is damaged: {says}")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


EVIDENCES: dict[str, tuple[dict[str, Any], str]] = {
    "nan": ({"t": float("nan")}, "audit.t: Input should be a finite number"),
    "1e308": ({"t": 1e308}, "audit.t: Input should be less than or equal to 1000000000000"),
    "negative": ({"rows": -1}, "audit.rows: Input should be greater than or equal to 0"),
    "400 digits": ({"objects": HUGE}, "audit.objects: Input should be less than or equal to"),
    "a toxic of no number": (
        {"kind": "injected", "toxics": [{"toxicity": float("nan")}]},
        "injected.toxics.0.toxicity: Value error, a number is not finite",
    ),
    "a toxic far within": (
        {"kind": "injected", "toxics": [{"attributes": {"latency": [1e999]}}]},
        "injected.toxics.0.attributes: Value error, a number is not finite",
    ),
}


@pytest.mark.parametrize("case", EVIDENCES)
def test_hostile_evidence_is_named_with_its_line(folder: CellFolder, case: str) -> None:
    changes, says = EVIDENCES[case]
    folder.evidence.write_text(f"{_text(AUDIT)}\n{_text({**AUDIT, **changes})}\n")
    with pytest.raises(StoreError) as caught:
        folder.read_observation()
    assert str(caught.value).startswith(f"{folder.evidence}:2: the line is damaged: {says}")


def test_what_is_before_the_load_or_of_a_clock_that_was_set_is_read() -> None:
    for t in (-3.5, -180_000.0, 180_000.0):
        line = json.dumps({"kind": "database", "t": t, "connections": 3})
        assert EVIDENCE.validate_json(line).t == t


def _nested(path: Path) -> None:
    path.write_text('{"experiment": ' + "[" * 200_000)


def _digits(path: Path) -> None:
    path.write_text(path.read_text().replace("{", f'{{"x": {HUGE}, "y": {"9" * 5000}, ', 1))


def _zeros(path: Path) -> None:
    os.truncate(path, 10**9)


def _not_text(path: Path) -> None:
    path.write_bytes(b'{\n"a": "\xff\xfe"}')


def _pairs(path: Path) -> None:
    path.write_text('{"cell": {}' + ', "cell": {}' * 600_000 + "}")


DOCUMENTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "nested": (_nested, "the file is damaged: it is nested too deeply"),
    "digits": (_digits, "the file is damaged: a number in it is beyond all measure"),
    "1 GB": (_zeros, "the file is damaged: it is larger than 8 MiB, and the lab writes none such"),
    "not UTF-8": (_not_text, "the file is damaged: not UTF-8"),
    "the same key": (_pairs, "the file is not a "),
    "nothing": (lambda path: path.write_bytes(b""), "the file is damaged: Expecting value"),
    "no object": (lambda path: path.write_text("null"), "the file is not a "),
}


@pytest.mark.parametrize("case", DOCUMENTS)
@pytest.mark.parametrize("name", ["cell.json", "verdict.json", "run.json"])
def test_a_hostile_document_is_named(folder: CellFolder, name: str, case: str) -> None:
    damage, says = DOCUMENTS[case]
    if name == "run.json":
        path = folder.path.parent.parent / name
        damage(path)
        read: Callable[[], object] = lambda: RunFolder.open(path.parent)  # noqa: E731
    else:
        path = folder.path / name
        damage(path)
        read = folder.read_cell if name == "cell.json" else folder.read_verdict
    tracemalloc.start()
    with pytest.raises(StoreError) as caught:
        read()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert says in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert peak < 300e6


VERDICTS: dict[str, tuple[tuple[Any, ...], Any, str]] = {
    "nan": (("metrics", "p95"), float("nan"), "metrics.p95: Input should be a finite number"),
    "1e308": (("metrics", "p95"), 1e308, "metrics.p95: Input should be less than or equal to"),
    "no criterion": (("findings", 0, "criterion"), "p[] < 10 s", "'p[] < 10 s' is not a criterion"),
    "400 digits": (("findings", 0, "samples"), HUGE, "findings.0.samples: Input should be less"),
}


@pytest.mark.parametrize("case", VERDICTS)
def test_a_hostile_verdict_is_named(folder: CellFolder, case: str) -> None:
    (*above, key), value, says = VERDICTS[case]
    data = json.loads((folder.path / "verdict.json").read_text())
    inner = data
    for step in above:
        inner = inner[step]
    inner[key] = value
    (folder.path / "verdict.json").write_text(_text(data))
    with pytest.raises(StoreError) as caught:
        folder.read_verdict()
    assert says in str(caught.value)


def test_one_nested_run_leaves_the_others_listed(tmp_path: Path) -> None:
    good, bad = sample.stored(tmp_path, finished=1), sample.create(tmp_path)
    _nested(bad.path / "run.json")
    listed = {run.name: run.problem for run in runs(tmp_path)}
    assert listed[good.info.name] is None
    assert "run.json: the file is damaged" in (listed[bad.info.name] or "")


@pytest.mark.parametrize("name", ["samples.jsonl", "evidence.jsonl"])
def test_a_line_without_end_is_read_no_further(folder: CellFolder, name: str) -> None:
    os.truncate(folder.path / name, 10**9)
    began = time.monotonic()
    with pytest.raises(StoreError, match="the line is damaged: it is longer than 4 MiB, and the"):
        folder.read_observation()
    assert time.monotonic() - began < 5


def test_a_file_beyond_all_measure_is_not_read(folder: CellFolder) -> None:
    os.truncate(folder.samples, 2 * 1024**3)
    with pytest.raises(StoreError, match="the file is damaged: it is larger than 1 GiB, and the"):
        folder.read_observation()


def test_more_samples_than_a_load_can_send_are_damage(folder: CellFolder) -> None:
    line = _sample({"latency_s": 0.0}) + "\n"
    limit = Extent(folder.read_cell()).lines_of_load
    folder.samples.write_text(line * (limit + 1))
    says = f"samples.jsonl:{limit + 1}: the line is damaged: no load of this cell writes more than"
    with pytest.raises(StoreError, match=says):
        folder.read_observation()


def test_users_have_no_time_for_uploads_again_and_again(folder: CellFolder) -> None:
    """50 users have 1,695 s each at most: ramp, warm-up and window, a time-out, and to spare."""
    for change, number in (({}, 50 * 1695 / 3.7), ({"error": "connection"}, 50 * 1695 / 4.7)):
        lines = f"{_sample(change)}\n" * (int(number) + 1)
        folder.samples.write_text(lines)
        says = f"samples.jsonl:{int(number) + 1}: the line is damaged: 50 users have no time for"
        with pytest.raises(StoreError, match=says):
            folder.read_observation()


def test_more_evidence_than_a_trial_leaves_is_damage(folder: CellFolder) -> None:
    lines = folder.evidence.read_text().splitlines(keepends=True)
    limit = Extent(folder.read_cell()).lines(20)
    folder.evidence.write_text(lines[0] * limit + lines[-1])
    says = f"evidence.jsonl:{limit + 1}: the line is damaged: no trial of this cell leaves more"
    with pytest.raises(StoreError, match=says):
        folder.read_observation()


@pytest.mark.parametrize(
    ("load", "speed", "samples"),
    [
        ({"users": 50, "ramp": "0 s", "warmup": "0 s", "window": "60 s"}, 5, 12 * SAMPLES_PER_S),
        ({"rate": "20/s", "warmup": "0 s", "window": "60 s"}, 1, 60 * SAMPLES_PER_S),
        ({"burst": 100}, 1, 100),
    ],
)
def test_the_bounds_are_far_above_what_a_load_sends(
    load: dict[str, Any], speed: float, samples: int
) -> None:
    extent = Extent(make_cell({"speed": speed}, load=load))
    assert samples < extent.lines_of_load
    readings = 10 * extent.cell.knobs.workers + 10 + 1
    assert extent.lines(1000) > 2 * (readings * extent.wall_s + 1000)


def test_every_number_of_samples_and_evidence_is_bounded() -> None:
    """A new field that is a bare number is found here."""

    def numbers(schema: Any, place: str) -> list[str]:
        if isinstance(schema, list):
            return [line for part in schema for line in numbers(part, place)]
        if not isinstance(schema, dict):
            return []
        bare = schema.get("type") in ("number", "integer") and "maximum" not in schema
        found = [place] if bare and "const" not in schema and "enum" not in schema else []
        for key, part in schema.items():
            found += numbers(part, f"{place}.{key}" if key != "properties" else place)
        return found

    assert numbers(EVIDENCE.json_schema(), "evidence") == []
    assert numbers(Sample.model_json_schema(), "sample") == []
