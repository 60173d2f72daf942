"""Honest fakes of a run's seams, for tests: small, fast, and the same contract as the real.

    FakeStack          a replica of one process: takes uploads as nginx and the backend do,
                       lists objects as storage does, answers SQL from SQLite
    RecordingInjector  injects nothing, and says that it did exactly what the cell asks
    InstantLoad        sends real uploads, but spends none of the load's time

`tests/component/fakes` holds each to the contract of the part that it stands for. None
makes a result up: what a test reads in the end was sent, stored and read back.
"""

from __future__ import annotations

from tests.fakes.cells import LOAD, make_cell
from tests.fakes.injector import RecordingInjector
from tests.fakes.load import InstantLoad
from tests.fakes.stack import FakeStack

__all__ = ["LOAD", "FakeStack", "InstantLoad", "RecordingInjector", "make_cell"]
