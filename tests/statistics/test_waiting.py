"""The lab's answers to what uploads waited for, held against the simulation's."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lab.config import read_experiment, read_faults
from lab.model.evidence import Audit
from lab.model.experiment import Cell
from lab.model.verdict import Bottleneck, Outcome, Resource, Verdict
from lab.paths import ROOT
from lab.store import RunFolder
from tests.fakes import sample_run
from tests.fakes.cells import make_cell
from validation.drawn_waits import (
    MARGIN,
    Drawn,
    cell_of,
    draw,
    is_clear,
    measurable,
    spec_text,
    tops,
)
from validation.expected_waits import Expected, expected, offered_of, system_of
from validation.waiting import Row, enough_agree, main, table, write

BLOCKING = {"gcs_call": "blocking", "speed": 2}
STAGES = {"stages": [{"users": 4, "over": "2 s", "hold": "8 s"}, {"users": 2, "hold": "5 s"}]}


def cell(
    settings: Mapping[str, Any] | None = None,
    load: Mapping[str, Any] | None = None,
    criteria: Sequence[str] = ("p95 < 10 s",),
) -> Cell:
    return make_cell(
        dict(settings or BLOCKING),
        cell_id="waiting",
        load=dict(load or {"burst": 20}),
        criteria=list(criteria),
    )


def answer(seconds: Mapping[str, float], *, certain: bool = True) -> Expected:
    return Expected(seconds, 60, 30, 0, {}, 12.0, 20.0, 30.0, certain)


def row(top: str, named: str | None) -> Row:
    return Row("waiting-01", answer({top: 9.0, "storage": 1.0}), named)


def make_run(results: Path, one: Cell, resource: Resource | None) -> RunFolder:
    """A finished run of a cell, in which the lab names a resource; None: the cell is invalid."""
    run = sample_run.create(results, [one])
    folder = run.begin(one)
    folder.write_evidence([Audit(t=60, rows=0, objects=0, lost=[], orphans=[], refused=0)])
    folder.finish(
        Verdict(
            cell=one.id,
            outcome=Outcome.BROKE if resource else Outcome.INVALID,
            reasons=(),
            metrics={},
            findings=(),
            injected=(),
            limit=Bottleneck(resource=resource, evidence="") if resource else None,
        )
    )
    return run


@pytest.fixture(scope="module")
def drawn() -> list[Drawn]:
    return draw(4, 14)


def test_every_drawn_cell_is_certain_and_can_be_measured(drawn: list[Drawn]) -> None:
    assert tops(drawn) == dict.fromkeys(sorted(TURN), 1)
    for each in drawn:
        one = cell_of(each.experiment)
        assert each.expected.margin > MARGIN
        assert not each.expected.ambiguous
        assert is_clear(each.expected)
        assert measurable(one, each.expected)
        assert expected(one, each.bound) == each.expected


TURN = ("event_loop", "default_executor", "own_threads", "pool")


def test_a_seed_draws_the_same_cells_and_another_seed_others(drawn: list[Drawn]) -> None:
    assert draw(1, 14) == drawn[:1]
    assert draw(1, 15)[0].experiment != drawn[0].experiment


def test_a_spec_is_read_as_it_was_drawn(drawn: list[Drawn], tmp_path: Path) -> None:
    write(drawn, tmp_path)
    faults = read_faults(ROOT / "faults")
    data = json.loads((tmp_path / "expected.json").read_text())
    for each, told in zip(drawn, data, strict=True):
        file = tmp_path / f"{each.experiment.experiment}.yaml"
        assert file.read_text() == spec_text(each.experiment)
        assert cell_of(read_experiment(file, faults)) == cell_of(each.experiment)
        assert (told["cell"], told["top"]) == (file.stem, each.expected.top)
        assert sum(told["shares"].values()) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    ("settings", "load", "bound", "top"),
    [
        (BLOCKING, {"burst": 20}, 10.0, "event_loop"),
        ({"gcs_call": "to_thread"}, {"users": 20}, 8.0, "default_executor"),
        ({"gcs_call": "executor", "gcs_threads": 20}, {"burst": 50}, 10.0, "own_threads"),
        ({"gcs_call": "audio_pool", "audio_threads": 3}, {"burst": 20}, 8.0, "own_threads"),
        ({"gcs_call": "executor", "gcs_threads": 40, "db_session": "hold", "pool_size": 5,
          "max_overflow": 5}, {"users": 50}, 10.0, "pool"),
        ({"gcs_call": "executor", "gcs_latency": "12 s"}, {"users": 3}, 8.0, "storage"),
    ],
)  # fmt: skip
def test_a_cell_is_known_by_its_settings(
    settings: dict[str, Any], load: dict[str, Any], bound: float, top: str
) -> None:
    assert expected(cell(settings, load), bound).top == top


def test_speed_makes_cpu_longer_and_leaves_the_rest() -> None:
    slow, fast = (system_of(cell({**BLOCKING, "speed": speed})) for speed in (1, 5))
    named = {name: getattr(slow, name) for name in ("cpu", "trip_cpu", "proxy_cpu")}
    assert {name: getattr(fast, name) / 5 for name in named} == pytest.approx(named)
    assert replace(fast, **named) == slow


def test_users_come_as_the_load_says() -> None:
    offered = offered_of(cell(load={"users": 2, "ramp": "4 s", "warmup": "6 s"}).load)
    assert offered.users == [[(0.0, 70.0)], [(2.0, 70.0)]]
    assert offered.window == (10.0, 70.0)
    staged = offered_of(cell(load=STAGES).load)
    assert staged.users[3] == [(1.5, 10.0)]
    assert staged.users[0] == [(0.0, 15.0)]
    assert [len(spans) for spans in offered_of(cell().load).users] == [1] * 20


def test_two_that_are_near_and_what_varies_are_ambiguous() -> None:
    assert answer({"pool": 5.4, "event_loop": 4.6}).ambiguous
    assert not answer({"pool": 5.6, "event_loop": 4.4}).ambiguous
    assert answer({"pool": 9.0, "event_loop": 1.0}, certain=False).ambiguous
    assert answer({}).top == "none"


def test_where_more_of_another_would_do_the_cell_is_ambiguous() -> None:
    # The loop is waited for more, but with twice the threads hardly any upload would be late.
    settings = {"gcs_call": "executor", "gcs_threads": 20, "gcs_latency": "3 s", "db_rtt": "30 ms"}
    assert expected(cell(settings, {"burst": 42}), 9.5).ambiguous


@pytest.mark.parametrize(
    ("named", "comparison"),
    [("pool", "agree"), ("unclear", "unclear"), (None, "invalid"), ("none", "other"),
     ("event_loop", "other")],
)  # fmt: skip
def test_how_the_labs_answer_compares(named: str | None, comparison: str) -> None:
    assert row("pool", named).comparison == comparison


@pytest.mark.parametrize(
    ("named", "enough"),
    [(["pool"] * 40, True), (["pool"] * 38 + ["unclear", None], True),
     (["pool"] * 37 + ["unclear"] * 3, False), (["pool"] * 39 + ["none"], False)],
    ids=["all", "two-unclear", "three-unclear", "one-other"],
)  # fmt: skip
def test_thirty_eight_of_forty_have_to_agree_and_none_be_another(
    named: list[str | None], enough: bool
) -> None:
    assert enough_agree([row("pool", each) for each in named]) is enough


def test_the_table_ends_with_how_many_agree() -> None:
    text = table([row("pool", "pool"), row("pool", "cpu"), row("pool", None)])
    assert "pool 90 %, storage 10 %" in text
    assert text.splitlines()[-1] == "1 of 3 agree, 1 named otherwise with certainty"


@pytest.mark.parametrize(
    ("resource", "code", "said"),
    [(Resource.EVENT_LOOP, 0, "agree"), (Resource.POOL, 1, "other"), (None, 1, "invalid")],
)
def test_a_run_is_compared_by_what_is_stored(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    resource: Resource | None,
    code: int,
    said: str,
) -> None:
    run = make_run(tmp_path, cell(), resource)
    assert main(["--check", run.path.name, "--results", str(tmp_path)]) == code
    assert capsys.readouterr().out.splitlines()[1].endswith(said)


@pytest.mark.parametrize(
    ("one", "message"),
    [
        (cell(load={"rate": "1/s"}), "does not know open loads - give runs of closed"),
        (cell(criteria=["error_rate < 5 %"]), "no criterion holds p95 below a bound - give runs"),
        (cell({"max_overflow": "unlimited"}), "does not know a pool without a limit - give runs"),
        (cell({"speed": 1}).model_copy(update={"target": "cloudrun"}),
         "cell waiting: the simulation does not know target cloudrun - give runs of target vm"),
    ],
    ids=["open", "no-bound", "unlimited", "cloudrun"],
)  # fmt: skip
def test_what_the_simulation_does_not_know_is_refused(
    one: Cell, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path, one, Resource.POOL)
    assert main(["--check", str(run.path)]) == 2
    assert message in capsys.readouterr().err


def test_a_run_without_a_finished_cell_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = sample_run.create(tmp_path, [cell()])
    assert main(["--check", str(run.path)]) == 2
    assert "no cell is finished there - let it end with --resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [[], ["--draw", "2"], ["--draw", "0", "--out", "x"], ["--draw", "1", "--check", "x"]],
)
def test_other_arguments_are_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: python -m validation.waiting" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_told(
    tmp_path: Path, drawn: list[Drawn], capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setattr("validation.waiting.draw", lambda _number, _seed: drawn)
    (tmp_path / "file").touch()
    assert main(["--draw", "4", "--out", str(tmp_path / "file")]) == 2
    assert "cannot be written: File exists" in capsys.readouterr().err
    assert main(["--draw", "4", "--out", str(tmp_path / "new")]) == 0
    assert "4 cells in" in capsys.readouterr().out
