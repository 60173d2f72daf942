"""Whose replica is it? A folder, a record or a process of somebody else's is never the lab's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from lab.errors import MachineError
from lab.model import processes
from lab.stack import cleanup, files, ownership
from lab.stack.compose import resources
from tests.live import wait_until

ID = "replica-lab-abcd_123-0123abcd"
ANOTHER_BOOT = "00000000-0000-0000-0000-000000000000"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make somebody else's file")


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder for replicas alone."""
    made = tmp_path / "temporary"
    made.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(made))
    return made


@pytest.fixture
def claimed(temporary: Path, tmp_path: Path) -> Iterator[tuple[Path, ownership.Ownership]]:
    assert list(temporary.iterdir()) == []
    folder, mine = ownership.claim(tmp_path / "results")
    assert list(ownership.replicas()) == [(folder, mine)]
    assert not mine.gone
    yield folder, mine
    ownership.remove(folder, mine)


def owner(**changes: Any) -> ownership.Ownership:
    """This process's own replica."""
    me = psutil.Process()
    mine = ownership.Ownership(
        ID,
        me.pid,
        me.create_time(),
        "/results",
        ticks=ownership.start_ticks(me.pid),
        boot=ownership.boot(),
        place=ownership.place(),
    )
    return replace(mine, **changes)


@pytest.mark.parametrize(
    ("changes", "gone"),
    [
        ({}, False),
        ({"created": 1.0}, False),  # the wall clock was set since
        ({"ticks": 1}, True),  # the number is another process's by now
        ({"boot": ANOTHER_BOOT}, True),
        ({"pid": 2**22 + 1}, True),
        ({"place": "another machine/1/0", "pid": 2**22 + 1, "boot": ANOTHER_BOOT}, False),
        ({"pid": None, "created": None, "ticks": None}, False),  # it stays up
        # Records of earlier versions:
        ({"ticks": None, "boot": None, "place": None}, False),
        ({"ticks": None, "boot": None, "place": None, "created": 1.0}, False),
        ({"ticks": None, "boot": None, "place": None, "pid": 2**22 + 1}, True),
    ],
)
def test_a_lab_is_gone_only_where_that_is_certain(changes: dict[str, Any], gone: bool) -> None:
    assert owner(**changes).gone is gone


def test_without_proc_the_start_that_the_system_noted_tells_a_lab(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(processes, "PROC", tmp_path / "none")
    assert not owner().gone
    assert owner(created=psutil.Process().create_time() - 100).gone
    assert owner(pid=2**22 + 1).gone


def test_a_zombie_has_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        running = owner(pid=child.pid, ticks=ownership.start_ticks(child.pid))
        assert not running.gone
        assert child.stdin
        child.stdin.close()
        process = psutil.Process(child.pid)
        wait_until(lambda: process.status() == psutil.STATUS_ZOMBIE)
        assert running.gone  # also before anybody has waited for it


def text(**changes: Any) -> str:
    return json.dumps(asdict(owner(**changes)))


@pytest.mark.parametrize(
    "record",
    [
        "",
        "{",
        "[]",
        '{"id": "x"}',
        "[" * 60_000,
        text(id="x"),
        text(id="replica-lab-../../etc-0123abcd"),
        text(id=ID + "\n"),
        text(id=ID),  # a well-formed one, of another folder
        text(pid=0),
        text(pid="1"),
        text(results="results"),
        text(results="/a\0b"),
        text(stack="another"),
        text(created=float("nan")),
        text().replace("}", " " * files.MAX_BYTES + "}"),
    ],
    ids=range(16),
)
def test_a_record_that_the_lab_did_not_write_is_nobodys_replica(
    record: str, claimed: tuple[Path, ownership.Ownership]
) -> None:
    folder, mine = claimed
    kept = (folder / ownership.RECORD).read_text()
    (folder / ownership.RECORD).write_text(record)
    assert list(ownership.replicas()) == []
    ownership.remove(folder, mine)
    assert (folder / ownership.RECORD).read_text() == record
    (folder / ownership.RECORD).write_text(kept)


def test_a_record_of_an_earlier_version_is_read(claimed: tuple[Path, ownership.Ownership]) -> None:
    folder, mine = claimed
    earlier = {name: getattr(mine, name) for name in ("id", "pid", "created", "results")}
    (folder / ownership.RECORD).write_text(json.dumps({**earlier, "stack": "embedded"}))
    assert list(ownership.replicas()) == [
        (folder, replace(mine, ticks=None, boot=None, place=None))
    ]
    (folder / ownership.RECORD).write_text(json.dumps(asdict(mine)))


def linked(folder: Path) -> None:
    elsewhere = folder.with_name("elsewhere")
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)


def record_linked(folder: Path) -> None:
    elsewhere = folder.with_name("record.json")
    (folder / ownership.RECORD).rename(elsewhere)
    (folder / ownership.RECORD).symlink_to(elsewhere)


def record_endless(folder: Path) -> None:
    (folder / ownership.RECORD).unlink()
    (folder / ownership.RECORD).symlink_to("/dev/zero")


