from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lab.errors import SpecError
from lab.load.plan import PLAN_VARIABLE, EndOrder, GeneratorStatus, LoadPlan, check, read_plan
from lab.model.load import BurstLoad, ClosedLoad, Load
from tests.component.load.conftest import load_of


@pytest.mark.parametrize(
    ("load", "message"),
    [
        (
            ClosedLoad.model_construct(users=5001),
            "the load may have 5001 users at once; there are 5000 students - set users to 5000 or "
            "fewer",
        ),
        (
            BurstLoad.model_construct(burst=6000),
            "the load may have 6000 users at once; there are 5000 students - set burst to 5000 or "
            "fewer",
        ),
        (
            load_of(rate=50, warmup=10, window=600, timeout=120),
            "the load may have 9010 users at once; there are 5000 students - lower the rate or the "
            "timeout, or set max_in_flight",
        ),
        (
            load_of(stages=[{"users": 0, "hold": 10}]),
            "no stage has any users - give a stage `users` of 1 or more",
        ),
        (
            load_of(stages=[{"users": 5}]),
            "the stages take no time at all - give a stage `over` or `hold`",
        ),
        (
            load_of(burst=1, audio="45 B"),
            "audio of 45 B is not a WAV file - ask for 46 B or more",
        ),
        (
            load_of(burst=1, audio="1 MB - 101 MiB"),
            "audio of 101 MiB cannot be held ready - ask for 100 MiB or less",
        ),
    ],
)
def test_a_load_that_cannot_be_offered_is_refused(load: Load, message: str) -> None:
    with pytest.raises(SpecError) as refused:
        check(load)
    assert str(refused.value) == message
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    "keys",
    [
        {"users": 5000},
        {"burst": 5000},
        {"rate": 5},
        {"stages": [{"users": 5, "over": 1}]},
        {"users": 1, "audio": "46 B - 100 MiB"},
    ],
)
def test_a_load_that_can_be_offered_passes(keys: dict[str, Any]) -> None:
    check(load_of(**keys))


def test_a_plan_reads_back_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = LoadPlan(
        load=load_of(stages=[{"users": 5, "over": 0.25}], audio="50 KB - 2 MB"),
        speed=5.0,
        seed=3,
        url="http://127.0.0.1:1",
        samples=tmp_path / "samples.jsonl",
        status=tmp_path / "status.json",
        parent=1,
    )
    monkeypatch.delenv(PLAN_VARIABLE, raising=False)
    assert read_plan() is None
    (tmp_path / "plan.json").write_text(plan.model_dump_json())
    monkeypatch.setenv(PLAN_VARIABLE, str(tmp_path / "plan.json"))
    assert read_plan() == plan


def test_a_status_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "generator.status.json"
    assert GeneratorStatus.read(path) is None
    for sent in (1, 2):
        status = GeneratorStatus(t0=5.0, sent=sent, done=False, at=1.5, under_way=(0.5, 1.25))
        status.write(path)
        assert GeneratorStatus.read(path) == status
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_an_order_to_end_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "generator.end.json"
    assert EndOrder.read(path) is None
    EndOrder(decided_at=31.5).write(path)
    assert EndOrder.read(path) == EndOrder(31.5)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "text", ["", "5", "[1]", "null", '{"x": 1}', '{"under_way": 5}', "no JSON", "[" * 10**5]
)
def test_a_status_of_somebody_elses_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "status.json"
    path.write_text(text)
    assert GeneratorStatus.read(path) is None
    assert EndOrder.read(path) is None
