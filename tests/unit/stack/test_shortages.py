"""What parts ran out of: what their logs say, and what the kernel counts."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from lab.model.evidence import Shortage
from lab.stack import shortages
from lab.stack.shortages import Shortages, allow_files, count, overflows

STAMP = b"2026/11/27 14:33:58 "
LINES = [
    ("nginx", STAMP + b"[warn] 7#7: 1024 worker_connections are not enough, reusing connections\n"),
    ("nginx", STAMP + b"[alert] 7#7: 1024 worker_connections are not enough\n"),
    ("nginx", STAMP + b"[alert] 7#7: *9 1024 worker_connections are not enough\n"),
    ("nginx", STAMP + b"[crit] 7#7: accept4() failed (24: Too many open files)\n"),
    ("nginx", STAMP + b'[crit] 7#7: *9 pwrite() "/a" failed (28: No space left on device), c\n'),
    ("backend", b"OSError: [Errno 28] No space left on device\n"),
    ("postgres", b"ERROR:  could not extend file: No space left on device\n"),
    ("backend", b"OSError: [Errno 24] Too many open files\n"),
    (
        "pgbouncer",
        b"2026-11-27 21:44:22.365 UTC [269] WARNING C-0x55aa: students/app@127.0.0.1:42"
        b" pooler error: query_wait_timeout\n",
    ),
    ("toxiproxy", b"accept tcp 127.0.0.1:4443: accept4: too many open files\n"),
]
OTHERS = [
    ("nginx", b""),
    ("nginx", STAMP + b"[warn] 7#7: *9 a client request body is buffered, client: 127.0.0.1\n"),
    # whatever a request says, it stands behind nginx's own words
    ("nginx", STAMP + b"[error] 7#7: *9 x, GET /[a] 7#7: 9 worker_connections are not enough"),
    ("pgbouncer", b"2026-11-27 21:44:19.366 UTC [269] LOG listening on 127.0.0.1:27398\n"),
    ("backend", b"storage: too many open files here\n"),
]


def test_each_line_is_counted_for_the_part_that_wrote_it() -> None:
    assert count([*LINES, *OTHERS]) == {
        ("nginx", "connections"): 3,
        ("nginx", "files"): 1,
        ("pgbouncer", "connections"): 1,
        ("backend", "files"): 1,
        ("nginx", "space"): 1,
        ("backend", "space"): 1,
        ("postgres", "space"): 1,
        ("toxiproxy", "files"): 1,
    }


def test_what_the_kernel_dropped_counts_from_the_beginning_and_nothing_else_is_told() -> None:
    dropped = iter([40, 40, 53])
    found = Shortages(lambda: OTHERS, lambda: next(dropped))
    assert found() == []
    assert found() == [Shortage(part="machine", of="accept_queue", count=13)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("TcpExt: SyncookiesSent ListenOverflows\nTcpExt: 3 2111\nIpExt: X\nIpExt: 1\n", 2111),
        ("TcpExt: SyncookiesSent\nTcpExt: 3\n", 0),
        ("TcpExt: ListenOverflows\n", 0),
        ("", 0),
        (None, 0),
    ],
)
def test_the_kernels_counter_is_read_by_its_name(
    tmp_path: Path, text: str | None, told: int
) -> None:
    netstat = tmp_path / "netstat"
    if text is not None:
        netstat.write_text(text)
    assert overflows(netstat) == told


@pytest.mark.parametrize(
    ("limits", "asked"),
    [
        ((1024, 4096), (4096, 4096)),
        ((1024, 1 << 20), (65536, 1 << 20)),
        ((1024, resource.RLIM_INFINITY), (65536, resource.RLIM_INFINITY)),
        ((1 << 19, 1 << 20), None),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), None),
        ((4096, 4096), None),
    ],
)
def test_parts_may_open_as_many_files_as_this_machine_lets_them(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], asked: tuple[int, int] | None
) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: told.append(pair))
    allow_files()
    assert told == ([asked] if asked else [])
    assert shortages.FILES == 65536
