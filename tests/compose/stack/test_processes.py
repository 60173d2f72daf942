"""The processes inside containers: told by the kernel, or by the engine where it is elsewhere."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from requests.adapters import HTTPAdapter

from lab.model import processes
from lab.stack.compose.processes import EngineReader
from lab.stack.compose.stack import ComposeStack
from lab.stack.supervision import Role, Supervision
from tests.fakes import make_cell
from tests.live import upload, wait_until
from validation.strikes import NOTICED_WITHIN_S
from validation.struck import freezer_of, set_frozen

pytestmark = pytest.mark.compose

CELL = make_cell({"speed": 20, "workers": 2, "global_rate_limit": "off"})


def freeze(pid: int) -> None:
    set_frozen(freezer_of(pid), True)


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def find(stack: ComposeStack, part: str, title: str) -> int:
    """The process of a part's container that has this in its title."""
    main = int(stack.project.containers()[part].attrs["State"]["Pid"])
    return next(pid for pid in processes.descendants(main) if title in processes.title(pid))


@pytest.mark.parametrize(
    ("part", "title", "strike", "said"),
    [
        ("backend", "backend: worker", stop, "worker was stopped (SIGSTOP)"),
        ("backend", "backend: worker", kill, "worker died"),
        ("nginx", "nginx: worker", kill, "worker died"),
        ("postgres", "postgres: checkpointer", kill, "checkpointer was killed by SIGKILL"),
        ("fake-gcs-server", "fake-gcs-server", freeze, "was frozen by its cgroup"),
    ],
)
def test_a_process_inside_a_container_that_is_struck_is_named_and_the_part_starts_anew(
    contained: ComposeStack, part: str, title: str, strike: Callable[[int], None], said: str
) -> None:
    replica = contained.apply(CELL)
    assert upload(replica.url).status_code == 200
    assert contained.down_parts() == {}
    pid = find(contained, part, title)
    try:
        strike(pid)
        wait_until(contained.down_parts, within=NOTICED_WITHIN_S)
    finally:
        if strike is freeze:
            set_frozen(freezer_of(pid), False)
    [(named, why)] = contained.down_parts().items()
    assert named == part
    assert all(word in why for word in said.split()), why
    replica = contained.apply(CELL)
    assert part in contained.restarted
    assert contained.down_parts() == {}
    assert upload(replica.url).status_code == 200


def test_a_part_that_others_paused_and_resumed_stays_noted(contained: ComposeStack) -> None:
    contained.apply(CELL)
    container = contained.project.containers()["nginx"]
    container.pause()
    container.unpause()
    time.sleep(0.5)
    assert contained.down_parts() == {"nginx": "was paused"}
    contained.apply(CELL)
    assert contained.restarted == ["nginx"]
    assert contained.down_parts() == {}


def test_an_engine_elsewhere_is_asked_for_its_processes(contained: ComposeStack) -> None:
    contained.apply(CELL)
    backend = contained.project.containers()["backend"]
    main = int(backend.attrs["State"]["Pid"])
    asked = EngineReader(backend, main)
    try:
        worker = find(contained, "backend", "backend: worker")
        assert (asked()[main].role, asked()[worker].role) == (Role("init"), Role("worker"))
        supervision = Supervision(main, asked)
        supervision.settle()
        assert supervision.check() is None
        stop(worker)
        wait_until(supervision.check, within=NOTICED_WITHIN_S)
        assert supervision.check() == f"worker {worker} was stopped (SIGSTOP)"
    finally:
        asked.close()


def test_a_poll_asks_the_engine_nothing_where_the_kernel_shows_the_processes(
    contained: ComposeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    contained.apply(CELL)
    asked: list[str] = []

    def refuse(_adapter: HTTPAdapter, request: Any, **_options: Any) -> None:
        if threading.current_thread() is polling:
            asked.append(request.url)
            raise AssertionError(request.url)

    polling = threading.current_thread()
    monkeypatch.setattr(HTTPAdapter, "send", refuse)
    assert contained.down_parts() == {}
    assert asked == []
