from __future__ import annotations

from pathlib import Path

import pytest

from lab.errors import StoreError
from lab.model.experiment import Cell
from lab.store import CellFolder
from lab.store.cells import folder_name
from tests.fakes import sample_run as sample


def _observed(tmp_path: Path) -> CellFolder:
    run = sample.create(tmp_path)
    folder = run.begin(run.cells()[0])
    lines = [one.model_dump_json() + "\n" for one in sample.samples(3)]
    folder.samples.write_text("".join(lines))
    folder.write_evidence(sample.evidence())
    return folder


def test_a_cell_goes_from_begun_to_observed_to_finished(tmp_path: Path) -> None:
    run = sample.create(tmp_path)
    cell = run.cells()[0]
    folder = run.begin(cell)
    assert (folder.observed(), folder.finished()) == (False, False)
    assert folder.logs.is_dir()
    folder.write_evidence(sample.evidence())
    assert (folder.observed(), folder.finished()) == (True, False)
    folder.finish(sample.verdict(cell))
    assert (folder.observed(), folder.finished()) == (True, True)
    assert folder.read_verdict() == sample.verdict(cell)


def test_what_was_observed_reads_back(tmp_path: Path) -> None:
    seen = _observed(tmp_path).read_observation()
    assert list(seen.samples) == sample.samples(3)
    assert list(seen.evidence) == sample.evidence()


def test_evidence_without_an_audit_is_not_observed(tmp_path: Path) -> None:
    folder = _observed(tmp_path)
    folder.write_evidence(sample.evidence()[:-1])
    assert not folder.observed()


def test_begin_removes_what_an_unfinished_trial_left(tmp_path: Path) -> None:
    folder = _observed(tmp_path)
    (folder.logs / "nginx.log").write_text("old")
    for own in ("generator.status.json", "generator.end.json", "generator.end.draft"):
        (folder.logs / own).write_text("old")
    cell = sample.cells()[0]
    folder.begin(cell)
    names = sorted(entry.name for entry in folder.path.iterdir())
    assert names == ["cell.json", "logs", "samples.jsonl"]
    assert folder.samples.read_bytes() == b""
    assert list(folder.logs.iterdir()) == []
    assert folder.read_cell() == cell


def test_a_finished_cell_is_not_begun_again(tmp_path: Path) -> None:
    run = sample.stored(tmp_path, finished=1)
    cell = run.cells()[0]
    with pytest.raises(StoreError, match="the cell is finished and is not measured again"):
        run.begin(cell)
    assert run.cell(cell.id).read_verdict() == sample.verdict(cell)


@pytest.mark.parametrize("cut", [1, 40, -2])
def test_the_half_line_of_a_killed_writer_is_dropped(tmp_path: Path, cut: int) -> None:
    folder = _observed(tmp_path)
    whole = folder.samples.read_bytes()
    line = sample.samples(1)[0].model_dump_json().encode()
    folder.samples.write_bytes(whole + line[:cut])
    assert len(folder.read_observation().samples) == 3


def test_signs_of_life_stand_among_the_samples_and_are_none(tmp_path: Path) -> None:
    folder = _observed(tmp_path)
    first, *others = folder.samples.read_bytes().splitlines(keepends=True)
    beats = [b'{"beat":-0.5}\n', b'{"beat":0.0}\n', b'{"beat":0.5']
    folder.samples.write_bytes(beats[0] + first + beats[1] + b"".join(others) + beats[2])
    seen = folder.read_observation()
    assert (len(seen.samples), seen.beats) == (3, (-0.5, 0.0))
    folder.samples.write_bytes(b'{"beat":"soon"}\n')
    with pytest.raises(StoreError, match=r"samples\.jsonl:1: the line is damaged: beat"):
        folder.read_observation()


def test_half_a_character_is_dropped_with_its_line(tmp_path: Path) -> None:
    folder = _observed(tmp_path)
    folder.samples.write_bytes(folder.samples.read_bytes() + b'{"recording": "\xc3')
    assert len(folder.read_observation().samples) == 3


def test_a_whole_last_line_without_its_newline_counts(tmp_path: Path) -> None:
    folder = _observed(tmp_path)
    folder.samples.write_bytes(folder.samples.read_bytes().rstrip(b"\n"))
    assert len(folder.read_observation().samples) == 3


@pytest.mark.parametrize(
    ("file", "line", "raw"),
    [
        ("samples.jsonl", 1, b'{"planned_at": 1'),
        ("samples.jsonl", 2, b""),
        ("samples.jsonl", 3, b'{"planned_at": 1.0}'),
        ("samples.jsonl", 3, b"\x00\x00\x00"),
        ("evidence.jsonl", 1, b'{"kind": "unheard-of"}'),
        ("evidence.jsonl", 2, b"not json"),
    ],
)
def test_any_other_damage_names_file_and_line(
    tmp_path: Path, file: str, line: int, raw: bytes
) -> None:
    folder = _observed(tmp_path)
    path = folder.path / file
    lines = path.read_bytes().splitlines()
    lines[line - 1] = raw
    path.write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(StoreError) as caught:
        folder.read_observation()
    assert f"{path}:{line}: the line is damaged" in str(caught.value)
    assert "--resume" in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    folder = _observed(tmp_path)
    folder.samples.unlink()
    with pytest.raises(StoreError, match=r"cannot read samples\.jsonl: No such file"):
        folder.read_observation()


def test_a_number_that_json_cannot_hold_is_refused_before_anything_is_replaced(
    tmp_path: Path,
) -> None:
    folder = _observed(tmp_path)
    good = sample.verdict(sample.cells()[0])
    folder.finish(good)
    with pytest.raises(ValueError, match="not JSON compliant"):
        folder.finish(good.model_copy(update={"metrics": {"p95": float("nan")}}))
    assert folder.read_verdict() == good


@pytest.mark.parametrize(
    ("cell_id", "name"),
    [
        ("workers=2,pool=5+5", "workers=2,pool=5+5"),
        ("gcs_latency=2 s - 5 s", "gcs_latency=2 s - 5 s"),
        ("global_rate_limit=500/min", "global_rate_limit=500%2Fmin"),
        ("a=100%2F", "a=100%252F"),
        ("../../etc", "%2E.%2F..%2Fetc"),
    ],
)
def test_an_id_becomes_one_safe_folder(cell_id: str, name: str) -> None:
    assert folder_name(cell_id) == name


def test_a_long_id_is_cut_but_stays_unique(tmp_path: Path) -> None:
    ids = [f"{'x' * 400}={number}" for number in range(2)]
    first, second = (folder_name(one) for one in ids)
    assert first != second
    assert max(len(first), len(second)) < 255
    original = sample.cells()[0]
    cells = [Cell.model_validate(original.model_copy(update={"id": one})) for one in ids]
    assert sample.create(tmp_path, cells).cells() == tuple(cells)
