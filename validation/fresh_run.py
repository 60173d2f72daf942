"""A small run as today's lab stores it, with lines of evidence that earlier runs do not have."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from lab.model.evidence import OomKill, ProcessFaultRecord, Sample, StageSpan, UploadRecord
from lab.model.experiment import Experiment
from lab.model.run import RunRequest
from lab.model.verdict import Invalidity, Outcome
from lab.plan import expand
from lab.runner import Lab, judge_cell, run_experiment
from lab.store import CellFolder, RunFolder
from tests.fakes import FakeStack, InstantLoad, RecordingInjector

SPEC = {
    "experiment": "fresh",
    "about": "does what is stored today read back?",
    "matrix": {"workers": [1, 2]},
    "load": {
        "users": 10,
        "ramp": "0 s",
        "warmup": "10 s",
        "window": "60 s",
        "audio": "200 KB",
    },
    "faults": [],
    "criteria": ["p95 < 10 s", "error_rate < 5 %"],
}


def make_fresh(results: Path) -> RunFolder:
    """Measure two cells, the last one twice, on a replica that is a fake; store them."""
    experiment = Experiment.model_validate(SPEC)
    cells = expand(experiment, {})
    request = RunRequest(
        started=datetime.now(UTC),
        spec_file="fresh.yaml",
        experiment=experiment,
        stack="fake",
        stack_reason="a replica of one process",
        speed=1.0,
    )
    run = RunFolder.create(results, cells, request)
    with TemporaryDirectory() as folder:
        stack = FakeStack(Path(folder))
        try:
            lab = Lab(stack, RecordingInjector(), InstantLoad(30))
            run_experiment(lab, run, cells)
            _disturbed(run.cell(cells[-1].id))
            run_experiment(lab, run, cells)
        finally:
            stack.close()
    for cell_id in run.info.cells:
        _with_records(run.cell(cell_id))
    run.write_summary()
    return run


def _disturbed(folder: CellFolder) -> None:
    """Have it that the attempt was disturbed, so that another follows."""
    reason = Invalidity(kind="machine", reason="this machine was busy", fitting=1.0)
    told = {"outcome": Outcome.INVALID, "reasons": (reason.reason,), "invalid": (reason,)}
    folder.finish(folder.read_verdict().model_copy(update=told))


def _with_records(folder: CellFolder) -> None:
    """Have it that workers recorded every upload, and that one was killed."""
    seen = folder.read_observation()
    samples = [s.model_copy(update={"request": f"r{n}"}) for n, s in enumerate(seen.samples)]
    folder.samples.write_text("".join(sample.model_dump_json() + "\n" for sample in samples))
    *lines, audit = seen.evidence
    lines += map(_record, samples)
    lines.append(OomKill(t=30.0, pid=1, rss=300_000_000))
    lines.append(ProcessFaultRecord(t=20.0, fault="f", part="backend", action="kill", until=21.0))
    folder.write_evidence([*lines, audit])
    judge_cell(folder)


def _record(sample: Sample) -> UploadRecord:
    spans = (("pool_wait", 0.0), ("auth", 0.05), ("gcs", 0.5), ("write", 0.05))
    return UploadRecord(
        t=sample.sent_at + sample.latency_s,
        request=sample.request or "",
        worker=1,
        handed=sample.sent_at,
        arrived=sample.sent_at,
        status=sample.status,
        cause=sample.error,
        spans=[StageSpan(stage, sample.sent_at, took) for stage, took in spans],
    )
