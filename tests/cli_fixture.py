"""The command line in this process, by the function that the `lab` program calls."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.cli import main


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


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """Run a command and tell how it ended; signals and environment are as before after it."""
    monkeypatch.setenv("COLUMNS", "100")  # whatever runs the tests
    monkeypatch.setenv("REPLICA_LAB_RETRIES", "0")  # a busy machine would be waited for
    handlers = {
        each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }

    def run(*arguments: str | Path) -> Outcome:
        monkeypatch.setattr("sys.argv", ["lab", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Outcome(ended.value.code, out, err)

    yield run
    for each, handler in handlers.items():
        signal.signal(each, handler)
