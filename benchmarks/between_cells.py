"""Between cells: from a cell's last answer to the next one's first upload, and what it goes to.

    wall / load   wall time of a whole `lab run`, over the sum of its cells' times from the first
                  upload to the last answer
    gap           from a cell's last answer to the next cell's first upload, by the samples and
                  the moment of t = 0 that are stored with each cell
    phases        what of the gaps went to which step of the lab's, of itself (a step within
                  another counts for itself alone); what is left is `between steps`

Usage: python -m benchmarks.between_cells [--spec FILE] [--stack NAME] [--json]
       python -m benchmarks.between_cells --stored RUN     the gaps of a stored run
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import wraps
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

from lab import runner
from lab.cli import lab, wiring
from lab.faults.network import Toxiproxy
from lab.load import driver
from lab.load.plan import GeneratorStatus
from lab.model.evidence import Sample
from lab.observe import observer
from lab.observe.retention import Retention
from lab.observe.watch import Watch
from lab.paths import ROOT
from lab.stack import base, embedded
from lab.stack import process as processes
from lab.stack.compose import project, stack
from lab.stack.compose.processes import ContainerProcesses
from lab.stack.monitor import Monitor
from lab.stack.ownership import Guardian
from lab.stack.storage import Bucket
from lab.store import RunFolder
from lab.store.cells import CellFolder

SPEC = ROOT / "experiments" / "workers-x-pool.yaml"
BETWEEN = "between steps"

Step = tuple[str, Any, str]
STEPS: Sequence[Step] = (
    # name                            where                       what
    ("generator: t = 0", driver, "_wait_for_start"),
    ("generator: followed", driver, "_follow"),
    ("generator: prepared", driver, "_prepare"),
    ("generator: spawned", driver, "_spawn"),
    ("generator: ended", driver, "_end"),
    ("uploads settle", observer.Observer, "settle"),
    ("watch begins", Watch, "__enter__"),
    ("watch ends", Watch, "__exit__"),
    ("retention ends", Retention, "__exit__"),
    ("audit", observer, "audit"),
    ("evidence stored", CellFolder, "write_evidence"),
    ("cell begun", RunFolder, "begin"),
    ("logs kept", embedded.EmbeddedStack, "collect_logs"),
    ("logs kept", stack.ComposeStack, "collect_logs"),
    ("judged", runner, "judge_stored"),
    ("verdict stored", CellFolder, "finish"),
    ("summary stored", RunFolder, "write_summary"),
    ("apply: itself", base.LifeCycle, "apply"),
    ("apply: guardian", Guardian, "renew"),
    ("apply: what is stale", base.LifeCycle, "_stale"),
    ("apply: parts end", embedded.EmbeddedStack, "_end"),
    ("apply: parts end", stack.ComposeStack, "_end"),
    ("apply: parts start", stack.ComposeStack, "_start"),
    ("apply: containers made", project.Project, "prepare"),
    ("apply: containers started", project.Project, "start"),
    ("apply: parts serve", stack.ComposeStack, "_wait_until"),
    ("apply: processes settle", ContainerProcesses, "settle"),
    ("apply: slots free", base.LifeCycle, "_wait_for_free_slots"),
    ("apply: table emptied", Monitor, "empty"),
    ("apply: bucket emptied", Bucket, "empty"),
    ("apply: addresses", embedded.EmbeddedStack, "_replica"),
    ("apply: addresses", stack.ComposeStack, "_replica"),
    ("faults: base round trip", wiring, "base_rtt"),
    ("faults: toxics set", Toxiproxy, "inject"),
    ("faults: toxics removed", Toxiproxy, "remove_all"),
)
"""What is timed: name of the step, and the function that it is."""


@dataclass
class Trace:
    """Times steps; one that goes on beside another counts for what the other leaves of it.

    Attributes:
        spans: name, begin and end of each, on the monotonic clock; an outer one after its inner.
    """

    spans: list[tuple[str, float, float]] = field(default_factory=list)

    def follow(self, steps: Iterable[Step]) -> None:
        """Have each of these functions leave a span."""
        for name, where, what in steps:
            setattr(where, what, self._timed(name, getattr(where, what)))
        for part in processes.Part.__subclasses__():
            for what in ("start", "stop"):
                name = f"apply: {part.name} {what}s"
                setattr(part, what, self._timed(name, getattr(part, what)))
        inner = processes.Process.wait_ready
        processes.Process.wait_ready = self._timed("apply: part serves", inner)  # type: ignore[method-assign]

    def _timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(call)
        def timed(*given: Any, **named: Any) -> Any:
            begun = time.monotonic()
            try:
                return call(*given, **named)
            finally:
                self.spans.append((name, begun, time.monotonic()))

        return timed

    def within(self, begin: float, end: float) -> dict[str, float]:
        """Seconds of each step between two moments, without those of the steps within it."""
        took: dict[str, float] = defaultdict(float)
        inside = [
            (name, max(begin, start), min(end, stop))
            for name, start, stop in self.spans
            if stop > begin and start < end
        ]
        marks = sorted({begin, end, *(mark for _, *span in inside for mark in span)})
        for left, right in pairwise(marks):
            covering = [span for span in inside if span[1] <= left and right <= span[2]]
            innermost = min(covering, key=lambda span: span[2] - span[1], default=(BETWEEN,))
            took[innermost[0]] += right - left
        return took


@dataclass(frozen=True)
class Loaded:
    """When a cell was under load, on the machine's monotonic clock."""

    cell: str
    first: float
    last: float


