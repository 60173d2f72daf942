"""What a shell is told that completes the lab's command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli_fixture import Command, the_line


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("lab ru", ["plain,run", "plain,runs"]),
        ("lab --ver", ["plain,--version"]),
        ("lab nosuch", [""]),
        ("lab run --stac", ["plain,--stack"]),
        ("lab run --stack em", ["plain,embedded"]),
        ("lab run workers", ["file,workers", "plain,workers-x-pool"]),
        ("lab threshold as-f", ["file,as-f", "plain,as-found"]),
        ("lab summary ./lab", ["file,./lab"]),
        ("lab init here", ["file,here"]),
    ],
)
def test_commands_options_choices_specs_and_files_are_completed(
    lab: Command, monkeypatch: pytest.MonkeyPatch, line: str, expected: list[str]
) -> None:
    monkeypatch.setenv("_LAB_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(line.count(" ")))
    ended = lab()
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines() == expected


@pytest.mark.parametrize(("shell", "hook"), [("zsh", "compdef"), ("fish", "complete --no-files")])
def test_the_script_of_a_shell(
    lab: Command, monkeypatch: pytest.MonkeyPatch, shell: str, hook: str
) -> None:
    monkeypatch.setenv("_LAB_COMPLETE", f"{shell}_source")
    ended = lab()
    assert (ended.code, ended.err) == (0, "")
    assert hook in ended.out


def test_bash_completes_by_its_script(tmp_path: Path) -> None:
    program = tmp_path / "lab"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m lab "$@"\n')
    program.chmod(0o755)
    script = """
        PATH="$1:$PATH"
        eval "$(_LAB_COMPLETE=bash_source lab)"
        COMP_WORDS=(lab run workers) COMP_CWORD=2
        "$(complete -p lab | grep --only-matching '_[a-z_]*')" lab 2>/dev/null
        echo "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        ["bash", "-c", script, "bash", tmp_path], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("workers-x-pool\n", "")


@pytest.mark.parametrize("asked", ["1", "tcsh_source", "bash_nothing"])
def test_a_shell_that_is_not_known(
    lab: Command, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    monkeypatch.setenv("_LAB_COMPLETE", asked)
    ended = lab()
    assert (ended.code, ended.out) == (2, "")
    assert the_line(ended.err) == (
        f"_LAB_COMPLETE: '{asked}' is not known - known are: bash_source, zsh_source, fish_source"
    )
