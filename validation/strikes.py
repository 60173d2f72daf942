"""Strikes at a running replica: is each noticed in time, in the right name, by its cell alone?

Each row of the table is a strike: what is struck (a process of a part, the generator, the
guardian, the lab itself, a container), how (stopped, killed, frozen, paused), and when; or the wall
clock of the lab and its parts is set. It is made in the first of two short cells; the second is
clean. What has to come of it:

    the struck cell     invalid, for a reason that names the part, and no other part
    noticed             within 3 s of real time, by the evidence
    the next cell       valid, on the same stack, if others left this machine time for it
    after the lab       no process, folder, cgroup or container is left

Without options the embedded rows are run, or all where ``--stack compose`` is given too. Each row
is a lab of its own, `python -m lab run`, with a temporary folder of its own.

Exit code: 0 all rows are as they have to be, 1 one is not, 2 one could not be run.
"""

from __future__ import annotations

import fnmatch
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lab.errors import MachineError, UsageError
from lab.judge import judge
from lab.judge.coverage import clock_steps
from lab.model.environment import PASS
from lab.model.evidence import AUDIT, InstanceEvent, Observation, PartDown
from lab.model.evidence import LAB as ITSELF
from lab.model.replica import Target as Where
from lab.model.verdict import Outcome, Verdict
from lab.store import RunFolder, find
from validation.clock_step import SteppedClock
from validation.command import exit_code, parser, positive
from validation.idle import on_idle_machine
from validation.struck import (
    LAB,
    Blow,
    Struck,
    Target,
    left_over,
    set_when_due,
    strike_when_due,
)

NOTICED_WITHIN_S = 3.0
RUNS_WITHIN_S = 300.0
SAID = 400
"""Characters of what a lab has printed last, where it could not measure."""
NOT_RUN = "not run"
TRIALS = 3
BUSY = "busy"
"""What came of a clean cell that nothing made invalid but this machine's CPU, which others used."""
LATE = re.compile("lower --speed")
"""What a verdict says where a part of the lab had no time left."""
STRUCK, CLEAN = "cell=struck", "cell=clean"
KNOBS: Mapping[str, Any] = {
    "global_rate_limit": "off",
    "gcs_call": "executor",
    "gcs_threads": 20,
}
VM: Mapping[str, Any] = {"users": 3, "ramp": "0 s", "warmup": "0 s", "window": "15 s"}
CLOUDRUN: Mapping[str, Any] = {
    "users": 2,
    "ramp": "0 s",
    "warmup": "0 s",
    "window": "5 s",
    "timeout": "6 s",
}
"""3 s of wall time on the VM at speed 5; on Cloud Run, which has no speed but 1, 5 s."""
STAYS, BRIEFLY = Blow("SIGSTOP"), Blow("SIGSTOP", 3.0)
KILL = Blow("SIGKILL")
FREEZE = Blow("freeze", 1.5)

WORKER = r"^lab\.services\.backend: worker|multiprocessing\.spawn"
UVICORN = r"-m lab\.services\.backend"
GATEWAY = r"-m lab\.services\.cloudrun"
GENERATOR = r"locustfile\.py"
GUARDIAN = r"lab\.stack\.cleanup"


