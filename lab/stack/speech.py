"""The speech service, behind the proxy ``speech``; it stores nothing, and no knob is its own."""

from __future__ import annotations

import sys
from pathlib import Path

import requests

from lab.model.environment import python_variables
from lab.model.knobs import Knobs
from lab.model.speech import SPEECH_HEALTH_PATH
from lab.stack.ports import HOST, http
from lab.stack.process import Part, Process

TIMEOUT_S = 1.0


def speech_answers(url: str) -> bool:
    """Whether the service at this address is ready."""
    try:
        return bool(http().get(url + SPEECH_HEALTH_PATH, timeout=TIMEOUT_S).status_code == 200)
    except requests.RequestException:
        return False


class Speech(Part):
    """The service, a single process."""

    name = "speech"

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(folder)
        self.port = port
        self.url = f"http://{HOST}:{port}"

    def start(self, _knobs: Knobs) -> None:
        self._process = Process(
            self.name,
            [sys.executable, "-m", "lab.services.speech"],
            self.log,
            {**python_variables(), "HOST": HOST, "PORT": str(self.port)},
        )
        self._process.wait_ready(lambda: speech_answers(self.url))
