"""What the commands share: their help, the runs that they are given, and errors on one line."""

from __future__ import annotations

import signal
import sys
from argparse import (
    ArgumentParser,
    ArgumentTypeError,
    Namespace,
    RawDescriptionHelpFormatter,
)
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from lab.errors import LabError
from lab.store import RunFolder, find


def parser(module: str, text: str) -> ArgumentParser:
    """A parser whose help is the module's docstring, with the option ``--results``."""
    made = ArgumentParser(
        f"python -m {module}", description=text, formatter_class=RawDescriptionHelpFormatter
    )
    made.add_argument(
        "--results",
        type=Path,
        default=Path("results"),
        metavar="DIR",
        help="folder that holds the runs (default: results)",
    )
    return made


def positive(text: str) -> int:
    """A count of what is looked at: of none, nothing could be wrong.

    Raises:
        ArgumentTypeError: it is no whole number of 1 or more.
    """
    if text.isascii() and text.isdecimal() and int(text) > 0:
        return int(text)
    raise ArgumentTypeError(f"'{text}' is no whole number of 1 or more")


def share(text: str) -> float:
    """A share, from 0 to 1.

    Raises:
        ArgumentTypeError: it is none.
    """
    with suppress(ValueError):
        if 0 <= float(text) <= 1:
            return float(text)
    raise ArgumentTypeError(f"'{text}' is no share from 0 to 1")


def whole(text: str) -> int:
    """A number of something that is counted from 0 on.

    Raises:
        ArgumentTypeError: it is no whole number of 0 or more.
    """
    if text.isascii() and text.isdecimal():
        return int(text)
    raise ArgumentTypeError(f"'{text}' is no whole number of 0 or more")


def run_of(flags: Namespace, ref: str) -> RunFolder:
    """The run that an argument names.

    Raises:
        LabError: there is none, or it cannot be read.
    """
    return find(flags.results, ref)


def exit_code(work: Callable[[], int]) -> int:
    """What the work ends with; 2, and a line on standard error, where runs cannot be compared.

    SIGTERM ends it as Ctrl-C does, so that what was made for it is removed.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return work()
    except LabError as error:
        print(error, file=sys.stderr)
        return 2
    finally:
        signal.signal(signal.SIGTERM, before)
