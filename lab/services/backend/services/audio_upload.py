"""Step 3: the call to storage, 2-5 s away, and where it runs.

`blob.upload_from_string` is synchronous. As found it is called directly from the
coroutine, so the event loop is blocked until storage has answered; every other value
of ``gcs_call`` avoids that.

The defaults of google-cloud-storage, which are kept: an object up to 8 MiB is one
request; a request waits 60 s; failures are retried after 1 s, then twice as long each time
up to 60 s, for 120 s in all, uploads unconditionally (a retry multiplies the load); its
HTTP session keeps 10 connections and opens and discards more. With a client's
first upload it also requests the bucket's metadata, in a thread of its own (seen with 3.17).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any

from google.auth.credentials import AnonymousCredentials
from google.auth.transport.requests import AuthorizedSession
from google.cloud import storage
from google.cloud.storage.constants import _DEFAULT_TIMEOUT
from google.cloud.storage.retry import DEFAULT_RETRY

from lab.services.backend.core.evidence import Gauges
from lab.services.backend.core.thread_pool import ThreadPools
from lab.services.backend.core.uploads import Timing
from lab.services.backend.settings import BackendSettings

FAILED_FROM = 400
"""HTTP statuses from here on are errors."""


class CountingSession(AuthorizedSession):
    """The client's HTTP session with its defaults, which counts every attempt and its end."""

    def __init__(self, gauges: Gauges) -> None:
        super().__init__(AnonymousCredentials())  # type: ignore[no-untyped-call]
        self._gauges = gauges
        self._call = threading.local()

    @contextmanager
    def storage_call(self) -> Iterator[None]:
        """A storage call of this thread: which attempts are retries is known inside."""
        self._call.failed = False
        try:
            yield
        finally:
            del self._call.failed

    def request(self, method: str, url: str, data: Any = None, **kwargs: Any) -> Any:  # type: ignore[override]
        """Make an attempt; the library's retries come here too, in the thread of their call."""
        size = len(data) if isinstance(data, bytes) else 0
        last_failed: bool | None = getattr(self._call, "failed", None)
        self._gauges.storage_attempt(size, again=bool(last_failed))
        failed = True
        try:
            answer = super().request(method, url, data=data, **kwargs)  # type: ignore[no-untyped-call]
            failed = answer.status_code >= FAILED_FROM
            return answer
        finally:
            if last_failed is not None:
                self._call.failed = failed
            self._gauges.storage_answer(size, failed=failed)


class AudioUploader:
    """Uploads recordings to the bucket; ``gcs_call`` says in which thread."""

    def __init__(self, settings: BackendSettings, pools: ThreadPools, gauges: Gauges) -> None:
        self._call = settings.knobs.gcs_call
        self._pools = pools
        self._gauges = gauges
        # The library's defaults, divided by speed; at speed 1 they are the defaults.
        self._timeout = settings.wall(_DEFAULT_TIMEOUT)
        self._retry = DEFAULT_RETRY.with_delay(
            initial=settings.wall(DEFAULT_RETRY._initial),
            maximum=settings.wall(DEFAULT_RETRY._maximum),
        ).with_timeout(settings.wall(DEFAULT_RETRY._timeout))
        self._session = CountingSession(gauges)
        client = storage.Client(
            project="replica",
            credentials=AnonymousCredentials(),
            client_options={"api_endpoint": settings.storage_url},
            _http=self._session,
        )
        self._bucket = client.bucket(settings.bucket)

    async def upload_audio(
        self, name: str, content: bytes, content_type: str, timing: Timing
    ) -> str:
        """Store ``content`` as object ``name`` and return its address.

        Raises:
            google.api_core.exceptions.GoogleAPIError: storage answered with an error.
            requests.RequestException: storage did not answer, its retries included.
        """
        upload = (name, content, content_type, timing)
        if self._call == "blocking":
            return self._upload(*upload)
        timing.begin("gcs_queue")
        self._gauges.queued_for_thread(+1)
        if self._call == "to_thread":
            return await asyncio.to_thread(self._upload_in_thread, *upload)
        pool: Executor = self._pools.gcs if self._call == "executor" else self._pools.audio
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(pool, self._upload_in_thread, *upload)

    def _upload_in_thread(self, *upload: Any) -> str:
        self._gauges.queued_for_thread(-1)
        timing: Timing = upload[-1]
        timing.end()
        return self._upload(*upload)

    def _upload(self, name: str, content: bytes, content_type: str, timing: Timing) -> str:
        blob = self._bucket.blob(name)
        with (
            timing.stage("gcs"),
            self._gauges.busy_with_storage(),
            self._session.storage_call(),
        ):
            blob.upload_from_string(
                content, content_type=content_type, timeout=self._timeout, retry=self._retry
            )
        return f"gs://{self._bucket.name}/{name}"
