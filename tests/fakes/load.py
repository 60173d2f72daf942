"""The fake generator."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import requests

from lab.errors import PartFailed
from lab.files import cell_folder, logs_folder
from lab.load.driver import LoadResult, LoadStart
from lab.load.upload import headers, multipart, outcome, stages
from lab.model.evidence import Sample
from lab.model.experiment import Cell
from lab.model.load import BurstLoad
from lab.model.replica import UPLOAD_PATH
from lab.model.run import LoadSoFar, LoadTick


class InstantLoad:
    """Uploads one after the other, without the load's waiting; planned evenly over its window.

    Args:
        uploads: how many.
        dies_after: the generator dies after so many; None: it does not.
        size: bytes of each file.
    """

    def __init__(self, uploads: int = 100, dies_after: int | None = None, size: int = 64) -> None:
        self.uploads = uploads
        self.dies_after = dies_after
        self._audio = multipart(b"\0" * size, "instant.wav")
        self._size = size

    def run(
        self,
        cell: Cell,
        url: str,
        samples: Path,
        log: Path,
        tick: Callable[[LoadTick], None],
        on_start: Callable[[LoadStart], None] | None = None,
        is_decided: Callable[[LoadSoFar], bool] | None = None,
    ) -> LoadResult:
        for folder, file in (
            (cell_folder(samples.parent), samples),
            (logs_folder(log.parent), log),
        ):
            folder.make()
            folder.keep(file.name, BytesIO())
        t0 = time.monotonic()
        if on_start:
            on_start(LoadStart(os.getpid(), t0))
        with (
            requests.Session() as http,
            os.fdopen(
                cell_folder(samples.parent).appending(samples.name), "a", buffering=1
            ) as lines,
        ):
            http.trust_env = False
            failed, so_far = 0, list[Sample]()
            for number in range(self.uploads):
                if number == self.dies_after:
                    raise PartFailed("the load generator died (exit code 1)", f"see {log}")
                sample = self._upload(http, url, cell, number)
                lines.write(sample.model_dump_json() + "\n")
                failed += sample.error is not None
                tick(LoadTick(sample.sent_at, 1, number + 1, number + 1, failed, 0.0))
                so_far.append(sample)
                at = sample.sent_at + sample.latency_s
                if is_decided and is_decided(LoadSoFar(at, so_far, ())):
                    window = cell.load.measured[0], at
                    return LoadResult(t0, window, 0, os.getpid(), decided_at=at)
        return LoadResult(t0, cell.load.measured, 0, os.getpid())

    def _upload(self, http: requests.Session, url: str, cell: Cell, number: int) -> Sample:
        start, end = cell.load.measured
        at = 0.0 if isinstance(cell.load, BurstLoad) else (end - start) * number / self.uploads
        user = number % cell.load.peak_users
        began = time.perf_counter()
        answer = http.post(url + UPLOAD_PATH, data=self._audio, headers=headers(user), timeout=30)
        took = time.perf_counter() - began
        kind = answer.headers.get("Content-Type", "")
        error, recording = outcome(answer.status_code, kind, answer.content)
        return Sample(
            planned_at=start + at,
            sent_at=start + at,
            latency_s=took * cell.knobs.speed,
            status=answer.status_code,
            error=error,
            bytes=self._size,
            user=user,
            stages=stages(answer.headers.get("Server-Timing", ""), cell.knobs.speed),
            recording=recording,
        )