@dataclass(frozen=True)
class Strike:
    """A row: what is struck and how, and what has to come of it.

    Args:
        name: of the row.
        part: that the verdict has to name.
        target: what is struck.
        blow: how.
        says: what the reason has to contain, as an expression, beside the part.
        where: where the backend runs.
        stack: ``embedded`` or ``compose``.
        knobs: over the others.
        load: over the others.
        at: when, in wall seconds after the load began.
        after: wall seconds after the strike from which on it can be noticed: whoever stands still
            notices when it wakes.
        clock: seconds by which the wall clock of the lab and its parts is set, in place of a blow.
    """

    name: str
    part: str
    target: Target
    blow: Blow
    says: str = ""
    where: Where = "vm"
    stack: str = "embedded"
    knobs: Mapping[str, Any] = field(default_factory=dict)
    load: Mapping[str, Any] = field(default_factory=dict)
    at: float = 0.5
    after: float = 0.0
    clock: float | None = None

    @property
    def speed(self) -> float:
        """Of its cells."""
        return float(self.knobs.get("speed", 5 if self.where == "vm" else 1))

    def spec(self) -> dict[str, Any]:
        """The struck cell and the clean one; what differs between them restarts no part."""
        usual = VM if self.where == "vm" else CLOUDRUN
        cells = {"struck": {"gcs_latency": "2 s"}, "clean": {"gcs_latency": "2.1 s"}}
        return {
            "experiment": f"strike-{self.name}",
            "target": self.where,
            "preset": "as-found",
            "knobs": {**KNOBS, "speed": self.speed, **self.knobs},
            "matrix": {"cell": cells},
            "load": {"audio": "50 KB", **usual, **self.load},
            "faults": ["gcs-latency", "db-distance"],
            "criteria": ["succeeded >= 1"],
        }

    def wrong(self, verdict: Verdict, seen: Observation, struck: Struck) -> list[str]:
        """What is not as it has to be of the struck cell, a phrase each."""
        reasons = "; ".join(verdict.reasons)
        if verdict.outcome is not Outcome.INVALID:
            return [f"{verdict.outcome}, not invalid: {reasons}"]
        phrases = []
        if not any(self.part in line and re.search(self.says, line) for line in verdict.reasons):
            phrases.append(f"no reason names {self.part} and '{self.says}': {reasons}")
        if others := sorted(named(seen) - {self.part}):
            phrases.append(f"names {', '.join(others)} too: {reasons}")
        after = noticed(self, seen, struck)
        if after is None or after > self.after + NOTICED_WITHIN_S:
            phrases.append(f"noticed {'never' if after is None else f'after {after:.1f} s'}")
        return phrases


def named(seen: Observation) -> set[str]:
    """The parts and instances that the evidence says were down, frozen or dead.

    An audit that could not be made is what comes of a database that is gone.
    """
    parts = {line.part for line in seen.evidence if isinstance(line, PartDown)}
    return parts - {AUDIT} | {line.instance for line in _ends(seen)}


def _ends(seen: Observation) -> Iterator[InstanceEvent]:
    for line in seen.evidence:
        if isinstance(line, InstanceEvent) and line.event in ("frozen", "died", "start_failed"):
            yield line


def noticed(strike: Strike, seen: Observation, struck: Struck) -> float | None:
    """Wall seconds from the strike to the first evidence of it; None if there is none."""
    parts = [line.t for line in seen.evidence if isinstance(line, PartDown)]
    ends = [line.t for line in _ends(seen)]
    steps = [t for t, _ in clock_steps(seen.evidence)]
    times = [t / strike.speed - struck.after for t in parts + ends + steps]
    return max(0.0, min(times)) if times else None


def embedded(
    part: str, role: str, title: str, blows: Mapping[str, Blow], **more: Any
) -> Iterator[Strike]:
    """A row for each of these blows at a process of the embedded stack."""
    for how, blow in blows.items():
        name = f"{part}-{role}-{how}".replace("fake-gcs-server-server", "fake-gcs-server")
        yield Strike(name, part, Target(title), blow, **more)


BOTH = {"stopped": STAYS, "killed": KILL}
TWO: Mapping[str, Any] = {"knobs": {"workers": 2}}
WARM: Mapping[str, Any] = {"where": "cloudrun", "knobs": {"cloudrun_min_instances": 1}}

