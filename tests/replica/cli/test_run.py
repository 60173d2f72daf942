"""``lab run`` on real parts, end to end, and what is told again from its stored files alone."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lab.stack import ownership
from tests import command

pytestmark = pytest.mark.long

ENDS = {0, 4}
"""A machine that is busy may make a cell invalid; that is an end, and no failure."""

ALONE = """\
import runpy, socket, subprocess, sys

def refused(*arguments, **more):
    raise AssertionError("nothing may be started, and nobody asked")

subprocess.Popen.__init__ = socket.socket.connect = socket.socket.bind = refused
runpy.run_module("lab", run_name="__main__")
"""


class Ran:
    """A run that has ended, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ended = command.lab("run", command.spec(folder), cwd=folder)
        assert self.ended.returncode in ENDS, self.ended.stderr
        self.path = (folder / "results" / "latest").resolve()

    @property
    def invalid(self) -> list[str]:
        """The cells that are."""
        summary = json.loads((self.path / "summary.json").read_text())
        return [cell["id"] for cell in summary["cells"] if cell["verdict"] == "invalid"]

    def stored(self, *arguments: str) -> str:
        """What a command prints from stored files, with no program to start and no network."""
        done = subprocess.run(
            [sys.executable, "-c", ALONE, *arguments],
            cwd=self.folder,
            env=command.environment({"PATH": ""}),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode in ENDS, done.stderr
        assert done.stderr == ""
        return done.stdout

    def files(self) -> dict[Path, bytes]:
        """Every file of the run but its lock."""
        found = (file for file in self.path.rglob("*") if file.is_file() and file.name != ".lock")
        return {file: file.read_bytes() for file in found}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return Ran(tmp_path_factory.mktemp("run"))


@pytest.mark.replica
def test_a_run_measures_every_cell_and_shows_each_phase(ran: Ran) -> None:
    summary = json.loads((ran.path / "summary.json").read_text())
    assert [cell["id"] for cell in summary["cells"]] == ["workers=1", "workers=2"]
    assert all(cell["metrics"]["succeeded"] > 0 for cell in summary["cells"])
    code = 4 if any(cell["verdict"] == "invalid" for cell in summary["cells"]) else 0
    assert ran.ended.returncode == code
    stack, target, *progress = ran.ended.stderr.splitlines()
    assert stack.startswith("stack: embedded (asked for; ")
    assert target == "target: vm"
    for cell in ("[1/2] workers=1", "[2/2] workers=2"):
        shown = [line for line in progress if line.startswith(cell)]
        for phase in ("settings", "faults", "window", "answers", "audit", "verdict"):
            assert any(phase in line for line in shown), (cell, phase)


@pytest.mark.replica
def test_nothing_printed_to_a_pipe_has_colours(ran: Ran) -> None:
    assert "\x1b" not in ran.ended.stdout + ran.ended.stderr


@pytest.mark.replica
def test_judge_and_report_give_byte_for_byte_what_the_run_gave(ran: Ran) -> None:
    before = ran.files()
    assert {"summary.json", "report.html", "report.md"} <= {file.name for file in before}
    assert ran.stored("report", "latest") == ran.ended.stdout
    assert ran.stored("report", ran.path.name[:20]) == ran.ended.stdout
    assert ran.stored("judge", "latest") == ran.ended.stdout
    assert ran.stored("report", "latest", "--json") == (ran.path / "summary.json").read_text()
    assert ran.stored("judge", "latest", "--json") == (ran.path / "summary.json").read_text()
    assert ran.stored("report", "latest", "--html") == (ran.path / "report.html").read_text()
    assert ran.stored("report", "latest", "--markdown") == (ran.path / "report.md").read_text()
    assert ran.files() == before


@pytest.mark.replica
def test_a_run_is_listed_and_each_cell_told_in_full(ran: Ran) -> None:
    [listed] = json.loads(ran.stored("runs", "--json"))
    assert listed["name"] == ran.path.name
    assert (listed["finished"], listed["cells"]) == (2, 2)
    told = json.loads(ran.stored("report", "latest", "--cell", "workers=2", "--json"))
    assert told == json.loads((ran.path / "summary.json").read_text())["cells"][1]
    assert "workers=2" in ran.stored("report", "latest", "--cell", "=2")


@pytest.mark.replica
def test_a_finished_run_that_is_resumed_is_only_shown_again(ran: Ran) -> None:
    planned = command.lab("run", "--resume", "latest", "--dry-run", cwd=ran.folder)
    if ran.invalid:
        assert planned.stdout.startswith(f"short: {len(ran.invalid)} cell")
        pytest.skip("this machine is busy: a cell is invalid, which is made again")
    assert planned.stdout == "short: 0 cells, about 0 s\n"
    before = ran.files()
    again = command.lab("run", "spec.yaml", "--resume", "latest", cwd=ran.folder)
    assert again.returncode == ran.ended.returncode
    assert again.stdout == ran.ended.stdout
    assert "[1/2]" not in again.stderr
    assert ran.files() == before


@pytest.mark.replica
@pytest.mark.parametrize(("no_color", "coloured"), [(None, True), ("1", False)])
def test_a_terminal_has_colours_unless_they_are_not_wanted(
    ran: Ran, no_color: str | None, coloured: bool
) -> None:
    reader, writer = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "lab", "report", "latest"],
        cwd=ran.folder,
        env=command.environment({"NO_COLOR": no_color, "TERM": "xterm-256color"}),
        stdout=writer,
        stdin=subprocess.DEVNULL,
    )
    os.close(writer)
    shown = b""
    with open(reader, "rb", buffering=0, closefd=True) as terminal:  # noqa: PTH123
        while chunk := _read(terminal.fileno()):
            shown += chunk
    assert process.wait() == 0
    assert b"short: does a small load end?" in shown.replace(b"\x1b[1m", b"").replace(
        b"\x1b[0m", b""
    )
    assert (re.search(rb"\x1b\[[0-9;]*3[0-7]m", shown) is not None) is coloured


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # how a terminal says that its other end is closed
        return b""


