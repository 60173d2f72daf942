"""The lab's own specs and faults, by name from anywhere; and ``lab init``, which copies them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from lab import paths
from lab.paths import ROOT
from tests.cli_fixture import Command, the_line

MINE = "experiment: mine\nload: {users: 4}\n"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", [("run", "--dry-run"), ("threshold", "--dry-run")])
def test_a_spec_of_the_lab_is_known_by_its_name(lab: Command, command: tuple[str, ...]) -> None:
    ended = lab(*command, "laws")
    assert (ended.code, ended.err) == (0, "")
    assert "laws: " in ended.out


def test_a_summary_knows_it_too(lab: Command) -> None:
    ended = lab("summary", "laws")
    assert ended.code == 4  # it was not measured
    assert "laws" in ended.out


@pytest.mark.parametrize("name", ["laws", "laws.yaml"])
def test_a_file_of_that_name_wins_and_that_is_said(lab: Command, here: Path, name: str) -> None:
    (here / name).write_text(MINE)
    ended = lab("run", "laws", "--dry-run")
    assert ended.code == 0
    assert ended.out.startswith("mine: 1 cell, ")
    assert ended.err == f"spec: {name} of this folder, not the lab's own of that name\n"


def test_a_folder_of_that_name_does_not(lab: Command, here: Path) -> None:
    (here / "laws").mkdir()
    ended = lab("run", "laws", "--dry-run")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("laws: ")


def test_a_file_of_another_name_needs_no_ending(lab: Command, here: Path) -> None:
    (here / "mine.yaml").write_text(MINE)
    ended = lab("run", "mine", "--dry-run")
    assert (ended.code, ended.err) == (0, "")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("lawz", "lawz: neither a file nor a spec of the lab - did you mean 'laws'?"),
        ("x" * 9, "xxxxxxxxx: neither a file nor a spec of the lab - known are: as-found, "),
        ("laws.yaml", "laws.yaml: no such file - the lab's own is `laws`"),
        (
            "experiments/laws.yaml",
            "experiments/laws.yaml: no such file - the lab's own is `laws`",
        ),
        ("other/mine.yaml", "other/mine.yaml: no such file - check the path"),
        ("there", "there: a folder, not a file - name a YAML file in it"),
        (".", ".: a folder, not a file - name a YAML file in it"),
        ("", "Invalid value for '[SPEC]...': it is empty, and would mean this folder; write '.'"),
    ],
)
def test_a_spec_that_is_not_there(lab: Command, here: Path, given: str, message: str) -> None:
    (here / "there").mkdir()
    ended = lab("run", given, "--dry-run")
    assert (ended.code, ended.out) == (2, "")
    assert the_line(ended.err).startswith(message)


def test_faults_of_this_folder_are_added_and_go_before_the_labs_own(
    lab: Command, here: Path
) -> None:
    own = (ROOT / "faults" / "gcs-slow.yaml").read_text()
    (here / "faults").mkdir()
    (here / "faults" / "gcs-slow.yaml").write_text(own)
    ended = lab("faults", "--json")
    assert (ended.code, ended.err) == (0, "")  # the same fault: nothing to be said
    before = [fault["fault"] for fault in json.loads(ended.out)]
    (here / "faults" / "gcs-slow.yaml").write_text(own.replace("100 KB", "90 KB"))
    (here / "faults" / "slower.yaml").write_text(own.replace("gcs-slow", "slower"))
    ended = lab("faults", "--json")
    said = "fault: faults/gcs-slow.yaml of this folder, not the lab's own of that name\n"
    assert (ended.code, ended.err) == (0, said)
    after = {fault["fault"]: json.dumps(fault) for fault in json.loads(ended.out)}
    assert set(after) == {*before, "slower"}
    assert "90 KB" in after["gcs-slow"]


def test_a_wrong_fault_of_this_folder_is_named(lab: Command, here: Path) -> None:
    (here / "faults").mkdir()
    (here / "faults" / "x.yaml").write_text("fault: y\n")
    ended = lab("run", "laws", "--dry-run")
    assert ended.code == 2
    assert the_line(ended.err).startswith("faults/x.yaml:1")


def test_init_copies_what_is_needed_to_begin(lab: Command, here: Path) -> None:
    ended = lab("init", "my lab")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[-1] == (
        "begin with: cd 'my lab' && lab run experiments/as-found.yaml --dry-run"
    )
    copied = {file.relative_to(here / "my lab"): file for file in (here / "my lab").rglob("*.*")}
    for folder in ("experiments", "experiments/claims", "faults"):
        for own in filter(Path.is_file, (ROOT / folder).iterdir()):
            assert copied[own.relative_to(ROOT)].read_bytes() == own.read_bytes()
    for file in (here / "my lab" / "experiments").glob("*.yaml"):
        first = file.read_text().splitlines()[0]
        schema = first.removeprefix("# yaml-language-server: $schema=")
        assert (file.parent / schema).is_file(), first
        assert YAML(typ="safe").load(file)["experiment"] == file.stem
    names = json.loads(lab("init", "other", "--json").out)
    assert sorted(names) == sorted(f"other/{name}" for name in copied)


@pytest.mark.parametrize("taken", ["experiments/laws.yaml", "faults/gcs-slow.yaml"])
def test_init_overwrites_nothing(lab: Command, here: Path, taken: str) -> None:
    file = here / taken
    file.parent.mkdir()
    file.symlink_to("nowhere")  # what it would write through
    ended = lab("init", ".")
    assert (ended.code, ended.out) == (2, "")
    assert the_line(ended.err) == (
        f"{taken} is there already - name another folder, or move it away"
    )
    assert [path for path in here.rglob("*") if not path.is_dir()] == [file]


def test_init_where_nothing_can_be_written(lab: Command, here: Path) -> None:
    (here / "file").touch()
    ended = lab("init", "file")
    assert (ended.code, ended.out) == (3, "")
    assert the_line(ended.err) == (
        "file/experiments: Not a directory - name a folder that can be written"
    )


def test_a_folder_of_data_that_is_missing(
    lab: Command, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "ROOT", here / "data")
    for arguments in (("init", "x"), ("run", "laws"), ("faults",)):
        ended = lab(*arguments)
        assert (ended.code, ended.out) == (3, "")
        what, remedy = the_line(ended.err).split(" - ")
        assert what.startswith(f"{here / 'data'}/")
        assert what.endswith(": no such file or folder, and the lab needs it")
        assert remedy == "restore it with `git checkout`"
