"""Toxiproxy in front of storage, of the database and of the speech service.

    backend ──> :gcs proxy    ──> fake-gcs-server
            ──> :db proxy     ──> Postgres
            ──> :speech proxy ──> lab.services.speech

It is the real ``toxiproxy-server`` if there is one, else the lab's own server, which has the
same API. A stack makes the proxies; it does not set toxics.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from lab import paths
from lab.errors import MissingComponent
from lab.model.environment import python_variables
from lab.model.knobs import Knobs
from lab.stack.ports import HOST, accepts
from lab.stack.process import Part, Process

TOOLS = paths.made(".tools", "bin")
REAL = "toxiproxy-server"


def find_real() -> str | None:
    """Path of the real server, on PATH or built by ``make toxiproxy``; None if there is none."""
    return shutil.which(REAL, path=f"{os.environ.get('PATH', '')}{os.pathsep}{TOOLS}")


class ToxiproxyPart(Part):
    """The proxies.

    Args:
        which: ``auto``, ``real`` or ``embedded``.
        proxies: by name, the port on which a proxy listens and its upstream's port.
    """

    name = "toxiproxy"

    def __init__(
        self, folder: Path, port: int, proxies: Mapping[str, tuple[int, int]], which: str = "auto"
    ) -> None:
        super().__init__(folder)
        self.port = port
        self.url = f"http://{HOST}:{port}"
        self.listens = {name: f"{HOST}:{ports[0]}" for name, ports in proxies.items()}
        self._proxies = proxies
        real = find_real() if which in ("auto", "real") else None
        if which == "real" and real is None:
            raise MissingComponent(
                f"{REAL} is not on PATH nor in {TOOLS}",
                f"{paths.TOXIPROXY}, or use the embedded one",
            )
        self._program = [real] if real else [sys.executable, "-m", "lab.services.toxiproxy"]
        self.variant = "real" if real else "embedded"

    def port_of(self, proxy: str) -> int:
        """Where a proxy listens."""
        return self._proxies[proxy][0]

    def start(self, _knobs: Knobs) -> None:
        config = self.folder / "proxies.json"
        proxies = [
            {
                "name": name,
                "listen": f"{HOST}:{listen}",
                "upstream": f"{HOST}:{upstream}",
                "enabled": True,
            }
            for name, (listen, upstream) in self._proxies.items()
        ]
        config.write_text(json.dumps(proxies))
        flags = ["-host", HOST, "-port", str(self.port), "-config", str(config)]
        self._process = Process(self.name, [*self._program, *flags], self.log, python_variables())
        listening = [self.port, *(listen for listen, _ in self._proxies.values())]
        self._process.wait_ready(lambda: all(map(accepts, listening)))
