"""SIGKILL at any moment: is anything finished lost or measured twice, or anything left behind?

    lab run ──SIGKILL──> lab down ──nothing left?──> lab run --resume ──SIGKILL──> lab down …

A short matrix is measured on the embedded stack, once to its end to know how long it takes here;
then the lab is killed at moments of that time drawn by the seed, now and then together with the
guardian that would clean up after it. Some labs are disturbed first, by a part of theirs that is
killed in a load: then the cell is measured again, and the lab is killed while it waits for that, or
between an attempt and the next. Each kill is followed
by a command that has to end what is left, and by a `--resume` which is killed in turn; a run that
is whole is followed by a new one. After each kill and the next command

    a cell that was finished, and valid, has the same files, by inode, time and content;
    an attempt that was judged invalid is there, once;
    no process, folder, cgroup, shared memory, container, network or volume of the replica is there;
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
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import cycle
from pathlib import Path

import psutil

from lab.errors import LabError, UsageError
from lab.paths import ROOT
from lab.plan.attempts import RETRIES
from lab.store import CellFolder, find
from validation.command import exit_code, positive, share
from validation.look_alikes import LookAlikes, engine_things, orphaned_cgroups, orphaned_memory

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

WITHIN_S = {"wait": 3.0, "between": 0.03}
"""Wall seconds, from the begin of a wait for the next attempt, and from when the last attempt
begins to be kept, within which a disturbed lab is killed."""
DISTURBED = 0.3
"""The share of labs that are disturbed, if not said otherwise."""
POLL_S = 0.002
GONE_WITHIN_S = 5.0
"""A killed guardian's or Postgres' last children may take a moment."""
COMMAND_WITHIN_S = 120.0

STORED = ("evidence.jsonl", "samples.jsonl", "verdict.json")
KEPT = "2*/cells/*/attempts/*"
WAITS = "until this machine is quiet"
"""What a lab writes when it waits for the next attempt."""


@dataclass
class Kill:
    """One kill, and what was wrong after it.

    Args:
        after_s: wall seconds from the lab's start to the moment of the kill.
        lasted_s: wall seconds from the lab's start to its end.
        phase: the last line that it had written.
        killed: False where it had ended before.
        with_guardian: whether its guardian was killed, too.
        where: ``wait`` or ``between``, of a lab that was disturbed; empty: at any moment.
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
    where: str = ""
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
        self._attempts: set[str] = set()
        self.renew()

    @property
    def results(self) -> Path:
        """Of the run that is under way."""
        return self.folder / f"results-{self._number}"

    @property
    def missing(self) -> int:
        """How many of its cells have no verdict, or are invalid."""
        if not (self.results / "latest").exists():
            return CELLS
        run = find(self.results, "latest")
        return sum(not run.cell(cell_id).settled() for cell_id in run.info.cells)

    def whole(self) -> bool:
        """Whether every cell of the run has the verdict that counts."""
        return not self.missing

    def renew(self) -> None:
        """Begin another run with the next command."""
        self.target = next(self._targets)
        text = SPEC.format(target=self.target, **PACES[self.target])
        (self.folder / "spec.yaml").write_text(text)
        self._number += 1
        self._files, self._attempts = {}, set()

    def command(self, retries: int = 0) -> list[str]:
        """The next `lab run`, which goes on where there is something to go on with.

        Args:
            retries: how often it measures a cell again that was disturbed.
        """
        begun = (self.results / "latest").exists()
        return [
            "run",
            *(["--resume", "latest"] if begun else ["spec.yaml"]),
            "--retries",
            str(retries),
        ]

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

    def disturb(self, lab: subprocess.Popen[str], where: str) -> bool:
        """Kill a part in a load, and wait until the lab is to be killed; False: it ended before."""
        while "window" not in (told := (self.folder / "stderr").read_text()):
            if _ended(lab):
                return False
        for part in psutil.Process(lab.pid).children(recursive=True):
            with suppress(psutil.Error):
                if "toxiproxy" in " ".join(part.cmdline()):
                    part.kill()
        kept = set(self.results.glob(KEPT))
        while not _ended(lab):
            now = (self.folder / "stderr").read_text()[len(told) :]
            if WAITS in now if where == "wait" else set(self.results.glob(KEPT)) != kept:
                return True
        return False

    def lost(self) -> list[str]:
        """Files of valid cells that are gone or others since the last look, and attempts that are
        gone or there twice; looks again."""
        now = {
            file: _state(file)
            for verdict in sorted(self.results.glob("2*/cells/*/verdict.json"))
            if CellFolder(verdict.parent).settled()
            for file in (verdict.with_name(name) for name in STORED)
        }
        wrong = [
            f"{file.relative_to(self.folder)} is {'another' if file in now else 'gone'}"
            for file, state in self._files.items()
            if now.get(file) != state
        ]
        self._files = now
        attempts = [digest for cell in self.results.glob("2*/cells/*") for digest in _told(cell)]
        wrong += [f"attempt {digest[:8]} is gone" for digest in self._attempts - set(attempts)]
        wrong += [
            f"attempt {d[:8]} is there {n} times" for d, n in Counter(attempts).items() if n > 1
        ]
        self._attempts = set(attempts)
        return wrong

    @property
    def finished(self) -> int:
        """How many cells have a verdict, be it that they are invalid."""
        return len(list(self.results.glob("2*/cells/*/verdict.json")))

    def left(self, kept: LookAlikes) -> list[str]:
        """What there is of a replica: processes, folders, cgroups, memory, things on the engine."""
        ours = f"TMPDIR={self.temporary}"
        found = [
            f"process {process.pid} {process.info['name']}"
            for process in psutil.process_iter(["name"])
            if process.pid not in kept.pids and ours in _environment(process.pid)
        ]
        found += [f"folder {path}" for path in self.temporary.iterdir() if path not in kept.folders]
        found += [f"cgroup {path}" for path in orphaned_cgroups() - kept.cgroups]
        found += [f"shared memory {name}" for name in sorted(orphaned_memory() - kept.memory)]
        return found + engine_things(str(self.folder))


