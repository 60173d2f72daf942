"""Whose processes a part's are, read from a /proc made by hand: an id may be another's by now."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lab.model import processes
from lab.stack.supervision import KernelReader

MAIN, WORKER = 10, 11
Add = Callable[..., None]


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Add:
    """Adds a process to a /proc that has no other, or changes one."""
    monkeypatch.setattr(processes, "PROC", tmp_path)

    def add(pid: int, title: str, started: int, children: str = "", letter: str = "S") -> None:
        folder = tmp_path / str(pid)
        (folder / "task" / str(pid)).mkdir(parents=True, exist_ok=True)
        rest = " ".join(["0"] * 17)
        (folder / "stat").write_text(f"{pid} (nginx) {letter} 1 {rest} {started} 0\n")
        (folder / "cgroup").write_text("")
        (folder / "cmdline").write_text(title)
        (folder / "task" / str(pid) / "children").write_text(children)

    return add


@pytest.fixture
def read(add: Add) -> KernelReader:
    """Has seen nginx's master and its worker."""
    add(MAIN, "nginx: master process", 100, children=f"{WORKER} ")
    add(WORKER, "nginx: worker process", 200)
    reader = KernelReader(MAIN)
    assert set(reader()) == {MAIN, WORKER}
    return reader


def test_a_lasting_process_is_seen_where_the_list_of_children_leaves_it_out(
    add: Add, read: KernelReader
) -> None:
    add(MAIN, "nginx: master process", 100)
    assert set(read()) == {MAIN, WORKER}
    assert set(read.left()) == {MAIN, WORKER}


def test_another_process_with_the_id_of_one_that_has_ended_is_not_the_parts(
    add: Add, read: KernelReader
) -> None:
    add(MAIN, "nginx: master process", 100)
    add(WORKER, "somebody else's", 900)
    assert set(read()) == {MAIN}
    assert read.left() == [MAIN]


def test_a_child_with_the_id_of_one_that_has_ended_is_the_parts(
    add: Add, read: KernelReader
) -> None:
    add(WORKER, "nginx: worker process", 900)
    assert set(read()) == {MAIN, WORKER}
    assert set(read.left()) == {MAIN, WORKER}


def test_what_has_the_main_ones_id_after_its_end_has_no_family_here(
    add: Add, read: KernelReader
) -> None:
    add(MAIN, "somebody else's", 900, children="12 ")
    add(12, "somebody else's", 901)
    assert set(read()) == {WORKER}
    assert read.left() == [WORKER]


def test_a_look_asks_no_more_than_it_needs(add: Add, monkeypatch: pytest.MonkeyPatch) -> None:
    client = 12
    add(MAIN, "postgres -D data", 100, children=f"{WORKER} {client} ")
    add(WORKER, "postgres: checkpointer", 200)
    add(client, "postgres: app app 127.0.0.1(5) idle", 300)
    asked: list[str] = []
    read_file = processes._read

    def reading(path: str, *size: int) -> bytes:
        asked.append(path)
        return read_file(path, *size)

    monkeypatch.setattr(processes, "_read", reading)
    reader = KernelReader(MAIN)
    family = reader()  # learns the titles
    asked.clear()
    reader()
    of = {pid: [path.rpartition("/")[2] for path in asked if f"/{pid}/" in path] for pid in family}
    assert not any("cmdline" in names for names in of.values()), "a title is asked for once"
    assert of[WORKER].count("cgroup") == 1
    assert "cgroup" not in of[client], "a client's backend is in the server's cgroup"
