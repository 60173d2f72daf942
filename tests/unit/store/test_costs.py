"""Costs that are kept from run to run: one file a machine, and what is done about a bad one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab.errors import StoreError
from lab.model.costs import TrialCost
from lab.store.costs import MAX_FILES, MAX_TRIALS, CostKey, CostStore, cache_folder, kept, newest

MACHINE = {"cpu": "a processor", "cpus": "2"}
KEY = CostKey(machine=MACHINE, stack="embedded", versions={"lab": "1", "toxiproxy": "real"})


def cost(uploads: int = 100) -> TrialCost:
    return TrialCost(
        workers=1,
        uploads=uploads,
        size=50_000,
        wall_s=0.1,
        cpu_s={"backend": 0.004},
        machine_s=0.002,
        trip_s=0.001,
    )


class Kept:
    """A store in an own folder, and what it said."""

    def __init__(self, folder: Path, key: CostKey = KEY) -> None:
        self.said: list[str] = []
        self.folder = folder / "costs"
        self.store = CostStore(key, self.folder, self.said.append)
        self.file = self.folder / key.name


def test_what_is_kept_is_read_again_and_the_newest_stay(tmp_path: Path) -> None:
    own = Kept(tmp_path)
    assert own.store.read() == ()
    own.store.add([cost(1), cost(2)])
    assert own.store.read() == (cost(1), cost(2))
    own.store.add([cost(number) for number in range(3, MAX_TRIALS + 10)])
    read = own.store.read()
    assert len(read) == MAX_TRIALS
    assert read[-1] == cost(MAX_TRIALS + 9)
    assert [path.name for path in own.folder.iterdir()] == [KEY.name]
    assert own.said == []


@pytest.mark.parametrize(
    "other",
    [
        {"machine": {**MACHINE, "cpus": "4"}},
        {"stack": "compose"},
        {"versions": {"lab": "2", "toxiproxy": "real"}},
        {"versions": {"lab": "1", "toxiproxy": "embedded"}},
    ],
    ids=["machine", "stack", "lab", "part"],
)
def test_of_another_machine_stack_or_version_nothing_is_known(
    tmp_path: Path, other: dict[str, Any]
) -> None:
    Kept(tmp_path).store.add([cost()])
    strange = Kept(tmp_path, KEY.model_copy(update=other))
    assert strange.store.read() == ()
    strange.store.add([cost(7)])
    assert Kept(tmp_path).store.read() == (cost(),)
    assert strange.said == []


def _changed(**values: Any) -> Callable[[Path], None]:
    def change(file: Path) -> None:
        data = json.loads(file.read_text())
        file.write_text(json.dumps({**data, **values}))

    return change


def _first_trial(**values: Any) -> Callable[[Path], None]:
    def change(file: Path) -> None:
        data = json.loads(file.read_text())
        data["trials"][0] |= values
        file.write_text(json.dumps(data))

    return change


OTHER = {"machine": {"cpu": "another"}, "stack": "embedded", "versions": {}}

BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut": (lambda f: f.write_text(f.read_text()[:40]), ":4: the file is damaged: "),
    "empty": (lambda f: f.write_text(""), ":1: the file is damaged: Expecting value"),
    "no-text": (lambda f: f.write_bytes(b"\xff\n"), ":1: the file is damaged: not UTF-8"),
    "a-list": (lambda f: f.write_text("[]"), ": the file is not a KnownCosts: "),
    "no-date": (_changed(newest="today"), ": the file is not a KnownCosts: newest: "),
    "no-zone": (_changed(newest="2026-11-27T10:00:00"), ": the file is not a KnownCosts: newest: "),
    "a-key-more": (_changed(more=1), ": the file is not a KnownCosts: more: Extra inputs are not"),
    "below-zero": (_first_trial(trip_s=-1), ": the file is not a KnownCosts: trials.0.trip_s: "),
    "no-uploads": (_first_trial(uploads=0), ": the file is not a KnownCosts: trials.0.uploads: "),
    "not-finite": (
        lambda f: f.write_text(f.read_text().replace("0.004", "NaN")),
        ": the file is not a KnownCosts: trials.0.cpu_s.backend: ",
    ),
    "too-many": (
        lambda f: _changed(trials=json.loads(f.read_text())["trials"] * 99)(f),
        ": the file is not a KnownCosts: trials: ",
    ),
    "a-later-lab": (_changed(schema_version=9), ": written by a later lab (schema_version 9; "),
    "another-machine": (
        _changed(key=OTHER),
        ": the file is of another machine, stack or version",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_ignored_with_a_line_and_written_anew(tmp_path: Path, case: str) -> None:
    own = Kept(tmp_path)
    own.store.add([cost(1)])
    spoil, problem = BAD[case]
    spoil(own.file)
    assert own.store.read() == own.store.read() == ()
    [line] = own.said
    assert line.startswith(f"{own.file}{problem}")
    assert line.endswith(" - it is ignored, and written anew")
    own.store.add([cost(2)])
    assert own.store.read() == (cost(2),)
    assert own.said == [line]


def test_what_is_not_the_labs_is_left_and_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    own, elsewhere = Kept(tmp_path), tmp_path / "elsewhere"
    own.folder.mkdir()
    elsewhere.write_text("somebody's")
    own.file.symlink_to(elsewhere)
    own.store.add([cost()])
    assert elsewhere.read_text() == "somebody's"
    assert own.said[-1].startswith("what an upload costs this machine is not kept: ")
    assert "is a link in place of a file of the lab's" in own.said[-1]


def test_a_file_in_place_of_the_folder_is_said(tmp_path: Path) -> None:
    own = Kept(tmp_path)
    own.folder.write_text("")
    own.store.add([cost()])
    assert own.said[-1].startswith("what an upload costs this machine is not kept: ")
    assert own.folder.read_text() == ""


def test_the_oldest_files_go_and_others_files_stay(tmp_path: Path) -> None:
    own = Kept(tmp_path)
    own.folder.mkdir()
    (own.folder / "notes.txt").write_text("somebody's")
    for number in range(MAX_FILES + 3):
        key = KEY.model_copy(update={"versions": {"lab": str(number)}})
        other = Kept(tmp_path, key)
        other.store.add([cost()])
        os.utime(other.file, (number, number))
    own.store.add([cost()])
    left = [path.name for path in own.folder.iterdir()]
    assert len(left) == MAX_FILES + 1
    assert {"notes.txt", KEY.name} <= set(left)


def test_the_newest_of_this_machine_is_found_without_a_stack_that_is_up(tmp_path: Path) -> None:
    own = Kept(tmp_path)
    assert newest(own.folder, MACHINE, "embedded", {"lab": "1"}) is None
    own.store.add([cost(3)])
    (own.folder / "embedded-0123456789abcdef.json").write_text("{")
    known = newest(own.folder, MACHINE, "embedded", {"lab": "1"})
    assert known is not None
    assert known.trials == (cost(3),)
    assert 0 <= known.age_s < 60
    assert newest(own.folder, MACHINE, "compose", {"lab": "1"}) is None
    assert newest(own.folder, MACHINE, "embedded", {"lab": "2"}) is None
    assert newest(own.folder, {}, "embedded", {"lab": "1"}) is None
    assert sorted(type(found) is StoreError for found in kept(own.folder).values()) == [False, True]


def test_the_users_cache_folder_is_where_the_system_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "replica-lab" / "costs"
