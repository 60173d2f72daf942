from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta, timezone
from pathlib import Path

import pytest

from lab.errors import StoreError, UsageError
from lab.model.capacity import Threshold, Thresholds
from lab.model.experiment import Cell
from lab.model.load import ClosedLoad
from lab.model.run import RunInfo, RunRequest, Summary
from lab.model.verdict import Outcome
from lab.store import RunFolder, digest, find, runs
from tests.fakes import sample_run as sample

NAME = f"20261124T081500Z-workers-x-pool-{digest(sample.cells())[:8]}"


def test_a_run_is_named_by_time_experiment_and_digest(tmp_path: Path) -> None:
    run = sample.create(tmp_path)
    assert run.path == tmp_path / NAME
    assert run.info.name == NAME
    assert run.info.started == "2026-11-24T08:15:00Z"
    assert RunFolder.open(run.path) == run


def test_the_digest_depends_on_every_cell_and_their_order_alone() -> None:
    cells = sample.cells()
    assert digest(cells) == digest(sample.cells())
    assert digest(cells) != digest(cells[::-1])
    assert digest(cells) != digest(cells[:-1])
    assert digest(cells) != digest((sample.cell(1, "5+5", "hold", seed=2), *cells[1:]))


def test_two_runs_of_one_second_get_two_folders(tmp_path: Path) -> None:
    first, second, third = (sample.create(tmp_path) for _ in range(3))
    assert [run.info.name for run in (first, second, third)] == [NAME, f"{NAME}-2", f"{NAME}-3"]
    assert find(tmp_path, "latest").path.name == third.path.name


def test_latest_is_a_relative_link_that_follows_the_newest(tmp_path: Path) -> None:
    sample.create(tmp_path)
    newest = sample.create(tmp_path)
    assert (tmp_path / "latest").readlink() == Path(newest.path.name)
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    assert find(moved, "latest").info == newest.info


def test_the_cells_read_back_without_the_spec(tmp_path: Path) -> None:
    assert sample.create(tmp_path).cells() == sample.cells()


def test_summary_holds_finished_cells_in_order_and_names_the_missing(tmp_path: Path) -> None:
    run = sample.create(tmp_path)
    cells = run.cells()
    for index in (4, 1):
        sample.measure(run, cells[index])
    summary = sample.read_summary(run)
    assert summary == run.summary()
    assert [done.id for done in summary.cells] == [cells[1].id, cells[4].id]
    assert summary.missing == tuple(cell.id for i, cell in enumerate(cells) if i not in (1, 4))
    assert summary.cells[0].knobs == cells[1].knobs.as_text()
    assert ClosedLoad.model_validate(summary.cells[0].load) == sample.LOAD


def test_a_summary_left_behind_by_a_kill_is_rebuilt(tmp_path: Path) -> None:
    run = sample.stored(tmp_path, finished=2)
    stale = sample.read_summary(run)
    third = run.cells()[2]
    folder = run.begin(third)
    folder.write_evidence(sample.evidence())
    folder.finish(sample.verdict(third))
    assert sample.read_summary(run) == stale
    assert len(run.write_summary().cells) == 3
    assert len(sample.read_summary(run).cells) == 3


def test_resuming_with_the_same_cells_is_allowed(tmp_path: Path) -> None:
    sample.create(tmp_path).check_same(sample.cells())


def _other_pool_timeout() -> list[Cell]:
    first, *rest = sample.cells()
    changed = first.knobs.with_settings({"pool_timeout": "20 s"})
    return [first.model_copy(update={"knobs": changed}), *rest]


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        (_other_pool_timeout(), "db_session=hold: knobs.pool_timeout was 10 s, is 20 s"),
        (sample.cells()[1:], "cell workers=1,pool=5+5,db_session=hold is gone"),
        ((), "cell workers=1,pool=10+10,db_session=hold is gone and 9 more"),
        (sample.cells()[::-1], "the order of the cells"),
        ((sample.cell(1, "5+5", "hold", seed=7), *sample.cells()[1:]), "seed was 1, is 7"),
    ],
)
def test_resuming_with_other_cells_says_what_differs(
    tmp_path: Path, cells: Sequence[Cell], says: str
) -> None:
    run = sample.create(tmp_path)
    with pytest.raises(UsageError) as caught:
        run.check_same(cells)
    assert says in str(caught.value)
    assert "start a new run" in str(caught.value)


