"""The service's thread pools, the loop's default executor, and how many threads anyio has.

As found there are two, for Azure Speech and for audio conversion, and storage uses
neither. An assessment runs in the first, and a conversion in the second, but for
``convert_call: blocking``. ``gcs_call`` decides in which of four places a storage call runs:

    blocking     the event loop itself: the worker does nothing else meanwhile
    to_thread    the loop's default executor, min(32, CPUs + 4) threads (asyncio's own rule,
                 what ``asyncio.to_thread`` and ``run_in_executor(None, …)`` use)
    executor     a pool of its own, with gcs_threads
    audio_pool   the audio threads, shared with conversion

anyio's threads are others again: ``run_in_threadpool`` (``db_call: threadpool``), and whatever
Starlette runs beside the loop, as the reading of a file that it has put on the disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, ParamSpec, TypeVar

from anyio.to_thread import current_default_thread_limiter

from lab.model.knobs import Knobs, default_executor_threads
from lab.services.backend.core.evidence import Gauges
from lab.services.backend.core.uploads import Timing

P = ParamSpec("P")
T = TypeVar("T")


class ThreadPools:
    """The pools of a worker."""

    def __init__(self, knobs: Knobs) -> None:
        self.speech = ThreadPoolExecutor(knobs.speech_threads, "speech")
        self.audio = ThreadPoolExecutor(knobs.audio_threads, "audio")
        self.gcs = ThreadPoolExecutor(knobs.gcs_threads, "gcs")
        self._default = ThreadPoolExecutor(default_executor_threads(knobs.vm_cpus), "default")
        self.sizes = {
            "speech": knobs.speech_threads,
            "audio": knobs.audio_threads,
            "gcs": knobs.gcs_threads,
            "default": default_executor_threads(knobs.vm_cpus),
            "anyio": knobs.anyio_threads,
        }

    def install(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give the running loop a default executor of the size that follows from the VM's cores,
        and anyio as many threads as it may have (its own limit is 40 a loop)."""
        loop.set_default_executor(self._default)
        current_default_thread_limiter().total_tokens = self.sizes["anyio"]

    def close(self) -> None:
        """Release all threads without waiting for running calls."""
        for pool in (self.speech, self.audio, self.gcs, self._default):
            pool.shutdown(wait=False, cancel_futures=True)


class MeteredPool:
    """A pool whose calls are counted, and timed as two stages: the wait for a thread, and the call.

    Args:
        pool: the threads.
        name: of the pool's gauges.
        stage: of the call; that of the wait is the same with ``_queue``.
    """

    def __init__(
        self, pool: ThreadPoolExecutor, name: Literal["speech", "audio"], stage: str, gauges: Gauges
    ) -> None:
        self._pool = pool
        self._name = name
        self._stage = stage
        self._gauges = gauges

    async def run(
        self, timing: Timing, call: Callable[P, T], *args: P.args, **options: P.kwargs
    ) -> T:
        """Make a call in one of the threads, and wait for its result."""

        def in_thread() -> T:
            self._gauges.queued(self._name, -1)
            timing.end()
            return self.here(timing, call, *args, **options)

        timing.begin(f"{self._stage}_queue")
        self._gauges.queued(self._name, +1)
        return await asyncio.get_running_loop().run_in_executor(self._pool, in_thread)

    def here(self, timing: Timing, call: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        """Make the call in this very thread."""
        with timing.stage(self._stage), self._gauges.busy(self._name):
            return call(*args, **options)
