"""Which signals interrupt the lab, and which whoever started it has it ignore."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

PROGRAM = """\
import os, signal, sys
from lab.cli import listen_to_signals
number = int(sys.argv[1])
if sys.argv[2] == "ignored":
    signal.signal(number, signal.SIG_IGN)
listen_to_signals()
try:
    os.kill(os.getpid(), number)
    print("goes on")
except KeyboardInterrupt:
    for again in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(os.getpid(), again)
    print("cleans up")
"""


@pytest.mark.parametrize(
    ("number", "before", "then"),
    [
        (signal.SIGINT, "default", "cleans up"),
        (signal.SIGTERM, "default", "cleans up"),
        (signal.SIGHUP, "default", "cleans up"),
        (signal.SIGINT, "ignored", "goes on"),  # in the background of a shell
        (signal.SIGHUP, "ignored", "goes on"),  # under nohup
        (signal.SIGTERM, "ignored", "cleans up"),
    ],
)
def test_a_signal_interrupts_once_unless_it_was_ignored(
    number: signal.Signals, before: str, then: str
) -> None:
    command = [sys.executable, "-c", PROGRAM, str(int(number)), before]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.returncode) == (f"{then}\n", 0), done.stderr
