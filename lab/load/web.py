"""Locust's own web page against a replica that is up, on 127.0.0.1 only."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from lab.load.driver import generator_environment, locust_command
from lab.model.load import REPORT_AUDIO
from lab.model.units import SizeRange


def web_command(url: str, port: int) -> list[str]:
    """The command line that serves the page on ``port`` of 127.0.0.1, with ``url`` filled in."""
    return locust_command("--web-host", "127.0.0.1", "--web-port", str(port), "--host", url)


def web_environment(audio: SizeRange, seed: int, think: float) -> dict[str, str]:
    """The environment of the page's users; ``think`` is their pause in wall seconds."""
    return {
        **generator_environment(),
        "LAB_LOCUST_AUDIO": str(audio),
        "LAB_LOCUST_SEED": str(seed),
        "LAB_LOCUST_THINK": str(think),
    }


def run_web(
    url: str,
    port: int,
    audio: SizeRange = REPORT_AUDIO,
    seed: int = 1,
    think: float = 0.0,
) -> NoReturn:
    """Become Locust, serving its page until Ctrl-C; never returns.

    Args:
        url: where users upload, without a path.
        port: of the page, on 127.0.0.1.
        audio: size of the files.
        seed: what they are made from.
        think: pause after each answer, in wall seconds.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    command = web_command(url, port)
    os.execve(command[0], command, web_environment(audio, seed, think))  # noqa: S606
