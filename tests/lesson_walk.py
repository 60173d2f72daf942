"""A lesson from its question to its solution, by the command, on whatever stack there is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests import command
from tests.fakes.lesson_runs import lesson

NAME = "littles-law"
"""The one that is walked through: its runs are short, and its figures far from its bounds."""

COMMAND_S, WALK_S = 600, 1500
"""A run that is invalid on a busy machine is measured again, twice at most, when it is quiet."""


def walk(folder: Path, stack: str) -> None:
    """Read, answer, measure, try a mistake, then the solution; each must be graded as is right."""
    one = lesson(NAME)
    number = str(one.number)
    env = {
        "REPLICA_LAB_LEARNERS": str(folder / "learners"),
        "REPLICA_LAB_STACK": stack,
        "REPLICA_LAB_RETRIES": "2",
    }

    def learn(*words: str, codes: tuple[int, ...] = (0,)) -> dict[str, Any]:
        done = command.lab(
            *("learn", number, "--json", "--learner", "test", *words),
            cwd=folder,
            env=env,
            limit=COMMAND_S,
        )
        assert done.returncode in codes, done.stderr
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    first = learn("--answer", "B")
    assert first["prediction"]["right"] is True, first["prediction"]
    assert "(not measured)" not in json.dumps(first["parts"])
    mistake = one.lesson.wrong[0]
    failed = learn("--check", *_words(mistake.set), codes=(1,))
    check = str(mistake.misses).replace("x baseline", "x before")
    missed = [row["check"] for row in failed["grade"]["findings"] if row["outcome"] == "missed"]
    assert check in missed
    passed = learn("--check", *_words(one.lesson.solution))
    assert passed["grade"]["outcome"] == "passed"
    assert "(not measured)" not in json.dumps(passed["parts"])
    progress = json.loads((folder / "learners" / "test.json").read_text())
    outcomes = [attempt["outcome"] for attempt in progress["lessons"][NAME]["attempts"]]
    assert outcomes == ["failed", "passed"]


def _words(settings: dict[str, Any]) -> list[str]:
    return [f"--set={name}={value}" for name, value in settings.items()]
