"""The bucket, straight at the storage API: what a stack does to it between cells."""

from __future__ import annotations

from urllib.parse import quote

import requests

from lab.errors import PartFailed

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
