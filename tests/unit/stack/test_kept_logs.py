"""Logs are kept in a cell's folder, and nowhere else: what is somebody else's there is left."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lab.errors import StoreError
from lab.files import Folder
from lab.stack.compose.project import Project
from lab.stack.gateway import Gateway

NAMES = {"nginx.log", "nginx-access.log", "backend.log"}


class Written:
    """A container that has written."""

    def __init__(self, part: str) -> None:
        self._part = part

    def logs(self, since: float, stdout: bool = True, stderr: bool = True) -> bytes:
        assert since > 0
        return b"".join(
            f"{self._part} {name}\n".encode()
            for name, wanted in (("out", stdout), ("err", stderr))
            if wanted
        )


class Contained(Project):
    """A project whose containers have written, without an engine."""

    def __init__(self) -> None:
        pass

    def containers(self) -> dict[str, object]:
        return {part: Written(part) for part in ("nginx", "backend", "postgres")}

    def instances(self) -> dict[str, object]:
        return {}


def from_containers(folder: Folder) -> None:
    Contained().collect_logs(("nginx", "backend"), datetime.now(UTC), folder)


def from_gateway(folder: Folder) -> None:
    replica = folder.path.parent / "replica"
    replica.mkdir()
    made = Gateway(replica, 1, replica / "evidence", lambda _knobs: {})
    for file in (made.log, made.events, made.logs / "instance-1.log"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{file.name}\n")
    made.keep(folder)


KEEP: dict[str, tuple[Callable[[Folder], None], set[str]]] = {
    "containers": (from_containers, NAMES),
    "gateway": (from_gateway, {"front.log", "front.jsonl", "instance-1.log"}),
}


def test_the_requests_of_nginx_have_a_file_of_their_own(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "logs")
    folder.path.mkdir()
    from_containers(folder)
    assert {file.name: file.read_text() for file in folder.path.iterdir()} == {
        "nginx-access.log": "nginx out\n",
        "nginx.log": "nginx err\n",
        "backend.log": "backend out\nbackend err\n",
    }


@pytest.mark.parametrize("source", KEEP)
def test_all_logs_are_kept_in_place_of_older_ones(tmp_path: Path, source: str) -> None:
    keep, names = KEEP[source]
    folder = Folder(tmp_path / "logs")
    folder.path.mkdir()
    for name in names:
        (folder.path / name).write_text("older, and longer than what is kept now")
    keep(folder)
    kept = {file.name: file.read_text() for file in folder.path.iterdir()}
    assert kept.keys() == names
    assert all(text and "older" not in text for text in kept.values())


@pytest.mark.parametrize(
    ("source", "name"), [(source, name) for source in KEEP for name in sorted(KEEP[source][1])]
)
@pytest.mark.parametrize("kind", ["a link", "a named pipe"])
def test_what_is_somebody_elses_is_left(tmp_path: Path, source: str, name: str, kind: str) -> None:
    folder, theirs = Folder(tmp_path / "logs"), tmp_path / "thesis.txt"
    folder.path.mkdir()
    theirs.write_text("three years of work")
    if kind == "a link":
        (folder.path / name).symlink_to(theirs)
    else:
        os.mkfifo(folder.path / name)
    with pytest.raises(StoreError, match=f"{name}: is {kind} in place of a file of the lab's"):
        KEEP[source][0](folder)
    assert theirs.read_text() == "three years of work"
