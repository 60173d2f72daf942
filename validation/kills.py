"""SIGKILL at any moment: is anything finished lost or measured twice, or anything left behind?

    lab run ──SIGKILL──> lab down ──nothing left?──> lab run --resume ──SIGKILL──> lab down …

A short matrix is measured on the embedded stack, once to its end to know how long it takes here;
then the lab is killed at moments of that time drawn by the seed, now and then together with the
guardian that would clean up after it. Each kill is followed
by a command that has to end what is left, and by a `--resume` which is killed in turn; a run that
is whole is followed by a new one. After each kill and the next command

    a cell that was finished has the same files, by inode, time and content;
    no process, folder, cgroup, container, network or volume of the replica is there;
    what was made by hand to look like one of each is as it was.

Everything is in a temporary folder, which is kept, and named, where something was wrong.

Exit code: 0 all was right each time, 1 it was not, 2 a run could not be made.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import cycle
from pathlib import Path

import psutil

from lab.errors import LabError, UsageError
from lab.paths import ROOT
from lab.store import find
from validation.command import exit_code, positive
from validation.look_alikes import LookAlikes, engine_things, orphaned_cgroups

SPEC = """\
experiment: kills
about: is anything lost or left behind where the lab is killed?
target: {target}
knobs: {{speed: {speed}, gcs_call: executor, gcs_latency: 500 ms}}
matrix:
  gcs_threads: [8, 16]