STRIKES: tuple[Strike, ...] = (
    *embedded("nginx", "master", "nginx: master", BOTH, says="master|killed"),
    *embedded(
        "nginx",
        "worker",
        "nginx: worker",
        {**BOTH, "stopped-3s": BRIEFLY, "frozen": FREEZE},
        says="worker",
    ),
    *embedded("backend", "only-worker", UVICORN, BOTH, says="uvicorn|killed"),
    *embedded("backend", "supervisor", UVICORN, BOTH, says="uvicorn|killed", **TWO),
    *embedded("backend", "worker", WORKER, {**BOTH, "stopped-3s": BRIEFLY}, says="worker", **TWO),
    *embedded("postgres", "postmaster", r"/postgres -D", BOTH, says="postmaster|killed"),
    *embedded(
        "postgres",
        "checkpointer",
        "postgres: checkpointer",
        BOTH,
        says=r"checkpointer \d+ was (stopped|killed)",
    ),
    *embedded("postgres", "walwriter", "postgres: walwriter", BOTH, says="(?i)wal ?writer"),
    *embedded(
        "postgres",
        "client",
        r"postgres: app students",
        {**BOTH, "ended": Blow("SIGTERM")},
        says=r"client backend \d+ was",
    ),
    *embedded("fake-gcs-server", "server", "fake-gcs-server", {**BOTH, "stopped-3s": BRIEFLY}),
    *embedded("speech", "server", r"-m lab\.services\.speech", BOTH),
    *embedded("toxiproxy", "server", r"toxiproxy.* -config", BOTH),
    *embedded("front", "gateway", GATEWAY, BOTH, says="gateway|killed", **WARM),
    *embedded(
        "instance-1",
        "serving",
        UVICORN,
        {**BOTH, "stopped-3s": BRIEFLY, "frozen": FREEZE},
        says="frozen|died",
        at=1.5,
        **WARM,
    ),
    *embedded(
        "instance-1",
        "starting",
        UVICORN,
        {"stopped-3s": BRIEFLY, "killed": KILL},
        says="frozen|did not start|died",  # a quick machine may have started it by then
        where="cloudrun",
    ),
    *embedded("generator", "locust", GENERATOR, {"stopped-3s": BRIEFLY, **BOTH}, says="generator"),
    *embedded("guardian", "process", GUARDIAN, {**BOTH, "frozen": FREEZE}),
    *(
        Strike(
            f"lab-suspended-{seconds}s",
            ITSELF,
            Target(LAB),
            Blow("SIGSTOP", seconds),
            says=f"{ITSELF} (was down|stood still)",
            load={"window": "50 s"},  # 10 s of wall time
            at=1.0,
            after=seconds,
        )
        for seconds in (2, 8)
    ),
    Strike(
        "lab-suspended-twice",
        ITSELF,
        Target(LAB),
        Blow("SIGSTOP", 1.3, times=2),
        says=f"{ITSELF} was down at .* 2 times",
        load={"window": "50 s"},
        at=1.0,
        after=3.1,  # 1.3 s twice, and what is between
    ),
    *(
        Strike(
            f"clock-{'back' if step < 0 else 'forward'}-{abs(step)}s",
            "clock",
            Target(LAB),
            Blow("set"),
            says=re.escape(f"clock was set by {step:+.1f} s"),
            load={"window": "20 s"},
            clock=step,
        )
        for step in (-2, 2, -3600, 3600)
    ),
)
"""The rows of the embedded stack."""

PARTS_OF_VM = ("nginx", "backend", "postgres", "fake-gcs-server", "speech", "toxiproxy")
IN_COMPOSE: tuple[Strike, ...] = (
    *(
        Strike(f"compose-{part}-{how}", part, Target("", part), blow, stack="compose")
        for part in PARTS_OF_VM
        for how, blow in {
            "paused-1s": Blow("pause", 1.0),
            "killed": Blow("kill"),
            "frozen": FREEZE,
        }.items()
    ),
    *(
        Strike(
            f"compose-{part}-{role}-{how}", part, Target(title, part), blow, stack="compose", **more
        )
        for part, role, title, more in (
            ("nginx", "worker", "nginx: worker", {}),
            ("backend", "worker", WORKER, TWO),
            ("postgres", "checkpointer", "postgres: checkpointer", {}),
        )
        for how, blow in BOTH.items()
    ),
    *(
        Strike(
            f"compose-instance-{how}",
            "instance-1",
            target,
            blow,
            says="frozen|died",
            stack="compose",
            at=1.5,
            **WARM,
        )
        for how, target, blow in (
            ("paused", Target("", "-instance-1"), Blow("pause", 2.0)),
            ("killed", Target("", "-instance-1"), Blow("kill")),
            ("stopped", Target(UVICORN, "-instance-1"), STAYS),
        )
    ),
)
"""The rows of the compose stack."""