def _state(file: Path) -> tuple[int, int, str]:
    about = file.stat()
    return about.st_ino, about.st_mtime_ns, hashlib.sha256(file.read_bytes()).hexdigest()


def _ended(lab: subprocess.Popen[str]) -> bool:
    """Whether it has; waits for a moment, and longer where it writes nothing."""
    time.sleep(POLL_S)
    return lab.poll() is not None


def _told(cell: Path) -> list[str]:
    """The content, by its hash, of each attempt that is told of a cell, and is invalid."""
    folder = CellFolder(cell)
    kept = [cell / "attempts" / str(n) for n, _ in enumerate(folder.attempts.read(), start=1)]
    last = [cell] if folder.finished() and not folder.settled() else []
    return [_state(each / "evidence.jsonl")[2] for each in (*kept, *last)]


def _environment(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def kill(
    victim: Victim, kept: LookAlikes, after: float, with_guardian: bool, where: str = ""
) -> Kill:
    """Start the next `lab run`, kill it, have `lab down` follow, and look at everything.

    Args:
        victim: whose run it is.
        kept: what is to be left as it is.
        after: wall seconds from its start, or from ``where``, to the kill.
        with_guardian: whether its guardian is killed, too.
        where: ``wait`` or ``between``, of a lab that is disturbed.

    Raises:
        UsageError: the run ended by itself with an error.
    """
    before = time.monotonic()
    command = victim.command(RETRIES if where else 0)
    lab = victim.start(*command)
    try:
        lab.wait(after if not where or victim.disturb(lab, where) else None)
    except subprocess.TimeoutExpired:
        guardians = _guardians(lab.pid) if with_guardian else []
        lab.kill()
        for guardian in guardians:
            guardian.kill()
    code = lab.wait()
    lasted = round(time.monotonic() - before, 2)
    phase = _last_line(victim.folder / "stderr")
    if code not in (-signal.SIGKILL, 0, 4):
        raise UsageError(f"`lab {' '.join(command)}` ended with {code}: {phase}")
    done = Kill(after, lasted, phase, code < 0, with_guardian, 0, where)
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


def validate(
    count: int, seed: int, targets: Sequence[str], folder: Path, disturbed: float = DISTURBED
) -> list[Kill]:
    """That many kills; the run that is under way at the end is brought to its end.

    Args:
        count: of kills; a lab that ends before its moment does not count.
        seed: of the moments.
        targets: ``vm``, ``cloudrun`` or both.
        folder: an empty one.
        disturbed: the share of labs that are disturbed before they are killed.

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
            after, where = moments.uniform(0.1, span) if span else COMMAND_WITHIN_S, ""
            if span and target == "vm" and moments.random() < disturbed:
                where = moments.choice(list(WITHIN_S))
                after = moments.uniform(0.0, WITHIN_S[where])
            kills.append(kill(victim, kept, after, moments.random() < WITH_GUARDIAN, where))
            print(_line(len(kills), kills[-1]), file=sys.stderr)
            undisturbed.setdefault(target, kills[-1].lasted_s)
            if victim.whole():
                victim.renew()
        kills.append(kill(victim, kept, COMMAND_WITHIN_S, with_guardian=False))
        if victim.finished < CELLS:
            kills[-1].wrong.append("the last run is not whole")
    return kills


def _line(number: int, done: Kill) -> str:
    how = "killed" if done.killed else "ended"
    guardian = " with its guardian" if done.with_guardian and done.killed else ""
    where = {"wait": " in a retry's wait", "between": " between two attempts"}.get(done.where, "")
    wrong = "; ".join(done.wrong) or "all as it should be"
    return (
        f"{number:4} {how} after {done.lasted_s:.1f} s{guardian}{where}, {done.finished} cells"
        f" finished, at '{done.phase.strip()}': {wrong} ({done.took_s:.1f} s)"
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
    made.add_argument(
        "--disturbed",
        type=share,
        default=DISTURBED,
        metavar="SHARE",
        help=f"of labs of which a part is killed first (default: {DISTURBED})",
    )
    made.add_argument("--json", action="store_true", help="each kill as JSON on standard output")
    flags = made.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="lab-kills-"))
    folder.chmod(0o711)
    try:
        kills = validate(flags.count, flags.seed, flags.targets or ["vm"], folder, flags.disturbed)
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