def test_a_new_cell_is_named(tmp_path: Path) -> None:
    run = sample.create(tmp_path, sample.cells()[1:])
    with pytest.raises(UsageError, match="cell workers=1,pool=5\\+5,db_session=hold is new"):
        run.check_same(sample.cells())


def test_find_takes_a_path_a_name_and_a_unique_prefix(tmp_path: Path) -> None:
    run = sample.create(tmp_path)
    for ref in (str(run.path), NAME, NAME[:12]):
        assert find(tmp_path, ref).info == run.info
    assert find(Path("/nowhere"), str(run.path)).info == run.info


def test_a_whole_name_wins_over_the_names_it_begins(tmp_path: Path) -> None:
    sample.create(tmp_path)
    sample.create(tmp_path)
    assert find(tmp_path, NAME).info.name == NAME


@pytest.mark.parametrize(
    ("ref", "says"),
    [
        ("2026", f"'2026' means 2 runs: {NAME}, {NAME}-2 - write more of the name"),
        ("2031", "'2031' is neither a run in {results} nor a folder - `lab runs` lists the runs"),
        ("", "'' is neither a run in {results} nor a folder"),
        ("{results}", "{results} is not a run folder (it holds no run.json)"),
        ("{results}/note.txt", "note.txt is not a run folder"),
        ("../etc", "'../etc' is neither a run"),
        ("latest", "there is no latest run in {results} - `lab run SPEC` makes one"),
    ],
)
def test_a_reference_to_no_run_is_refused(tmp_path: Path, ref: str, says: str) -> None:
    sample.create(tmp_path)
    sample.create(tmp_path)
    (tmp_path / "latest").unlink()
    (tmp_path / "note.txt").write_text("not a run")
    with pytest.raises(UsageError) as caught:
        find(tmp_path, ref.format(results=tmp_path))
    assert says.format(results=tmp_path) in str(caught.value)
    assert caught.value.exit_code == 2


def test_latest_that_was_removed_is_named(tmp_path: Path) -> None:
    run = sample.create(tmp_path)
    run.path.rename(tmp_path.with_name("elsewhere"))
    with pytest.raises(UsageError, match=f"the latest run, {NAME}, is not in"):
        find(tmp_path, "latest")