@dataclass(frozen=True)
class Result:
    """What came of a row; its fields are the keys of ``--json``."""

    name: str
    stack: str
    where: str
    blow: str
    outcome: str
    noticed_s: float | None
    reason: str
    next_outcome: str
    left: Sequence[str]
    wrong: Sequence[str]


def run_on_idle_machine(strike: Strike, results: Path) -> Result:
    """A row, again while its clean cell is invalid because the lab had no time left."""
    for trial in range(1, TRIALS + 1):
        result = run(strike, results / f"trial-{trial}")
        if not (result.next_outcome == Outcome.INVALID and LATE.search("; ".join(result.wrong))):
            break
    return result


def run(strike: Strike, results: Path) -> Result:
    """A row, in a lab of its own.

    Raises:
        MachineError: it could not be run.
    """
    with tempfile.TemporaryDirectory(prefix="strike-") as name, ExitStack() as closing:
        folder = Path(name)
        folder.chmod(0o755)  # Postgres and nginx may be another user's
        clock = None if strike.clock is None else closing.enter_context(SteppedClock(folder))
        spec = folder / f"{strike.name}.yaml"
        spec.write_text(json.dumps(strike.spec()))  # JSON is YAML
        mine = results / strike.name
        command = ["run", str(spec), "--stack", strike.stack, "--results", str(mine)]
        command += ["--retries", "0"]
        with (folder / "output").open("wb") as output:
            lab = subprocess.Popen(
                [sys.executable, "-m", "lab", *command],
                env={**os.environ, **_clock(clock), "TMPDIR": name},
                stdout=output,
                stderr=output,
            )
        try:
            struck = _strike(strike, lab.pid, mine, folder, clock)
            lab.wait(RUNS_WITHIN_S)
        except (MachineError, subprocess.TimeoutExpired) as error:
            said = (folder / "output").read_text(errors="replace").strip()[-SAID:]
            raise MachineError(f"{strike.name}: {error}; it says: {said}") from error
        finally:
            lab.kill()
            lab.wait()
        left = left_over(folder, struck, strike.stack == "compose")
    return _result(strike, find(mine, "latest"), struck, left)


def _clock(clock: SteppedClock | None) -> dict[str, str]:
    """What gives the lab and its parts a clock that can be set."""
    if clock is None:
        return {}
    return {**clock.environment, PASS: ",".join(clock.environment)}


def _strike(
    strike: Strike, lab: int, results: Path, folder: Path, clock: SteppedClock | None
) -> Struck:
    """Strike in this row's lab, whose replicas are found in its own temporary folder."""
    outside, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        if clock and strike.clock:
            return set_when_due(lab, results, clock, strike.clock, strike.at)
        return strike_when_due(lab, results, strike.target, strike.blow, strike.at)
    finally:
        tempfile.tempdir = outside