@pytest.mark.replica
def test_two_labs_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    arguments = ("run", command.spec(tmp_path), "--json", "--speed", "10")
    folders = [tmp_path / name for name in ("one", "other")]
    with ThreadPoolExecutor() as pool:
        ends = list(
            pool.map(
                lambda folder: command.lab(*arguments, "--results", folder, cwd=tmp_path), folders
            )
        )
    for ended, folder in zip(ends, folders, strict=True):
        assert ended.returncode in ENDS, ended.stderr
        summary = (folder / "latest" / "summary.json").read_text()
        assert ended.stdout == summary
        for cell in json.loads(summary)["cells"]:
            assert cell["metrics"]["succeeded"] > 0
            assert not any("was down" in reason for reason in cell["reasons"])
        assert [o for _, o in ownership.replicas() if o.results == str(folder.resolve())] == []


@pytest.mark.replica
def test_a_part_that_is_killed_makes_its_cell_invalid_and_the_next_is_measured(
    tmp_path: Path,
) -> None:
    options = ("--json", "--speed", "10", "--toxiproxy", "embedded")
    with command.started("run", command.spec(tmp_path), *options, cwd=tmp_path) as process:
        command.wait_for_line(process, "[1/2]", "window")
        for each in command.Leftovers(tmp_path / "results").processes():
            if "lab.services.toxiproxy" in each.cmdline():
                each.kill()
        out, err = process.communicate(timeout=command.LIMIT_S)
    assert process.returncode == 4, err
    first, second = json.loads(out)["cells"]
    assert first["verdict"] == "invalid"
    assert any(r.startswith("toxiproxy was down at ") for r in first["reasons"]), first["reasons"]
    assert second["metrics"]["succeeded"] > 0
    assert not any("was down" in reason for reason in second["reasons"])


@pytest.mark.replica
def test_a_run_outlives_its_readers_and_keeps_its_code(tmp_path: Path) -> None:
    spec = command.spec(tmp_path, command.SHORT.replace("workers: [1, 2]", "workers: [1]"))
    lab = f"{shlex.quote(sys.executable)} -m lab run {spec} --speed 10 --results {tmp_path}"
    ended = subprocess.run(
        ["bash", "-c", f"{lab} --gate <&- >&- 2>&-"],
        env=command.environment(),
        timeout=command.LIMIT_S,
        check=False,
    )
    summary = json.loads((tmp_path / "latest" / "summary.json").read_text())
    code = {"held": 0, "broke": 1}.get(summary["cells"][0]["verdict"], 4)
    assert ended.returncode == code
    assert summary["cells"][0]["metrics"]["succeeded"] > 0
