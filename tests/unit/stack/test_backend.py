"""The backend of the embedded stack: what it waits for before it is launched again."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from lab.model.knobs import Knobs
from lab.stack import ports
from lab.stack.backend import Backend


@pytest.mark.parametrize("which", [0, 1, -1])
def test_it_is_launched_again_when_all_its_ports_are_free(
    which: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [port] = ports.free(1)
    backend = Backend(tmp_path, port, "postgresql://db", "http://storage", "http://speech", "audio")
    knobs = Knobs.model_validate({"workers": 3, "balance": "least_conn"})
    needed = backend.listens_on(knobs)
    launched: list[list[int]] = []
    # Which fails where one of them is still listened on.
    monkeypatch.setattr(backend, "_launch", lambda _: launched.append([*map(ports.check, needed)]))
    dying = socket.create_server((ports.HOST, needed[which]))
    gone = threading.Timer(0.2, dying.close)
    gone.start()
    backend.relaunch(knobs)
    gone.join()
    assert len(needed) == 3
    assert launched == [needed]