def _result(strike: Strike, stored: RunFolder, struck: Struck, left: list[str]) -> Result:
    first, second = (stored.cell(name) for name in (STRUCK, CLEAN))
    verdict, seen = first.read_verdict(), first.read_observation()
    after = second.read_verdict()
    wrong = strike.wrong(verdict, seen, struck)
    next_outcome = str(after.outcome)
    if after.outcome is Outcome.INVALID:
        on_idle = judge(second.read_cell(), on_idle_machine(second.read_observation()))
        next_outcome = BUSY if on_idle.outcome is not Outcome.INVALID else next_outcome
    if next_outcome == Outcome.INVALID:
        wrong.append(f"the next cell is invalid: {'; '.join(after.reasons)}")
    if left:
        wrong.append(f"left: {', '.join(left)}")
    return Result(
        strike.name,
        strike.stack,
        strike.where,
        str(strike.blow),
        verdict.outcome,
        noticed(strike, seen, struck),
        verdict.reasons[0] if verdict.reasons else "",
        next_outcome,
        left,
        wrong,
    )


def row(result: Result) -> str:
    """A result as a line of the table."""
    seconds = "-" if result.noticed_s is None else f"{result.noticed_s:.2f} s"
    return (
        f"{'WRONG' if result.wrong else 'right'}  {result.name:32} {result.stack:8}"
        f" {result.where:8} {result.blow:16} {result.outcome:9}"
        f" {seconds:>7}  next {result.next_outcome:9}  {result.reason}"
    )


def main() -> int:
    """Run the rows that are asked for, and print a line for each."""
    flags_parser = parser("validation.strikes", __doc__ or "")
    flags_parser.add_argument(
        "--stack",
        choices=("embedded", "compose"),
        default="embedded",
        help="compose: its rows too (default: embedded)",
    )
    flags_parser.add_argument(
        "--only",
        metavar="GLOB",
        default="*",
        help="rows of these names, as they stand in the table that is printed",
    )
    flags_parser.add_argument(
        "--repeat", type=positive, metavar="N", default=1, help="all rows so often (default: 1)"
    )
    flags_parser.add_argument(
        "--jobs",
        type=positive,
        metavar="N",
        default=1,
        help="so many rows side by side (default: 1)",
    )
    flags_parser.add_argument("--json", action="store_true", help="print JSON on stdout")
    flags = flags_parser.parse_args()
    rows = STRIKES + (IN_COMPOSE if flags.stack == "compose" else ())
    chosen = [strike for strike in rows if fnmatch.fnmatch(strike.name, flags.only)]
    if not chosen:
        raise UsageError(f"no row is named like '{flags.only}'", "leave --only out for all")
    done: list[Result] = []
    folder = flags.results / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-strikes"
    repetitions = [folder / str(number) for number in range(1, flags.repeat + 1)]
    todo = [(strike, repetition) for repetition in repetitions for strike in chosen]
    with multiprocessing.get_context("fork").Pool(flags.jobs) as pool:
        for result in pool.imap(_run, todo):
            done.append(result)
            print(row(result), file=sys.stderr, flush=True)
        pool.close()
        pool.join()
    if flags.json:
        print(json.dumps([vars(result) for result in done]))
    else:
        print(table(done))
    if any(result.outcome == NOT_RUN for result in done):
        return 2
    return 1 if any(result.wrong for result in done) else 0


def _run(todo: tuple[Strike, Path]) -> Result:
    """A row; one that could not be run keeps no other from it."""
    strike, results = todo
    try:
        return run_on_idle_machine(strike, results)
    except MachineError as error:
        about = strike.name, strike.stack, strike.where, str(strike.blow)
        return Result(*about, NOT_RUN, None, "", NOT_RUN, (), [str(error)])


def table(done: Sequence[Result]) -> str:
    """Every row, what is wrong below it, and how many are right."""
    lines = ["\n       ".join([row(result), *result.wrong]) for result in done]
    right = sum(not result.wrong for result in done)
    busy = sum(result.next_outcome == BUSY for result in done)
    last = f"{right} of {len(done)} are noticed as they have to be"
    more = f"; of {busy} the next cell was invalid for this machine's CPU alone" if busy else ""
    return "\n".join([*lines, last + more])


if __name__ == "__main__":
    sys.exit(exit_code(main))
