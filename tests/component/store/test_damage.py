"""A small part of ``python -m validation.damage``, and that it notices what is wrong."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from validation import damage
from validation.damage import Wrong


@pytest.fixture(scope="module", autouse=True)
def _prepared_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The runs are copied before they are damaged, so that all tests can have the same."""
    runs = damage.prepare(tmp_path_factory.mktemp("runs"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(damage, "prepare", lambda _folder: runs)
        yield


def test_random_damage_is_borne() -> None:
    assert [wrong for found in damage.damage(range(48), seed=15) for wrong in found] == []


def _computes(*_arguments: str | Path) -> tuple[int, str, str]:
    while True:
        pass


def _sleeps(*_arguments: str | Path) -> tuple[int, str, str]:
    time.sleep(60)
    return 0, "", ""


def _takes(*_arguments: str | Path) -> tuple[int, str, str]:
    return 0, "x" * (2 * damage.BYTES), ""


def _touches(*arguments: str | Path) -> tuple[int, str, str]:
    run = Path(arguments[1])
    if (run.parent.parent / "others").is_dir():
        (run.parent.parent / "others" / "a.json").write_text("")
    return 0, "", ""


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (lambda *_: (3, "", "lab: unexpected KeyError: 'a'\n"), "lab judge: lab: unexpected"),
        (lambda *_: (3, "", "lab: a\nlab: b\n"), "lab judge: 2 lines"),
        (lambda *_: (7, "", ""), "lab judge: exit code 7"),
        (lambda *_: (0, "", ""), "lab runs does not list the other run"),
        (_computes, "took more than 1 s of CPU"),
        (_sleeps, "silent for 10 s"),
        (_takes, "took too much memory"),
        (_touches, "and something outside is not as it was"),
    ],
)
def test_what_is_wrong_is_told(
    monkeypatch: pytest.MonkeyPatch,
    command: Callable[..., tuple[int, str, str]],
    says: str,
) -> None:
    monkeypatch.setattr(damage, "SECONDS", 1)
    monkeypatch.setattr(damage, "SILENT_S", 10)
    real = damage.command

    def instead(*arguments: str | Path) -> tuple[int, str, str]:
        is_warm = "warm" in str(arguments[-1])
        return real(*arguments) if is_warm else command(*arguments)

    monkeypatch.setattr(damage, "command", instead)
    [[wrong]] = damage.damage(range(3, 4), seed=1)
    assert isinstance(wrong, Wrong)
    assert wrong.number == 3
    assert says in wrong.problem


def test_a_change_is_the_same_again(tmp_path: Path) -> None:
    made = []
    for number in range(2):
        run = tmp_path / str(number) / "results" / "run"
        (run / "cells" / "a").mkdir(parents=True)
        (run.parent.parent / "others").mkdir()
        for name in ("run.json", "cells/a/samples.jsonl"):
            (run / name).write_text('{"a": 1, "b": [2.5]}\n' * 3)
        made.append([damage.change(run, random.Random(f"1 {n}")) for n in range(20)])
    assert made[0] == made[1]
