"""The command line in this process, by the function that the `lab` program calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.cli import main
from tests.signal_handlers import handlers, restore


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str


Command = Callable[..., Outcome]


def the_line(err: str) -> str:
    """The one line that a failure prints, without its beginning."""
    assert err.startswith("lab: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1, err
    return err.removeprefix("lab: ").rstrip("\n")


def run_main(*arguments: str | Path) -> int:
    """The command in this process: its exit code; what signals do is as before after it.

    The command's process ends with it, so it leaves them ignored; what a test starts would inherit
    that.
    """
    before = handlers()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", ["lab", *map(str, arguments)])
            with pytest.raises(SystemExit) as ended:
                main()
    finally:
        restore(before)
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command and tell how it ended; signals and environment are as before after it."""
    monkeypatch.setenv("COLUMNS", "100")  # whatever runs the tests
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)  # of the step that runs the tests
    monkeypatch.setenv("REPLICA_LAB_RETRIES", "0")  # a busy machine would be waited for

    def run(*arguments: str | Path) -> Outcome:
        capsys.readouterr()
        code = run_main(*arguments)
        return Outcome(code, *capsys.readouterr())

    return run