def record_fifo(folder: Path) -> None:
    (folder / ownership.RECORD).unlink()
    os.mkfifo(folder / ownership.RECORD)


def of_somebody_else(folder: Path) -> None:
    os.chown(folder, 65534, 65534)


def record_of_somebody_else(folder: Path) -> None:
    os.chown(folder / ownership.RECORD, 65534, 65534)


def writable(folder: Path) -> None:
    folder.chmod(0o777)


@pytest.mark.parametrize(
    "change",
    [
        *(linked, record_linked, record_endless, record_fifo, writable),
        *(
            pytest.param(each, marks=as_root)
            for each in (of_somebody_else, record_of_somebody_else)
        ),
    ],
)
def test_a_folder_that_others_may_have_made_is_neither_read_nor_removed(
    change: Callable[[Path], None], claimed: tuple[Path, ownership.Ownership], temporary: Path
) -> None:
    folder, mine = claimed
    (folder / "kept").write_text("somebody's")
    change(folder)
    assert list(ownership.replicas()) == []
    assert cleanup.end_abandoned() == 0
    cleanup.end(folder, mine)
    assert (folder / "kept").read_text() == "somebody's"
    shutil.rmtree(temporary)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_a_folder_and_its_record_have_their_modes_whatever_the_umask(
    umask: int, temporary: Path, tmp_path: Path
) -> None:
    before = os.umask(umask)
    try:
        folder, mine = ownership.claim(tmp_path / "results")
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o7777 == (0o711 if os.geteuid() == 0 else 0o700)
    assert (folder / ownership.RECORD).stat().st_mode & 0o7777 == 0o600
    ownership.remove(folder, mine)
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "stack", "sign"),
    [("a\nb", "embedded", r"'\n'"), ("a\x1b[1m", "embedded", r"'\x1b'"), ("a:b", "compose", "':'")],
)
def test_a_temporary_folder_that_cannot_be_named_is_refused(
    name: str, stack: Any, sign: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / name))
    with pytest.raises(MachineError) as caught:
        ownership.claim(tmp_path, stack=stack)
    assert str(caught.value) == (
        f"TMPDIR is {str(tmp_path / name)!r}, and a replica's folder cannot have {sign} in its path"
        " - set TMPDIR to another folder"
    )
    assert list((tmp_path / name).iterdir()) == []


def test_what_a_lab_was_killed_at_making_is_removed_and_nothing_like_it(temporary: Path) -> None:
    me = os.getpid()
    ours = [".replica-lab-abcd1234.4194305.77", f".replica-lab-abcd1235.{me}.1"]
    others = [
        ".replica-lab-abcd1236.4194305.77",  # holds more than a record
        f".replica-lab-abcd1237.{me}.{ownership.start_ticks(me)}",  # somebody is at it
        ".replica-lab-abcd1238.4194305",
        "replica-lab-abcd1239",
    ]
    for name in (*ours, *others):
        (temporary / name).mkdir(mode=0o700)
    (temporary / ours[0] / ownership.RECORD).write_text("{")
    (temporary / others[0] / "notes").write_text("somebody's")
    (temporary / others[0] / ownership.RECORD).write_text("{}")
    cleanup.end_abandoned()
    assert sorted(path.name for path in temporary.iterdir()) == sorted(others)
    assert (temporary / others[0] / ownership.RECORD).read_text() == "{}"


@pytest.mark.parametrize(
    ("variables", "arguments"),
    [
        ({ownership.MARKER: ID + "x"}, []),
        ({"MY_" + ownership.MARKER: ID}, []),
        ({}, [f"{ownership.MARKER}={ID}"]),
        ({}, ["-g", f"env {ownership.MARKER}={ID};"]),
    ],
)
def test_a_process_that_only_looks_like_a_part_is_left_alone(
    variables: dict[str, str], arguments: list[str]
) -> None:
    env = {name: value for name, value in os.environ.items() if name != ownership.MARKER}
    command = [sys.executable, "-c", "input()", *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, env={**env, **variables}) as child:
        assert ownership.kill(ID) == []
        assert child.poll() is None
        child.communicate(b"\n")
    assert child.returncode == 0


def test_a_label_by_hand_names_no_replica() -> None:
    """As one of ``{"id": "x"}``, whose folder would be the temporary folder itself."""
    ours = text(stack="compose")
    labelled = [
        ("by-hand", "by-hand"),
        ("x", json.dumps({"id": "x", "pid": 1, "created": 1.0, "results": "/"})),
        (ID, text(stack="embedded")),
        ("another", ours),
        (ID, ours),
    ]
    held = [
        SimpleNamespace(labels={resources.ID_LABEL: name, resources.OWNER_LABEL: value})
        for name, value in labelled
    ]
    empty = SimpleNamespace(list=lambda **_: [])
    containers = SimpleNamespace(list=lambda **_: held)
    engine: Any = SimpleNamespace(containers=containers, networks=empty, volumes=empty)
    assert list(resources.ownerships(engine)) == [ownership.parse(ours)]
