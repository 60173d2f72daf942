"""What a killed Postgres leaves in the kernel is removed: its own segment, and no other."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.stack import shared_memory

pytestmark = pytest.mark.skipif(
    not Path("/proc/sysvipc/shm").exists(), reason="this kernel has no System V shared memory"
)

MAKE = """
import ctypes, os, sys
print(os.getpid(), ctypes.CDLL(None).shmget(int(sys.argv[1]), 56, 0o1600))
"""
LIBC = ctypes.CDLL(None)


def segments() -> set[int]:
    _, *rows = Path("/proc/sysvipc/shm").read_text().splitlines()
    return {int(row.split()[1]) for row in rows}


class Dead:
    """A process that made a segment and has ended."""

    def __init__(self) -> None:
        self.key = 0x5EED0000 | os.getpid() & 0xFFFF
        made = subprocess.run(
            [sys.executable, "-c", MAKE, str(self.key)], capture_output=True, text=True, check=True
        )
        self.pid, self.segment = (int(number) for number in made.stdout.split())
        assert self.segment in segments()

    def pid_file(self, **other: int) -> str:
        about = {"pid": self.pid, "key": self.key, "segment": self.segment} | other
        head = f"{about['pid']}\n/data\n1795772320\n5432\n\n127.0.0.1\n"
        return f"{head} {about['key']:>9} {about['segment']:>9}\nready\n"


@pytest.fixture
def dead() -> Iterator[Dead]:
    made = Dead()
    yield made
    LIBC.shmctl(made.segment, 0, None)


@pytest.mark.parametrize("sign", [1, -1], ids=["server", "of-initdb"])
def test_the_segment_of_the_folders_server_is_removed(
    tmp_path: Path, dead: Dead, sign: int
) -> None:
    (tmp_path / "postmaster.pid").write_text(dead.pid_file(pid=sign * dead.pid))
    shared_memory.release(tmp_path)
    assert dead.segment not in segments()


@pytest.mark.parametrize("other", [{"pid": 1}, {"key": 7}, {"segment": 2**30}])
def test_one_that_another_process_made_stays(
    tmp_path: Path, dead: Dead, other: dict[str, int]
) -> None:
    (tmp_path / "postmaster.pid").write_text(dead.pid_file(**other))
    before = segments()
    shared_memory.release(tmp_path)
    assert dead.segment in before & segments()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file to somebody else")
def test_a_file_of_another_user_names_no_segment_of_this_one(tmp_path: Path, dead: Dead) -> None:
    pid_file = tmp_path / "postmaster.pid"
    pid_file.write_text(dead.pid_file())
    os.chown(pid_file, 65534, 65534)
    shared_memory.release(tmp_path)
    assert dead.segment in segments()


@pytest.mark.parametrize("text", ["", "12\n", "x\n" * 8, f"1\n{'9' * 5000}\n", "1\n" * 6 + "7\n"])
def test_a_damaged_file_names_none(tmp_path: Path, dead: Dead, text: str) -> None:
    (tmp_path / "postmaster.pid").write_text(text)
    shared_memory.release(tmp_path)
    assert dead.segment in segments()


def test_a_link_is_not_followed(tmp_path: Path, dead: Dead) -> None:
    (tmp_path / "elsewhere").write_text(dead.pid_file())
    (tmp_path / "postmaster.pid").symlink_to("elsewhere")
    shared_memory.release(tmp_path)
    assert dead.segment in segments()
