"""What ``lab up`` stored is believed only where it can be what ``lab up`` stored."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from lab.cli import standing
from lab.stack import ownership
from tests.cli_fixture import Command, lab, the_line

__all__ = ["lab"]

URL = "http://127.0.0.1:20001"


def record(**changes: Any) -> dict[str, Any]:
    stored = standing.ReplicaRecord(
        stack="embedded",
        target="vm",
        url=URL,
        upload=f"{URL}/api/v1/upload-audio",
        token="a",
        health=f"{URL}/health",
        database="postgresql://postgres:secret@127.0.0.1:20002/students",
        storage="http://127.0.0.1:20003",
        toxiproxy="http://127.0.0.1:20004",
        logs="/logs",
        faults=[],
        knobs={"speed": 1.0},
        parts={},
    )
    return {**asdict(stored), **changes}


@pytest.fixture
def up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a replica that is up."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path)
    folder, mine = ownership.claim(tmp_path / "results", stays=True)
    yield folder
    ownership.remove(folder, mine)
    assert not folder.exists()


def test_what_was_stored_is_read_and_nobody_else_may(up: Path, lab: Command) -> None:
    before = os.umask(0)
    try:
        standing.store_record(up, standing.ReplicaRecord(**record()))
    finally:
        os.umask(before)
    assert (up / standing.RECORD).stat().st_mode & 0o777 == 0o600
    shown = lab("status", "--json")
    assert (shown.code, json.loads(shown.out)) == (0, [{**record(), "down": []}])


WORDS = "String should match pattern"
NOT_JSON = "all of it: Invalid JSON"


@pytest.mark.parametrize(
    ("stored", "why"),
    [
        ("", NOT_JSON),
        ("[" * 60_000, NOT_JSON),
        ("[]", "all of it: Input should be "),
        ("{}", "stack: Field required"),
        (record(url="http://192.0.2.1:80"), f"url: {WORDS}"),
        (record(url="http://127.0.0.1:80@192.0.2.1:80"), f"url: {WORDS}"),
        (record(url="http://127.0.0.1.example.org:80"), f"url: {WORDS}"),
        (record(url=f"{URL}\nhttp://192.0.2.1"), f"url: {WORDS}"),
        (record(url="file:///etc/passwd"), f"url: {WORDS}"),
        (record(upload="http://192.0.2.1:80/"), f"upload: {WORDS}"),
        (record(toxiproxy="http://127.0.0.1"), f"toxiproxy: {WORDS}"),
        (record(database="postgresql://a:b@192.0.2.1:1/students"), f"database: {WORDS}"),
        (record(target="another"), "target: Input should be 'vm' or 'cloudrun'"),
        (record(parts={"nginx": "1"}), "parts.nginx: Input should be a valid integer"),
        (record(knobs="x" * 70_000), "{file} is larger than 65536 bytes"),
    ],
    ids=range(15),
)
@pytest.mark.parametrize("command", ["status", "locust"])
def test_another_record_is_told_with_its_remedy(
    command: str, stored: str | dict[str, Any], why: str, up: Path, lab: Command
) -> None:
    file = up / standing.RECORD
    file.write_text(stored if isinstance(stored, str) else json.dumps(stored))
    ended = lab(command)
    assert (ended.code, ended.out) == (3, "")
    begins = f"{file} is not what `lab up` stored ({why.format(file=file)}"
    assert the_line(ended.err).startswith(begins)
    assert the_line(ended.err).endswith(") - `lab down` ends it")


def as_link(file: Path) -> None:
    elsewhere = file.with_name("elsewhere")
    elsewhere.write_text(json.dumps(record()))
    file.symlink_to(elsewhere)


def as_endless(file: Path) -> None:
    file.symlink_to("/dev/zero")


def as_fifo(file: Path) -> None:
    os.mkfifo(file)


def as_folder(file: Path) -> None:
    file.mkdir()


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (as_link, "Too many levels of symbolic links"),
        (as_endless, "Too many levels of symbolic links"),
        (as_fifo, "{file} is not this user's own file"),
        (as_folder, "{file} is not this user's own file"),
    ],
)
@pytest.mark.parametrize("command", ["status", "locust"])
def test_a_record_that_is_no_file_is_not_waited_for(
    command: str, make: Callable[[Path], None], why: str, up: Path, lab: Command
) -> None:
    file = up / standing.RECORD
    make(file)
    ended = lab(command)
    assert (ended.code, ended.out) == (3, "")
    said = why.format(file=file)
    expected = f"{file} is not what `lab up` stored ({said}) - `lab down` ends it"
    assert the_line(ended.err) == expected


def test_down_of_another_folder_names_the_one_whose_replica_stays(
    up: Path, lab: Command, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    ended = lab("down", "--results", other)
    mine = tmp_path / "results"
    assert (ended.code, up.exists()) == (0, True)
    assert ended.err.splitlines() == [
        f"ended 0 replicas of {other} and 0 left by a lab that was killed",
        f"left alone: a replica of {mine} - `lab down` ends it",
    ]
    ended = lab("up", "--results", mine)
    expected = "a replica is up already - `lab down` ends it, `lab status` shows it"
    assert (ended.code, the_line(ended.err)) == (2, expected)


def test_what_ends_a_replica_of_another_folder_names_it(
    up: Path, lab: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "work here"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    mine = tmp_path / "results"
    ended = lab("up", "--results", "../results")
    assert the_line(ended.err).startswith(
        "a replica is up already - `lab down --results ../results` ends it"
    )
    ended = lab("status", "--results", "../results")
    assert the_line(ended.err).endswith(
        "was killed at it - `lab down --results ../results` ends it"
    )
    ended = lab("down")
    assert f"left alone: a replica of {mine} - `lab down --results {mine}` ends" in ended.err
    assert up.exists()


def test_down_tells_which_replicas_it_leaves_alone(up: Path, lab: Command, tmp_path: Path) -> None:
    here, mine = ownership.claim(tmp_path / "results")
    there, other = ownership.claim(tmp_path / "results")
    text = json.dumps({**asdict(other), "place": "another/1/0", "pid": 4194305})
    (there / ownership.RECORD).write_text(text)
    by_hand = Path(tempfile.gettempdir()) / "replica-lab-by-hand1"
    by_hand.mkdir()
    (by_hand / "kept").touch()
    ended = lab("down")
    assert ended.code == 0
    assert ended.err.splitlines() == [
        "ended 1 replica of results and 0 left by a lab that was killed",
        f"left alone: the replica of a run that is going on (lab process {os.getpid()})",
        f"left alone: {other.id}, of another user, container or machine - end it there, or "
        f"`docker compose -p {other.id} down --volumes` if that is gone",
    ]
    assert not up.exists()
    assert (by_hand / "kept").exists()
    ownership.remove(here, mine)
    shutil.rmtree(there)
