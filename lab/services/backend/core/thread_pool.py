"""The service's thread pools, and the loop's default executor.

As found there are two, for Azure Speech and for audio conversion, and storage uses
neither. ``gcs_call`` decides in which of four places a storage call runs:

    blocking     the event loop itself: the worker does nothing else meanwhile
    to_thread    the loop's default executor, min(32, CPUs + 4) threads (asyncio's own rule,
                 what ``asyncio.to_thread`` and ``run_in_executor(None, …)`` use)
    executor     a pool of its own, with gcs_threads
    audio_pool   the audio threads, shared with conversion
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from lab.model.knobs import Knobs, default_executor_threads


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
        }

    def install(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give the loop a default executor of the size that follows from the VM's cores."""
        loop.set_default_executor(self._default)

    def close(self) -> None:
        """Release all threads without waiting for running calls."""
        for pool in (self.speech, self.audio, self.gcs, self._default):
            pool.shutdown(wait=False, cancel_futures=True)