load: {{users: 2, ramp: 0 s, warmup: 0 s, window: {window} s, think: 1 s, audio: 20 KB}}
criteria: [error_rate < 50 %]
"""
"""Cells of one to two wall seconds."""
CELLS = 2

PACES = {"vm": {"speed": 10, "window": 10}, "cloudrun": {"speed": 1, "window": 2}}
"""No speed shortens the start of an instance."""

WITH_GUARDIAN = 0.3
"""The share of kills that the guardian shares."""
GONE_WITHIN_S = 5.0
"""A killed guardian's or Postgres' last children may take a moment."""
COMMAND_WITHIN_S = 120.0


@dataclass
class Kill:
    """One kill, and what was wrong after it.

    Args:
        after_s: wall seconds from the lab's start to the moment of the kill.
        lasted_s: wall seconds from the lab's start to its end.
        phase: the last line that it had written.
        killed: False where it had ended before.
        with_guardian: whether its guardian was killed, too.
        finished: cells that had their verdict by then.
        wrong: a line for each thing that was lost, changed or left.
        took_s: wall seconds from the lab's start to the end of all checks.
    """

    after_s: float
    lasted_s: float
    phase: str
    killed: bool
    with_guardian: bool
    finished: int
    wrong: list[str] = field(default_factory=list)
    took_s: float = 0.0


class Victim:
    """A folder with a spec and its results, in which labs are killed.

    Args:
        folder: an empty one, for this alone.
        targets: of one run after the other.
    """

    def __init__(self, folder: Path, targets: Sequence[str]) -> None:
        self.folder = folder
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        self.temporary.chmod(0o711)  # where this is root, Postgres and nginx are somebody else
        self._targets = cycle(targets)
        self._number = 0
        self._files: dict[Path, tuple[int, int, str]] = {}
        self.renew()

    @property
    def results(self) -> Path:
        """Of the run that is under way."""
        return self.folder / f"results-{self._number}"

    @property
    def missing(self) -> int:
        """How many of its cells have no verdict."""
        begun = (self.results / "latest").exists()
        return len(find(self.results, "latest").summary().missing) if begun else CELLS

    def whole(self) -> bool:
        """Whether the run has all its verdicts."""
        return not self.missing

    def renew(self) -> None:
        """Begin another run with the next command."""
        self.target = next(self._targets)
        text = SPEC.format(target=self.target, **PACES[self.target])
        (self.folder / "spec.yaml").write_text(text)
        self._number += 1
        self._files = {}

    def command(self) -> list[str]:
        """The next `lab run`, which goes on where there is something to go on with."""
        begun = (self.results / "latest").exists()
        return ["run", *(["--resume", "latest"] if begun else ["spec.yaml"])]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """A command of the lab's."""
        env = {name: value for name, value in os.environ.items() if name != "REPLICA_LAB_ID"}
        return subprocess.Popen(
            [sys.executable, "-m", "lab", *arguments, "--results", str(self.results)],
            cwd=self.folder,
            env={
                **env,
                "PYTHONPATH": str(ROOT),
                "REPLICA_LAB_STACK": "embedded",
                "TMPDIR": str(self.temporary),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(self.folder / "stderr").open("w"),
            text=True,
        )

    def lost(self) -> list[str]:
        """Files of finished cells that are gone or others since the last look; looks again."""
        now = {
            file: _state(file)
            for verdict in sorted(self.results.glob("2*/cells/*/verdict.json"))
            for file in (verdict.with_name(name) for name in ("evidence.jsonl", "samples.jsonl"))
        } | {verdict: _state(verdict) for verdict in self.results.glob("2*/cells/*/verdict.json")}
        wrong = [
            f"{file.relative_to(self.folder)} is {'another' if file in now else 'gone'}"
            for file, state in self._files.items()
            if now.get(file) != state
        ]
        self._files = now
        return wrong

    @property
    def finished(self) -> int:
        """How many cells had their verdict at the last look."""
        return len(self._files) // 3

    def left(self, kept: LookAlikes) -> list[str]:
        """What there is of a replica: processes, folders, cgroups, things on the engine."""
        ours = f"TMPDIR={self.temporary}"
        found = [
            f"process {process.pid} {process.info['name']}"
            for process in psutil.process_iter(["name"])
            if process.pid not in kept.pids and ours in _environment(process.pid)
        ]
        found += [f"folder {path}" for path in self.temporary.iterdir() if path not in kept.folders]
        found += [f"cgroup {path}" for path in orphaned_cgroups() - kept.cgroups]
        return found + engine_things(str(self.folder))


def _state(file: Path) -> tuple[int, int, str]:
    about = file.stat()
    return about.st_ino, about.st_mtime_ns, hashlib.sha256(file.read_bytes()).hexdigest()


def _environment(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def kill(victim: Victim, kept: LookAlikes, after: float, with_guardian: bool) -> Kill:
    """Start the next `lab run`, kill it, have `lab down` follow, and look at everything.

    Raises:
        UsageError: the run ended by itself with an error.
    """
    before = time.monotonic()
    lab = victim.start(*victim.command())
    try:
        lab.wait(after)
    except subprocess.TimeoutExpired:
        guardians = _guardians(lab.pid) if with_guardian else []
        lab.kill()
        for guardian in guardians:
            guardian.kill()
    code = lab.wait()
    lasted = round(time.monotonic() - before, 2)
    phase = _last_line(victim.folder / "stderr")
    if code not in (-signal.SIGKILL, 0, 4):
        raise UsageError(f"`lab {' '.join(victim.command())}` ended with {code}: {phase}")
    done = Kill(after, lasted, phase, code < 0, with_guardian, 0)
    done.wrong += victim.lost()
    done.finished = victim.finished
    if victim.start("down").wait(COMMAND_WITHIN_S):
        done.wrong.append(f"`lab down`: {_last_line(victim.folder / 'stderr')}")
    deadline = time.monotonic() + GONE_WITHIN_S
    while (left := victim.left(kept)) and time.monotonic() < deadline:
        time.sleep(0.1)
    done.wrong += [f"left: {thing}" for thing in left]
    done.wrong += [f"touched: {thing}" for thing in kept.touched()]
    done.wrong += victim.lost()
    done.took_s = round(time.monotonic() - before, 2)
    return done


def _guardians(lab: int) -> list[psutil.Process]:
    try:
        children = psutil.Process(lab).children()
        return [child for child in children if "lab.stack.cleanup" in child.cmdline()]
    except psutil.Error:
        return []


def _last_line(file: Path) -> str:
    return (file.read_text(errors="replace").splitlines() or [""])[-1]


def validate(count: int, seed: int, targets: Sequence[str], folder: Path) -> list[Kill]:
    """That many kills; the run that is under way at the end is brought to its end.

    Args:
        count: of kills; a lab that ends before its moment does not count.
        seed: of the moments.
        targets: ``vm``, ``cloudrun`` or both.
        folder: an empty one.

    Raises:
        UsageError: a run could not be made.
    """
    moments = random.Random(seed)
    victim = Victim(folder, targets)
    kills: list[Kill] = []
    undisturbed: dict[str, float] = {}
    with LookAlikes(victim.temporary) as kept:
        while sum(each.killed for each in kills) < count:
            target = victim.target
            # To bring a replica up takes about as long as a cell.
            span = undisturbed.get(target, 0.0) * (1 + victim.missing) / (1 + CELLS)
            after = moments.uniform(0.1, span) if span else COMMAND_WITHIN_S
            kills.append(kill(victim, kept, after, moments.random() < WITH_GUARDIAN))
            print(_line(len(kills), kills[-1]), file=sys.stderr)
            undisturbed.setdefault(target, kills[-1].lasted_s)
            if victim.whole():
                victim.renew()
        kills.append(kill(victim, kept, COMMAND_WITHIN_S, with_guardian=False))
        if not victim.whole():
            kills[-1].wrong.append("the last run is not whole")
    return kills


def _line(number: int, done: Kill) -> str:
    how = "killed" if done.killed else "ended"
    guardian = " with its guardian" if done.with_guardian and done.killed else ""
    wrong = "; ".join(done.wrong) or "all as it should be"
    return (
        f"{number:4} {how} after {done.lasted_s:.1f} s{guardian}, {done.finished} cells finished,"
        f" at '{done.phase.strip()}': {wrong} ({done.took_s:.1f} s)"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Kill, and tell what was wrong; returns the exit code."""
    made = ArgumentParser(
        "python -m validation.kills",
        description=__doc__,
        formatter_class=RawDescriptionHelpFormatter,
    )
    made.add_argument("--count", type=positive, default=200, help="kills (default: 200)")
    made.add_argument("--seed", type=int, default=1, help="of their moments (default: 1)")
    made.add_argument(
        "--target",
        dest="targets",
        action="append",
        choices=["vm", "cloudrun"],
        help="of the runs, in turn; repeatable (default: vm)",
    )
    made.add_argument("--json", action="store_true", help="each kill as JSON on standard output")
    flags = made.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="lab-kills-"))
    folder.chmod(0o711)
    try:
        kills = validate(flags.count, flags.seed, flags.targets or ["vm"], folder)
    except LabError:
        print(f"what there is of it is in {folder}", file=sys.stderr)
        raise
    wrong = [line for each in kills for line in each.wrong]
    if flags.json:
        print(json.dumps([asdict(each) for each in kills], indent=2))
    killed = sum(each.killed for each in kills)
    per = sum(each.took_s for each in kills) / len(kills)
    print(f"{killed} kills, {per:.1f} s each, {len(wrong)} wrong")
    if wrong:
        print(f"the runs are in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