def test_a_run_of_a_later_lab_is_refused(tmp_path: Path) -> None:
    run = sample.create(tmp_path)
    file = run.path / "run.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "schema_version": 3, "new": 1}))
    with pytest.raises(UsageError, match="written by a later lab \\(schema_version 3"):
        RunFolder.open(run.path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{\n"name": "a",\n!', "run.json:3: the file is damaged: Expecting property name"),
        (b"", "run.json:1: the file is damaged: Expecting value"),
        (b'{\n"name": "\xff"}', "run.json:2: the file is damaged: not UTF-8"),
        (b"[]", "run.json: the file is not a RunInfo"),
        (b'{"name": 5}', "run.json: the file is not a RunInfo: name: Input should be"),
    ],
)
def test_a_damaged_document_is_named_with_its_line(
    tmp_path: Path, content: bytes, says: str
) -> None:
    run = sample.create(tmp_path)
    (run.path / "run.json").write_bytes(content)
    with pytest.raises(StoreError) as caught:
        RunFolder.open(run.path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_runs_lists_all_and_says_what_is_wrong_with_one(tmp_path: Path) -> None:
    sample.stored(tmp_path, finished=5)
    broken = sample.create(tmp_path)
    (broken.path / "run.json").write_text("{")
    (tmp_path / "half-made").mkdir()
    good, bad = runs(tmp_path)
    assert (good.name, good.finished, good.cells) == (NAME, 5, 12)
    assert sum(good.outcomes.values()) == 5
    assert good.outcomes[Outcome.BROKE] >= 1
    assert bad.problem is not None
    assert "run.json:1" in bad.problem


def test_a_search_is_listed_by_its_answers(tmp_path: Path) -> None:
    run = sample.create(tmp_path, max_users=200)
    assert run.read_thresholds() is None
    [listed] = runs(tmp_path)
    assert (listed.kind, listed.finished, listed.cells, listed.outcomes) == ("threshold", 0, 12, {})
    answer = Threshold(
        id=run.info.cells[0],
        holds_at=None,
        breaks_at=None,
        crossed_first=None,
        confidence=0.95,
        outcome="undecided",
        reason="too near to tell",
        trials=(),
    )
    found = Thresholds(
        run=run.info.name,
        experiment="e",
        about="",
        stack="embedded",
        speed=5,
        cells=(answer,),
        missing=run.info.cells[1:],
    )
    run.write_thresholds(found)
    assert RunFolder.open(run.path).read_thresholds() == found
    [listed] = runs(tmp_path)
    assert (listed.finished, listed.outcomes) == (1, {"undecided": 1})
    (run.path / "threshold.json").write_text("{")
    [listed] = runs(tmp_path)
    assert "threshold.json:1: the file is damaged" in (listed.problem or "")


def test_no_results_folder_means_no_runs(tmp_path: Path) -> None:
    assert runs(tmp_path / "none") == ()


def test_a_report_is_stored_in_the_run(tmp_path: Path) -> None:
    run = sample.create(tmp_path)
    path = run.write_text("report.md", "# größer\n")
    assert path.read_text() == "# größer\n"


def test_times_are_stored_in_utc(tmp_path: Path) -> None:
    east = sample.STARTED.astimezone(timezone(timedelta(hours=9)))
    request = RunRequest(
        started=east,
        spec_file="a.yaml",
        experiment=sample.EXPERIMENT,
        stack="embedded",
        stack_reason="asked for",
        speed=1.0,
    )
    run = RunFolder.create(tmp_path, sample.cells()[:1], request)
    assert run.info.started == "2026-11-24T08:15:00Z"


@pytest.mark.parametrize(("max_users", "kind"), [(None, "run"), (200, "threshold")])
def test_a_run_says_what_it_is_and_one_of_an_earlier_lab_is_read_too(
    tmp_path: Path, max_users: int | None, kind: str
) -> None:
    run = sample.create(tmp_path, max_users=max_users)
    stored = json.loads((run.path / "run.json").read_text())
    assert (stored["kind"], stored["most_users"]) == (kind, max_users)
    earlier = {key: value for key, value in stored.items() if key != "kind"}
    (run.path / "run.json").write_text(json.dumps(earlier))
    assert RunFolder.open(run.path) == run
    del earlier["most_users"], earlier["most_load"]
    assert RunInfo.model_validate(earlier).kind == "run"


def test_a_run_that_may_go_on_for_longer_says_so_in_its_file(tmp_path: Path) -> None:
    run = sample.create(tmp_path, max_users=200).allowing(900.0, None)
    assert json.loads((run.path / "run.json").read_text())["most_load"] == 900.0
    assert RunFolder.open(run.path) == run
    wider = run.allowing(None, 0.2)
    stored = json.loads((run.path / "run.json").read_text())
    assert (stored["most_load"], stored["within"]) == (900.0, 0.2)
    assert RunFolder.open(run.path) == wider


def test_a_summary_reads_back_as_written(tmp_path: Path) -> None:
    run = sample.stored(tmp_path)
    text = (run.path / "summary.json").read_text()
    assert Summary.model_validate_json(text) == run.summary()
    assert run.write_summary() == run.summary()
    assert (run.path / "summary.json").read_text() == text
