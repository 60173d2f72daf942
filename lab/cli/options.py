"""Options that several commands share, and how data and messages are printed."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from lab import paths
from lab.config import read_faults
from lab.errors import StoreError
from lab.model.fault import Fault
from lab.model.replica import TARGETS, Target
from lab.report import Style

Command = Callable[..., Any]


def results_option(command: Command) -> Command:
    """``--results DIR``."""
    return click.option(
        "--results",
        type=click.Path(path_type=Path, file_okay=False),
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
        "--speed", type=click.FloatRange(1, 50), help="Divide every delay and duration by this."
    )(command)
    command = click.option(
        "--set", "settings", multiple=True, metavar="KNOB=VALUE", help="Set a knob; repeatable."
    )(command)
    return click.option(
        "--preset",
        type=click.Choice(["as-found", "recommended"]),
        help="Start from this column of the knob table.",
    )(command)


def max_speed_option(command: Command) -> Command:
    """``--most-speed``."""
    return click.option(
        "--most-speed",
        "max_speed",
        type=click.FloatRange(1, 50),
        help="Run no cell at a higher speed than this, whatever its spec says.",
    )(command)


def known_faults() -> dict[str, Fault]:
    """Every fault under ``faults/``, by name.

    Raises:
        MissingComponent: the folder is not there.
        SpecError: a file of it is wrong.
    """
    return read_faults(paths.data("faults"))


def style() -> Style:
    """How text looks on standard output."""
    width = shutil.get_terminal_size((100, 24)).columns
    return Style.of(sys.stdout, min(width, 160), os.environ)


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
