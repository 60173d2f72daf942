"""``python -m tests.compose.stack.kill_ten [COUNT]``: labs killed at random moments.

After each, `lab down`, or the beginning of the next run, has to leave nothing of it on the
engine; look-alikes that were there before have to be untouched. Says how each went; exit
code 1 where one did not go so.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import docker

from lab.stack import cleanup
from lab.stack.compose import engine
from lab.stack.compose.resources import ID_LABEL
from tests import command
from tests.compose.stack.lookalikes import lookalikes

EARLIEST_S, LATEST_S = 0.5, 15.0
"""From a lab that still imports to one whose load runs, on a machine that is not busy."""


def left(client: docker.DockerClient, results: Path) -> list[str]:
    """What the engine, or a folder, still has of the labs of this results folder."""
    here = str(results.resolve())
    found = [mine for _, mine in cleanup.replicas() if mine.results == here]
    return [name for mine in found for name in (mine.id, *names(client, mine.id))]


def names(client: docker.DockerClient, replica: str) -> list[str]:
    """The names of all that the engine has of a replica."""
    mine = {"label": f"{ID_LABEL}={replica}"}
    found = [
        *client.containers.list(all=True, filters=mine, ignore_removed=True),
        *client.networks.list(filters=mine),
        *client.volumes.list(filters=mine),
    ]
    return [each.name for each in found]


def kill_at(moment: float, folder: Path) -> str:
    """Kill a run so many seconds after its start; its last line."""
    arguments = ("run", command.spec(folder), "--stack", "compose")
    with command.started(*arguments, cwd=folder) as process:
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            process.kill()
        _, said = process.communicate()
    return (said.strip().splitlines() or ["said nothing"])[-1]


def begin(folder: Path) -> None:
    """Begin a run, which ends what killed ones have left, and interrupt it."""
    arguments = ("run", command.spec(folder), "--stack", "compose")
    with command.started(*arguments, cwd=folder) as process:
        command.wait_for_line(process, "stack: compose")
        process.terminate()
        process.wait(command.LIMIT_S)


def main(count: int) -> int:
    client = engine.connect()
    bad = 0
    with tempfile.TemporaryDirectory() as made, lookalikes(client, uuid.uuid4().hex[:8]) as others:
        folder = Path(made)
        for number in range(count):
            moment = random.uniform(EARLIEST_S, LATEST_S)
            said = kill_at(moment, folder)
            by = "lab down" if number % 2 else "the next run"
            if number % 2:
                command.lab("down", cwd=folder).check_returncode()
            else:
                begin(folder)
            still = left(client, folder / "results")
            others.assert_untouched()
            bad += bool(still)
            sys.stdout.write(f"killed after {moment:5.2f} s ({said}); {by} leaves {still}\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if sys.argv[1:] else 10))
