"""What befalls a part's processes, told from what is seen of them at two moments."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from lab.stack.postgres import ended_first
from lab.stack.supervision import SERVER, UNNAMED, Role, Supervision, role_of
from lab.stack.supervision import SeenProcess as Seen

MAIN, FIRST, SECOND, CLIENT = 10, 11, 12, 13
MASTER, WORKER = Role("master"), Role("worker")
BACKEND = Role("client backend", lasts=False)
READY = {
    MAIN: Seen(MASTER, 1.0),
    FIRST: Seen(WORKER, 2.0),
    SECOND: Seen(WORKER, 2.0),
    CLIENT: Seen(BACKEND, 3.0),
}
STOPPED = "stopped (SIGSTOP)"


class Script:
    """Shows one scene after the other, and the last for good."""

    def __init__(self, *scenes: Mapping[int, Seen]) -> None:
        self.scenes = list(scenes)

    def now(self) -> float:
        return 5.0

    def __call__(self) -> Mapping[int, Seen]:
        return self.scenes.pop(0) if len(self.scenes) > 1 else self.scenes[0]


def settled(*scenes: Mapping[int, Seen], renews: bool = False) -> Supervision:
    made = Supervision(MAIN, Script(READY, *scenes), renews=renews)
    made.settle()
    return made


def without(*gone: int) -> dict[int, Seen]:
    return {pid: process for pid, process in READY.items() if pid not in gone}


@pytest.mark.parametrize(
    ("scene", "said"),
    [
        (READY, None),
        (without(CLIENT), None),
        ({**READY, 14: Seen(BACKEND, 9.0)}, None),
        ({**READY, 14: Seen(UNNAMED, 9.0)}, None),
        (without(MAIN, FIRST), None),  # how the whole part ended, others tell
        (without(FIRST), "worker 11 died"),
        ({**READY, FIRST: Seen(WORKER, 9.0)}, "worker 11 died"),  # its id is another's now
        ({**READY, FIRST: Seen(WORKER, 2.0, STOPPED)}, "worker 11 was stopped (SIGSTOP)"),
        ({**READY, MAIN: Seen(MASTER, 1.0, STOPPED)}, "master 10 was stopped (SIGSTOP)"),
        (
            {**READY, CLIENT: Seen(BACKEND, 3.0, STOPPED)},
            "client backend 13 was stopped (SIGSTOP)",
        ),
        (
            {**READY, FIRST: Seen(WORKER, 2.0, "frozen by its cgroup")},
            "worker 11 was frozen by its cgroup",
        ),
        (
            {**READY, 14: Seen(WORKER, 5.5)},
            None,
        ),  # it was being started when the part answered
        (
            {**READY, 14: Seen(WORKER, 9.0)},
            "worker 14 is new: another of its kind was replaced",
        ),
    ],
)
def test_what_befalls_a_process_is_told(scene: Mapping[int, Seen], said: str | None) -> None:
    assert settled(scene).check() == said


def test_what_was_seen_first_stays() -> None:
    struck = settled({**READY, FIRST: Seen(WORKER, 2.0, STOPPED)}, READY, without(SECOND))
    assert {struck.check() for _ in range(3)} == {"worker 11 was stopped (SIGSTOP)"}


def test_before_a_part_is_ready_only_what_is_stopped_is_told() -> None:
    starting = Supervision(MAIN, Script(READY, without(FIRST), {MAIN: Seen(MASTER, 1.0, STOPPED)}))
    assert [starting.check() for _ in range(3)] == [None, None, "master 10 was stopped (SIGSTOP)"]


def test_an_end_that_is_a_result_is_none_and_its_successor_lasts() -> None:
    after = {**without(FIRST), 14: Seen(WORKER, 9.0)}
    answers: dict[int, str | None] = {FIRST: None}
    backend = Supervision(
        MAIN,
        Script(READY, without(FIRST), after, {**after, 14: Seen(WORKER, 20.0)}),
        lambda pid, role: answers.get(pid, f"{role.name} {pid} died"),
        renews=True,
    )
    backend.settle()
    assert [backend.check() for _ in range(3)] == [None, None, "worker 14 died"]


def test_an_end_that_is_not_explained_yet_is_asked_about_again() -> None:
    answers = ["", "", "checkpointer 11 was killed"]
    restarted = {**without(FIRST), 14: Seen(WORKER, 9.0)}  # which is told when its end is
    server = Supervision(MAIN, Script(READY, restarted), lambda *_: answers.pop(0))
    server.settle()
    assert [server.check() for _ in range(4)] == [None, None, *["checkpointer 11 was killed"] * 2]


@pytest.mark.parametrize(
    ("title", "role"),
    [
        ("nginx: master process /venv/nginx -p /tmp/replica-lab-1/nginx", MASTER),
        ("nginx: worker process", WORKER),
        (
            "/venv/bin/postgres -D /tmp/replica-lab-1/postgres -c port=1",
            Role("postmaster"),
        ),
        ("postgres -clisten_addresses=*", Role("postmaster")),
        ("postgres: checkpointer", Role("checkpointer")),
        ("postgres: io worker 2", Role("io worker")),
        ("postgres: autovacuum launcher", Role("autovacuum launcher")),
        ("postgres: autovacuum worker students", Role("autovacuum worker", lasts=False)),
        ("postgres: app students 127.0.0.1(43210) INSERT", BACKEND),
        ("python -m lab.services.backend", Role("uvicorn")),
        ("lab.services.backend: worker", WORKER),
        ("python -c from multiprocessing.spawn import spawn_main; spawn_main()", WORKER),
        (
            "python -c from multiprocessing.resource_tracker import main;main(5)",
            Role("resource tracker"),
        ),
        ("python -m lab.services.cloudrun", Role("gateway")),
        ("/sbin/docker-init -- sh /with-settings.sh python -m lab.services.backend", Role("init")),
        ("/venv/fake-gcs-server -backend memory", SERVER),
        ("python -m lab.services.speech", SERVER),
    ],
)
def test_a_processs_title_says_what_it_is_for(title: str, role: Role) -> None:
    assert role_of(title, SERVER) == role


LINE = b"2026-11-27 14:41:48.964 UTC [99] 00000 LOG:  "


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], ""),
        ([LINE + b"checkpoint starting: time"], ""),
        (
            [
                LINE + b"checkpointer process (PID 41) was terminated by signal 9: Killed",
                LINE + b"background writer process (PID 42) exited with exit code 2",
            ],
            "checkpointer 41 was killed by SIGKILL: the server restarted itself",
        ),
        (
            [LINE + b"client backend (PID 7) was terminated by signal 11: Segmentation fault"],
            "client backend 7 was killed by SIGSEGV: the server restarted itself",
        ),
        (
            [LINE + b"WAL writer process (PID 43) exited with exit code 1"],
            "WAL writer 43 exited with code 1: the server restarted itself",
        ),
        (
            [
                LINE + b'background worker "logical replication launcher" (PID 44) was terminated'
                b" by signal 9: Killed"
            ],
            "background worker logical replication launcher 44 was killed by SIGKILL: the server"
            " restarted itself",
        ),
        (
            [
                b"2026-11-27 14:41:48.964 UTC [45] 57P01 FATAL:  terminating connection due to"
                b" administrator command"
            ],
            "client backend 45 was ended by SIGTERM",
        ),
        (
            [
                b"2026-11-27 14:41:48.964 UTC [45] 57P01 FATAL:  terminating connection due to"
                b" unexpected postmaster exit"
            ],
            "",  # the postmaster's own end is told
        ),
        ([b"2026-11-27 14:41:48.964 UTC [46] 53300 FATAL:  sorry, too many clients already"], ""),
    ],
)
def test_postgres_log_says_whose_end_had_it_restart(lines: list[bytes], said: str) -> None:
    assert ended_first(lines) == said
