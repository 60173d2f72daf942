"""An upload and its parts: what its user saw, when its worker had it, and each of its stages.

    user      |------------------ upload ------------------|
    worker        |------------ service ------------|
    stages         |pool_wait|auth|  |----- gcs -----|write|

The user's part is its sample. The others are of the record that its worker wrote, which has the
moment at which each stage began; they may go on when the user has long been cut off. A sample whose
worker wrote none, as in runs of an earlier lab or where nginx refused it, has no parts: only how
long its stages took is known, and not when.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lab.model.evidence import Observation, Sample, StageSpan, UploadRecord


@dataclass(frozen=True)
class SeenUpload:
    """An upload, or another journey.

    Args:
        number: of the sample in its cell, from 0.
        sample: what its user saw.
        record: what its worker wrote last of it; None where it wrote nothing.
    """

    number: int
    sample: Sample
    record: UploadRecord | None

    @property
    def end(self) -> float:
        """When its user was answered, or gave up: real-world seconds after the load started."""
        return self.sample.sent_at + self.sample.latency_s

    @property
    def service(self) -> StageSpan | None:
        """From its arrival at the application to its end there, as far as it was followed."""
        if self.record is None:
            return None
        return StageSpan(
            "service", self.record.arrived, max(0.0, self.record.t - self.record.arrived)
        )

    @property
    def accept_wait(self) -> StageSpan | None:
        """From its handing over by nginx, or the gateway, to its arrival."""
        record = self.record
        if record is None or record.handed is None or record.arrived < record.handed:
            return None
        return StageSpan("accept_wait", record.handed, record.arrived - record.handed)

    @property
    def stages(self) -> list[StageSpan]:
        """Its stages in the service, with the moment at which each began."""
        return self.record.spans if self.record else []


def seen_uploads(observed: Observation) -> Iterator[SeenUpload]:
    """Every sample with its worker's last record."""
    records = {line.request: line for line in observed.evidence if isinstance(line, UploadRecord)}
    for number, sample in enumerate(observed.samples):
        yield SeenUpload(number, sample, records.get(sample.request) if sample.request else None)
