"""Options that several commands share, and how data and messages are printed."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from lab import paths
from lab.config import read_faults
from lab.errors import StoreError, UsageError
from lab.model.fault import Fault
from lab.model.replica import TARGETS, Target
from lab.model.text import clean
from lab.plan.attempts import MAX_RETRIES, RETRIES
from lab.report import Style

Command = Callable[..., Any]

_DIGITS = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?")


def _digits(value: Any, kind: click.ParamType[Any], param: Any, ctx: Any) -> None:
    """Refuse what Python reads as a number and people do not: ``nan``, ``1e400``, ``1_0``."""
    if isinstance(value, str) and not _DIGITS.fullmatch(value):
        kind.fail(f"'{value[:40]}' is not a number in decimal digits", param, ctx)


class Whole(click.IntRange):
    """A whole number in decimal digits."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """The number; a usage error where it is none, or out of range."""
        _digits(value, self, param, ctx)
        return super().convert(value, param, ctx)


class Number(click.FloatRange):
    """A number in decimal digits, which is finite."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """The number; a usage error where it is none, or out of range."""
        _digits(value, self, param, ctx)
        return super().convert(value, param, ctx)


class PathName(click.Path):
    """A path that can be shown and stored: it has a name, in UTF-8, of what can be seen."""

    def __init__(self, **more: Any) -> None:
        super().__init__(path_type=Path, **more)

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """The path; a usage error where it could not be shown."""
        text = os.fspath(value)
        if not text:
            self.fail("it is empty, and would mean this folder; write '.' for that", param, ctx)
        if "\n" in text or "\t" in text or clean(text) != text:
            what = "holds a control or invisible character, or is no UTF-8; rename it"
            self.fail(f"{text[:100]!r} {what}", param, ctx)
        if len(os.fsencode(text)) >= 4096 or max(map(len, os.fsencode(text).split(b"/"))) > 255:
            self.fail(f"'{text[:40]}...' is longer than a file system takes", param, ctx)
        return super().convert(value, param, ctx)


def is_given(name: str) -> bool:
    """Whether the running command's option ``name`` stands on the command line."""
    source = click.get_current_context().get_parameter_source(name)
    return source is ParameterSource.COMMANDLINE


def refuse_together(options: Mapping[str, bool]) -> None:
    """Refuse options of which one would be ignored.

    Args:
        options: whether each is given.

    Raises:
        UsageError: more than one is.
    """
    given = [name for name, is_there in options.items() if is_there]
    if len(given) > 1:
        raise UsageError(f"{given[0]} and {given[1]} exclude each other", "leave one out")


def folder_of(stored: Path | None, results: Path) -> Path:
    """Where a run is stored: one that is continued stays where it is.

    Raises:
        UsageError: ``--results`` names another folder.
    """
    if stored is None:
        return results
    if is_given("results") and stored.parent.resolve() != results.resolve():
        what = f"{stored} is continued where it is, and not in {results}"
        raise UsageError(what, "leave --results out")
    return stored.parent


def results_option(command: Command) -> Command:
    """``--results DIR``."""
    return click.option(
        "--results",
        type=PathName(file_okay=False),
        default=Path("results"),
        show_default=True,
        help="Folder that holds the runs.",
    )(command)


def json_option(command: Command) -> Command:
    """``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")(command)


def stack_option(text: str, show_variable: bool = True) -> Callable[[Command], Command]:
    """``--stack``."""
    return click.option(
        "--stack",
        type=click.Choice(["auto", "compose", "embedded"]),
        default="auto",
        show_default=True,
        envvar="REPLICA_LAB_STACK",
        show_envvar=show_variable,
        help=text,
    )


def stack_options(command: Command) -> Command:
    """``--stack`` and ``--toxiproxy``."""
    command = click.option(
        "--toxiproxy",
        type=click.Choice(["auto", "real", "embedded"]),
        default="auto",
        show_default=True,
        help="The real toxiproxy-server, or the lab's own.",
    )(command)
    return stack_option("How the replica runs; auto says which and why.")(command)


def target_option(default: Target | None, text: str) -> Callable[[Command], Command]:
    """``--target``."""
    return click.option(
        "--target",
        type=click.Choice(TARGETS),
        default=default,
        show_default=default is not None,
        help=text,
    )


def settings_options(command: Command) -> Command:
    """``--preset``, ``--set`` and ``--speed``."""
    command = click.option(
        "--speed",
        type=Number(1, 50),
        help="Divide every delay and duration by this; figures stay in real-world time.",
    )(command)
    command = click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KNOB=VALUE",
        help="Set a knob (`lab knobs` lists them); repeatable.",
    )(command)
    return click.option(
        "--preset",
        type=click.Choice(["as-found", "recommended"]),
        help="Start from this column of the table of knobs.",
    )(command)


def max_speed_option(command: Command) -> Command:
    """``--most-speed``."""
    return click.option(
        "--most-speed",
        "max_speed",
        type=Number(1, 50),
        help="Run no cell at a higher speed than this, whatever its spec says.",
    )(command)


def retries_option(command: Command) -> Command:
    """``--retries``."""
    return click.option(
        "--retries",
        type=Whole(0, MAX_RETRIES),
        default=RETRIES,
        show_default=True,
        metavar="N",
        envvar="REPLICA_LAB_RETRIES",
        help="Measure a cell that something disturbed again, up to so often; 0: not at all.",
    )(command)


def known_faults() -> dict[str, Fault]:
    """Every fault under ``faults/``, by name.

    Raises:
        MissingComponent: the folder is not there.
        SpecError: a file of it is wrong.
    """
    return read_faults(paths.data("faults"))


def style() -> Style:
    """How text looks on standard output: 40 to 160 columns wide, whatever COLUMNS says."""
    width = shutil.get_terminal_size((100, 24)).columns
    return Style.of(sys.stdout, max(40, min(width, 160)), os.environ)


def check_writable(results: Path) -> None:
    """Find out before a replica is started that its results could not be stored.

    Raises:
        StoreError: the folder cannot be made or written.
    """
    try:
        results.mkdir(parents=True, exist_ok=True)
        probe = results / f".probe-{os.getpid()}"
        with probe.open("xb") as file:  # a new one: somebody else's is not written over
            probe.unlink()
            file.write(b"0" * 4096)
    except OSError as error:
        raise StoreError(
            f"{results}: cannot be written ({error.strerror})", "choose another with --results"
        ) from error


def print_json(data: object) -> None:
    """Data as JSON on standard output, in ASCII: each value exactly as it is stored."""
    click.echo(json.dumps(data, indent=2, allow_nan=False))


def print_text(text: str) -> None:
    """Text with a line feed at its end, as `lab.report` makes it, on standard output."""
    click.echo(text, nl=False)


def print_message(text: str) -> None:
    """A message on standard error."""
    click.echo(text, err=True)
