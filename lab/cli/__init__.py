"""The command line: parse, wire, exit code. The only room that knows every other.

Data goes to standard output, progress and messages to standard error. Exit codes: 0 every
cell was measured, 1 a cell broke under ``--gate``, 2 usage or a bad spec, 3 something is
missing on this machine, 4 a cell is undecided or invalid, 130 interrupted.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from typing import NoReturn

import click

from lab import __version__
from lab.cli import measure, replica, stored, tables
from lab.errors import Interrupted, LabError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="lab")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def lab(debug: bool) -> None:
    """A local replica of an upload service that fails as production does.

    \b
    Begin with:   lab doctor
                  lab run experiments/workers-x-pool.yaml
                  lab report latest
    """


for command in (*measure.COMMANDS, *stored.COMMANDS, *replica.COMMANDS, *tables.COMMANDS):
    lab.add_command(command)


def main() -> NoReturn:
    """Run the command line; every failure ends in one line and its exit code."""
    # A terminated lab cleans up just as an interrupted one does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    debug = "--debug" in sys.argv[1:]
    try:
        code = lab.main(standalone_mode=False) or 0
    except click.exceptions.Exit as done:
        code = done.exit_code
    except click.ClickException as error:
        code = _usage(error)
    except (KeyboardInterrupt, click.Abort):
        code = _fail(Interrupted("interrupted"), debug)
    except BrokenPipeError:
        # Whoever read our output has gone; there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except LabError as error:
        code = _fail(error, debug)
    except Exception as error:
        code = _fail(LabError(f"unexpected {type(error).__name__}: {error}"), debug, error)
    sys.exit(code)


def _fail(error: LabError, debug: bool, cause: Exception | None = None) -> int:
    if debug:
        traceback.print_exception(cause or error)
    notes = "".join(f"; {note}" for note in getattr(error, "__notes__", ()))
    hint = "" if debug or not cause else " - run it again with `lab --debug …` for the traceback"
    click.echo(f"lab: {' '.join(str(error).split())}{notes}{hint}", err=True)
    return error.exit_code


def _usage(error: click.ClickException) -> int:
    context = getattr(error, "ctx", None)
    where = f" - see `{context.command_path} --help`" if context else ""
    click.echo(f"lab: {error.format_message()}{where}", err=True)
    return 2