def loaded(folder: CellFolder) -> Loaded | None:
    """A cell's first upload and last answer; None if it has none, or no moment of t = 0."""
    status = GeneratorStatus.read(folder.logs / "generator.status.json")
    cell = folder.read_cell()
    samples = [line for line in folder.read_observation().samples if isinstance(line, Sample)]
    if status is None or not samples:
        return None
    first = min(sample.sent_at for sample in samples)
    last = max(sample.sent_at + sample.latency_s for sample in samples)
    return Loaded(
        cell.id, status.t0 + first / cell.knobs.speed, status.t0 + last / cell.knobs.speed
    )


def loads(run: RunFolder) -> list[Loaded]:
    """Of every cell that was loaded, in the order in which they were."""
    known = [loaded(run.cell(name)) for name in run.info.cells if run.cell(name).observed()]
    return sorted((one for one in known if one), key=lambda one: one.first)


@dataclass(frozen=True)
class Result:
    """What was measured, in wall seconds.

    Args:
        cells: how many were loaded.
        load_s: the sum of their times under load.
        wall_s: of the whole run, from the start of its process; None of a stored run.
        gaps_s: from last answer to first upload, in the order of the cells.
        phases_s: by step, the median over the gaps.
        longest_s: by step, of the longest gap.
        before_s, after_s: to the first upload of all, and from the last answer of all.
    """

    cells: int
    load_s: float
    wall_s: float | None
    gaps_s: Sequence[float]
    phases_s: dict[str, float]
    longest_s: dict[str, float]
    before_s: float | None = None
    after_s: float | None = None

    def __str__(self) -> str:
        lines = []
        if self.wall_s:
            ratio = self.wall_s / self.load_s
            lines.append(
                f"wall / load     {self.wall_s:7.2f} s / {self.load_s:.2f} s = {ratio:.3f}"
                f"   ({self.before_s:.2f} s before, {self.after_s:.2f} s after)"
            )
        lines.append(
            f"gap             median {statistics.median(self.gaps_s):.2f} s, "
            f"longest {max(self.gaps_s):.2f} s, of {len(self.gaps_s)}"
        )
        lines += [f"{'':34}median  longest"] if self.phases_s else []
        for name in sorted(self.phases_s, key=lambda name: -self.phases_s[name]):
            longest = self.longest_s.get(name, 0.0)
            lines.append(f"  {name:<30} {self.phases_s[name]:6.3f} s {longest:6.3f} s")
        return "\n".join(lines)


def result(run: RunFolder, trace: Trace, began: float | None) -> Result:
    """The figures of a run; ``began`` is its process's start on the monotonic clock."""
    known = loads(run)
    now = time.monotonic()
    pairs = list(pairwise(known))
    phases = [trace.within(one.last, after.first) for one, after in pairs] if trace.spans else []
    names = {name for phase in phases for name in phase}
    longest = max(phases, key=lambda phase: sum(phase.values()), default={})
    return Result(
        cells=len(known),
        load_s=sum(one.last - one.first for one in known),
        wall_s=None if began is None else now - began,
        gaps_s=[after.first - one.last for one, after in pairs],
        phases_s={n: statistics.median(phase.get(n, 0.0) for phase in phases) for n in names},
        longest_s=longest,
        before_s=None if began is None else known[0].first - began,
        after_s=None if began is None else now - known[-1].last,
    )


def measured(spec: Path, name: str, results: Path) -> Result:
    """Run a spec in this process, and time it."""
    age = time.time() - psutil.Process().create_time()
    began, trace = time.monotonic() - age, Trace()
    trace.follow(STEPS)
    arguments = ["run", str(spec), "--stack", name, "--results", str(results), "--json"]
    with Path(os.devnull).open("w") as nowhere:
        kept = os.dup(1)
        os.dup2(nowhere.fileno(), 1)
        try:
            with lab.make_context("lab", arguments) as context:
                lab.invoke(context)
        finally:
            os.dup2(kept, 1)
    return result(RunFolder.open(results / "latest"), trace, began)


def main() -> None:
    """Measure, or read, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", type=Path, default=SPEC)
    parser.add_argument("--stack", choices=("embedded", "compose"), default="embedded")
    parser.add_argument("--stored", type=Path, help="a run folder: only its gaps")
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args()
    if asked.stored:
        found = result(RunFolder.open(asked.stored), Trace(), None)
        if not found.gaps_s:
            parser.error(f"{asked.stored} has no two measured cells to look between")
    else:
        with tempfile.TemporaryDirectory() as name:
            found = measured(asked.spec, asked.stack, Path(name))
    if asked.json:
        print(json.dumps({"benchmark": "between_cells", "cpus": os.cpu_count(), **asdict(found)}))
    else:
        print(found)


if __name__ == "__main__":
    main()
