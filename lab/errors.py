"""Every error the lab raises on purpose, in one tree.

LabError                     exit code   meaning
├── UsageError                   2       the command line asks for something that cannot be
│   └── SpecError                2       a spec, fault or knob value is wrong: where, and the remedy
├── MachineError                 3       something is missing, full, taken or dead on this machine
│   ├── MissingComponent         3       a program or library the stack needs is not here
│   ├── PartFailed               3       a part of the replica did not come up, or died
│   └── StoreError               3       the results folder cannot be read or written
├── InjectionError               3       a fault could not be injected, or did not read back as set
└── Interrupted                130       the user, or the system, asked the lab to stop

Each message is one line that says what is wrong, where, and how to mend it. It is
printed once, at the edge (`lab.cli`); a traceback appears only under ``--debug``.
"""

from __future__ import annotations

from typing import ClassVar


class LabError(Exception):
    """Base of all errors that the lab raises on purpose.

    Args:
        what: what is wrong, and where.
        remedy: what the reader can do about it; joined to ``what`` by a dash.
    """

    exit_code: ClassVar[int] = 3

    def __init__(self, what: str, remedy: str | None = None) -> None:
        super().__init__(f"{what} - {remedy}" if remedy else what)
        self.what = what
        self.remedy = remedy


class UsageError(LabError):
    """The command line asks for something that cannot be."""

    exit_code = 2


class SpecError(UsageError):
    """A spec, a fault file or a knob's value is wrong.

    Args:
        what: what is wrong with the value.
        remedy: how to mend it.
        where: file, line and column, as ``experiments/a.yaml:4:3``; empty for the command line.
    """

    def __init__(self, what: str, remedy: str | None = None, where: str = "") -> None:
        super().__init__(f"{where}: {what}" if where else what, remedy)
        self.where = where


class MachineError(LabError):
    """Something is missing, full, taken or dead on this machine."""


class MissingComponent(MachineError):
    """A program or a library that the stack needs is not here."""


class PartFailed(MachineError):
    """A part of the replica did not come up, or died; carries the last line of its log."""


class StoreError(MachineError):
    """The results folder cannot be read or written."""


class InjectionError(LabError):
    """A fault could not be injected, or what was read back is not what was set."""


class Interrupted(LabError):
    """The user, or the system, asked the lab to stop."""

    exit_code = 130
