"""Published incidents of others' services, as cells of which it is known what is right.

Each is a whole spec: settings and a load, and what the lab has to say of it, as it follows from
the figures that were published or from arithmetic. Where the lab once erred is the kind:

    1  what is full is not what uploads waited for
    2  every queue is one
    3  criteria of every kind have an answer
    4  nothing is met that was not seen
    5  what is injected is held against all of it
    7  workers do not share evenly

Of each kind there are those that were seen to go wrong, others like them, and at least one that
looks like them and must be told apart. Without arguments all are measured, on the embedded
stack, one after the other; or those of which a NAME is given. RUN folders go to ``--results``.

Exit code: 0 all are judged as is right, 1 one is not, 2 a spec could not be measured.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lab.errors import UsageError
from lab.model.replica import Target
from lab.model.suggest import suggest
from lab.model.verdict import Outcome, Resource, Verdict
from validation.command import exit_code, parser

BURST_OF_50 = {"burst": 50}
OFF = {"global_rate_limit": "off"}
OF_20_THREADS = {"gcs_call": "executor", "gcs_threads": 20}
ANYIO: Mapping[str, Any] = {
    **OFF,
    "db_call": "threadpool",
    "pool_size": 60,
    "max_overflow": 60,
    "db_cap": 150,
    "db_rtt": "500 ms",
    "gcs_call": "executor",
    "gcs_threads": 200,
    "gcs_latency": "2 s",
}
DRY: Mapping[str, Any] = {
    "pool_size": 5,
    "max_overflow": 10,
    "pool_timeout": "30 s",
    "db_session": "hold",
    "gcs_call": "executor",
    "gcs_threads": 100,
    "db_cap": 100,
    "gcs_latency": "1 s",
    "speed": 5,
}
SLOW_STORAGE: Mapping[str, Any] = {
    **OFF,
    "gcs_call": "executor",
    "gcs_threads": 128,
    "gcs_latency": "10 - 50 s",
    "speed": 2,
}
VALID = (Outcome.HELD, Outcome.BROKE, Outcome.UNDECIDED)


@dataclass(frozen=True)
class Incident:
    """A cell, and what is right.

    Args:
        kind: the kind of error that it once showed, or looks like.
        name: as a spec writes an experiment's name.
        knobs: over *as found*.
        load: as a spec writes it; 50 KB of audio if not said.
        criteria: likewise.
        outcomes: those that are right.
        limits: the resources that are right; empty: not asked.
        says: what the verdict's reasons or the limit's evidence must contain, as an expression.
        figures: bounds of metrics.
        target: where the backend runs.
        quick: knobs and keys of the load in whose place a test takes less time for the same.
    """

    kind: int
    name: str
    knobs: Mapping[str, Any]
    load: Mapping[str, Any]
    criteria: Sequence[str]
    outcomes: Sequence[Outcome] = (Outcome.BROKE,)
    limits: Sequence[Resource] = ()
    says: str = ""
    figures: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    target: Target = "vm"
    quick: Mapping[str, Any] = field(default_factory=dict)

    def spec(self) -> dict[str, Any]:
        """The whole spec."""
        return {
            "experiment": self.name,
            "preset": "as-found",
            "target": self.target,
            "knobs": {"speed": 1, **self.knobs},
            "load": {"audio": "50 KB", **self.load},
            "criteria": list(self.criteria),
        }

    def wrong(self, verdict: Verdict, *, figures: bool = True) -> list[str]:
        """What is not right of a verdict, a phrase each.

        Args:
            verdict: the cell's.
            figures: whether metrics are to be within their bounds; not on a busy machine.
        """
        if verdict.outcome not in self.outcomes:
            right = " or ".join(self.outcomes)
            return [f"{verdict.outcome}, not {right}: {verdict.reasons[0]}"]
        limit = verdict.limit
        words = "; ".join([*verdict.reasons, limit.evidence if limit else ""])
        phrases = []
        if self.limits and (limit is None or limit.resource not in self.limits):
            right = " or ".join(self.limits)
            phrases.append(f"limit {limit.resource if limit else None}, not {right}: {words}")
        if not re.search(self.says, words):
            phrases.append(f"nothing like '{self.says}' in: {words}")
        for name, (low, high) in self.figures.items() if figures else ():
            value = verdict.metrics.get(name)
            if value is None or not low <= value <= high:
                phrases.append(f"{name} {value}, not {low:g} to {high:g}")
        return phrases


INCIDENTS = (
    Incident(
        1,
        "storage-threads-in-a-burst",
        OF_20_THREADS,
        BURST_OF_50,
        ["p95 < 10 s"],
        limits=[Resource.OWN_THREADS],
        says=r"own threads \d\d %",
        quick={"speed": 2},
    ),
    Incident(
        1,
        "three-rounds-of-40-threads",
        {
            **OFF,
            "gcs_call": "executor",
            "gcs_threads": 40,
            "gcs_latency": "10 s",
            "db_rtt": "2 ms",
            "speed": 2,
        },
        {"burst": 100},
        ["p95 < 20 s"],
        limits=[Resource.OWN_THREADS],
        figures={"p50": (20.0, 22.0), "p95": (30.0, 33.0)},
    ),
    Incident(
        1,
        "default-executor-in-a-burst",
        {"gcs_call": "to_thread", "speed": 2},
        {"burst": 24},
        ["p95 < 10 s"],
        limits=[Resource.DEFAULT_EXECUTOR],
        quick={"speed": 3},
    ),
    Incident(
        1,
        "event-loop-in-a-burst",
        {"gcs_call": "blocking", "speed": 2},
        {"burst": 8},
        ["p95 < 10 s"],
        limits=[Resource.EVENT_LOOP],
        quick={"speed": 6},
    ),
    Incident(
        1,
        "slow-storage-and-no-queue",
        {**OF_20_THREADS, "gcs_latency": "6 s", "db_rtt": "2 ms"},
        {"burst": 15},
        ["p95 < 5 s"],
        limits=[Resource.STORAGE],
        quick={"speed": 2},
    ),
    Incident(
        2,
        "one-warm-instance",
        {"cloudrun_min_instances": 1},
        {"users": 3, "ramp": "3 s", "warmup": "20 s", "window": "150 s"},
        ["p95 < 10 s"],
        limits=[Resource.INSTANCE_QUEUE],
        target="cloudrun",
        quick={"users": 4, "ramp": "1 s", "warmup": "4 s", "window": "24 s"},
    ),
    Incident(
        2,
        "queries-in-anyios-threads",
        ANYIO,
        {"users": 120, "ramp": "10 s", "warmup": "20 s", "window": "40 s"},
        ["p95 < 8 s"],
        limits=[Resource.ANYIO_THREADS],
        figures={"throughput": (10.6, 11.9), "capacity": (11.0, 11.6)},
        quick={"speed": 2, "warmup": "10 s", "window": "15 s"},
    ),
    Incident(
        2,
        "few-of-anyios-threads",
        {**ANYIO, "anyio_threads": 4, "db_rtt": "100 ms", "gcs_latency": "1 s", "speed": 2},
        {"users": 40, "ramp": "2 s", "warmup": "8 s", "window": "30 s"},
        ["p95 < 5 s"],
        limits=[Resource.ANYIO_THREADS],
        quick={"warmup": "6 s", "window": "8 s"},
    ),
    Incident(
        2,
        "anyio-has-threads-enough",
        {**ANYIO, "db_rtt": "25 ms", "gcs_latency": "2 - 5 s", "gcs_threads": 8, "speed": 4},
        {"users": 30, "ramp": "2 s", "warmup": "15 s", "window": "40 s"},
        ["p95 < 10 s"],
        limits=[Resource.OWN_THREADS],
        quick={"warmup": "8 s", "window": "24 s"},
    ),
    Incident(
        3,
        "rate-limited-throughput",
        {**OFF, "upload_rate_limit": "5/min", "gcs_latency": "200 ms", "gcs_call": "executor"},
        {"users": 2, "window": "50 s"},
        ["throughput > 1/s"],
        limits=[Resource.RATE_LIMIT],
        quick={"speed": 5},
    ),
    Incident(
        3,
        "too-large-to-succeed",
        {**OFF, "gcs_call": "executor", "speed": 2},
        {"users": 4, "ramp": "0 s", "warmup": "0 s", "window": "12 s", "audio": "2 MB"},
        ["succeeded >= 10"],
        limits=[Resource.BODY_LIMIT],
    ),
    Incident(
        3,
        "throughput-of-a-blocked-loop",
        {**OFF, "gcs_call": "blocking", "speed": 4},
        {"users": 5, "ramp": "1 s", "warmup": "10 s", "window": "40 s"},
        ["throughput > 1/s"],
        limits=[Resource.EVENT_LOOP],
        quick={"warmup": "5 s", "window": "24 s"},
    ),
    Incident(
        4,
        "a-dry-pool-that-nobody-heard-of",
        DRY,
        {"burst": 100},
        ["errors.pool_timeout == 0"],
        outcomes=(Outcome.BROKE, Outcome.UNDECIDED),
    ),
    Incident(
        5,
        "clients-leave-before-storage-answers",
        SLOW_STORAGE,
        {"burst": 70, "timeout": "30 s"},
        ["error_rate < 5 %"],
        limits=[Resource.STORAGE],
    ),
    Incident(
        5,
        "nginx-leaves-before-storage-answers",
        {**SLOW_STORAGE, "nginx": "recommended"},
        {"burst": 70},
        ["error_rate < 5 %"],
        limits=[Resource.PROXY_TIMEOUT],
    ),
    Incident(
        5,
        "queries-that-contend-at-speed-1",
        {**OF_20_THREADS, "db_call": "threadpool"},
        BURST_OF_50,
        ["p95 < 10 s"],
        outcomes=VALID,
    ),
    Incident(
        7,
        "five-workers",
        {
            **OFF,
            "workers": 5,
            "gcs_call": "executor",
            "gcs_threads": 100,
            "gcs_latency": "4 s",
            "pool_size": 3,
            "max_overflow": 2,
        },
        {"burst": 100},
        ["p95 < 12 s"],
        outcomes=VALID,
        says=r"the workers had (\d+, ){3}\d+ and \d+ of the uploads",
        quick={"speed": 2},
    ),
    Incident(
        7,
        "two-workers-with-six-threads-each",
        {**OFF, "workers": 2, "gcs_call": "to_thread", "speed": 4},
        {"users": 30, "ramp": "2 s", "warmup": "10 s", "window": "40 s"},
        ["p95 < 5 s"],
        # Which of the two it is, the split of that minute says: both wait for six threads.
        limits=[Resource.DEFAULT_EXECUTOR, Resource.WORKER_SPLIT],
        says=r"the workers had \d+ and \d+ of the uploads",
        quick={"window": "20 s"},
    ),
    Incident(
        7,
        "one-worker-has-all",
        {**OFF, "gcs_call": "to_thread", "speed": 4},
        {"users": 12, "ramp": "2 s", "warmup": "10 s", "window": "20 s"},
        ["p95 < 5 s"],
        limits=[Resource.DEFAULT_EXECUTOR],
        says=r"^(?!.*the workers had)",
    ),
)


def measure(incident: Incident, results: Path) -> Verdict:
    """The verdict of an incident, measured by the command line; its progress goes to stderr.

    Raises:
        RuntimeError: it could not be measured.
    """
    with TemporaryDirectory() as folder:
        spec = Path(folder) / f"{incident.name}.yaml"
        spec.write_text(json.dumps(incident.spec()))  # JSON is YAML
        command = ["run", str(spec), "--stack", "embedded", "--results", str(results)]
        subprocess.run(
            [sys.executable, "-m", "lab", *command], check=False, stdout=subprocess.DEVNULL
        )
    newest = max(results.glob(f"*-{incident.name}-*/cells/*/verdict.json"), default=None)
    if newest is None:
        raise RuntimeError(f"{incident.name} could not be measured")
    return Verdict.model_validate_json(newest.read_text())


def main() -> int:
    """Measure, and print a line for each."""
    flags_parser = parser("validation.incidents", __doc__ or "")
    flags_parser.add_argument("names", nargs="*", metavar="NAME", help="an incident's name")
    flags = flags_parser.parse_args()
    known = {incident.name: incident for incident in INCIDENTS}
    for name in flags.names:
        if name not in known:
            raise UsageError(f"'{name}' is no incident", suggest(name, known))
    chosen = [known[name] for name in flags.names or known]
    errors = 0
    for incident in chosen:
        verdict = measure(incident, flags.results)
        wrong = incident.wrong(verdict)
        errors += bool(wrong)
        limit = verdict.limit.resource if verdict.limit else "-"
        line = f"{incident.kind}  {incident.name:36}  {verdict.outcome:9}  {limit}"
        print("\n     ".join([f"{'WRONG' if wrong else 'right'} {line}", *wrong]), flush=True)
    print(f"{len(chosen) - errors} of {len(chosen)} are judged as is right")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
