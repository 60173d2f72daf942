"""A lab that is interrupted, terminated or killed: nothing is left, nothing finished is lost."""

from __future__ import annotations

import random
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest

from lab.store import CellFolder, find, runs
from tests import command
from tests.live import wait_until

pytestmark = [pytest.mark.replica, pytest.mark.long]

END_WITHIN_S = 15
"""Far more than an interrupted lab may take: a hang is noticed, a busy machine is not."""

QUICK = command.SHORT.replace("speed: 5", "speed: 10")
"""Whether its cells are valid at this speed does not matter here."""
LONG = command.SHORT.replace("window: 10 s", "window: 200 s")
"""A load that is still going on when it is interrupted."""


def test_sigint_in_a_load_keeps_finished_cells_and_says_how_to_go_on(tmp_path: Path) -> None:
    with command.started("run", command.spec(tmp_path, QUICK), cwd=tmp_path) as process:
        command.wait_for_line(process, "[2/2]", "window")
        left = command.Leftovers(tmp_path / "results")
        assert left.ports
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=END_WITHIN_S)
    assert process.returncode == 130
    left.assert_nothing_left()
    assert out == ""
    run = find(tmp_path / "results", "latest")
    go_on = f"lab run --resume results/{run.info.name}"
    line = f"lab: interrupted: 1 of 2 cells are kept - go on with `{go_on}`"
    assert err.splitlines()[-1] == line
    assert run.cell("workers=1").finished()
    before = states(tmp_path / "results")
    again = command.lab(*shlex.split(go_on)[1:], cwd=tmp_path)
    assert again.returncode in (0, 4), again.stderr
    assert ("[1/2]" in again.stderr) != bool(before)
    assert states(tmp_path / "results").items() >= before.items()
    assert find(tmp_path / "results", "latest").summary().missing == ()


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name
)
def test_signals_again_and_again_do_not_cut_the_clean_up(
    tmp_path: Path, number: signal.Signals
) -> None:
    with command.started("run", command.spec(tmp_path, LONG), cwd=tmp_path) as process:
        command.wait_for_line(process, "[1/2]", "window")
        left = command.Leftovers(tmp_path / "results")
        deadline = time.monotonic() + END_WITHIN_S
        while process.poll() is None:
            assert time.monotonic() < deadline, "the clean-up does not end"
            process.send_signal(number)
            time.sleep(0.02)  # as a person who presses the key again and again
        _, err = process.communicate()
    assert process.returncode == 130
    assert err.splitlines()[-1].startswith("lab: interrupted: 0 of 2 cells are kept - go on with")
    left.assert_nothing_left()


def test_a_sigint_while_the_replica_starts_leaves_nothing(tmp_path: Path) -> None:
    with command.started("run", command.spec(tmp_path, QUICK), cwd=tmp_path) as process:
        command.wait_for_line(process, "[1/2]", "settings")
        left = command.Leftovers(tmp_path / "results")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=END_WITHIN_S)
    assert process.returncode == 130
    left.assert_nothing_left()


def states(results: Path) -> dict[Path, tuple[int, int]]:
    """Inode and time of the files that must not change once their cell has its last verdict."""
    found = {}
    for verdict in results.glob("2*/cells/*/verdict.json"):
        if not CellFolder(verdict.parent).settled():
            continue  # this machine is busy: it is made again
        for file in (verdict, verdict.with_name("samples.jsonl")):
            stat = file.stat()
            found[file] = (stat.st_ino, stat.st_mtime_ns)
    return found


def test_sigkill_at_random_moments_loses_no_finished_cell_and_runs_none_twice(
    tmp_path: Path,
) -> None:
    results = tmp_path / "results"
    moments = [random.uniform(0.5, 4.0), random.uniform(0.1, 4.0)]
    arguments: tuple[str | Path, ...] = ("run", command.spec(tmp_path, QUICK))
    for moment in moments:
        kept = states(results)
        with command.started(*arguments, cwd=tmp_path) as process:
            command.wait_for_line(process, "/2]")
            left = command.Leftovers(results)
            try:
                process.wait(moment)
            except subprocess.TimeoutExpired:
                process.kill()
        wait_until(left.gone)
        left.assert_nothing_left()
        assert states(results).items() >= kept.items(), moments
        arguments = ("run", "spec.yaml", "--resume", "latest")
    kept = states(results)
    ended = command.lab(*arguments, cwd=tmp_path)
    assert ended.returncode in (0, 4), (ended.stderr, moments)
    assert states(results).items() >= kept.items(), moments
    assert find(results, "latest").summary().missing == ()
    assert len(runs(results)) == 1


def test_sigint_is_ignored_where_whoever_started_the_lab_ignores_it(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with command.started("run", command.spec(tmp_path, LONG), cwd=tmp_path) as process:
            signal.signal(signal.SIGINT, before)
            command.wait_for_line(process, "[1/2]", "settings")
            process.send_signal(signal.SIGINT)
            command.wait_for_line(process, "[1/2]", "faults")
            left = command.Leftovers(tmp_path / "results")
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=END_WITHIN_S)
    finally:
        signal.signal(signal.SIGINT, before)
    assert process.returncode == 130
    left.assert_nothing_left()
