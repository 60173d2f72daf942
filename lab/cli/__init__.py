"""The command line: parse, wire, exit code. The only room that knows every other.

A command is a file of this package, named as the command, that holds it as ``command``;
to add one, add its file. What several commands share is in the files that hold none:

    collector  posts a run to a collector of OpenTelemetry
    options    options, and how data and messages are printed
    wiring     the real parts behind the protocols of `lab.runner`
    session    what ``lab run`` and ``lab threshold`` do alike
    stored     the report of a stored run: shown, stored, and its exit code
    step       the summary of a step in CI
    standing   replicas that ``lab up`` left up
    lessons    the course, measured; ``exams`` the same of an examination
    streams    standard output and error: cleaned, and outlived
    watcher    the live page's process beside a run

Data goes to standard output, progress and messages to standard error. Exit codes: 0 every
cell was measured, 1 under ``--gate`` a cell broke or got certainly worse, 2 usage or a bad spec,
3 something is missing on this machine, 4 a cell is undecided or invalid, 130 interrupted: by
Ctrl-C, SIGTERM, or SIGHUP, as when its terminal closes. A command whose code is its answer keeps
it though its output cannot be written; one that only prints ends with 3 then, and with 0 where its
reader has left (``lab report latest | head -1``).
"""

from __future__ import annotations

import errno
import importlib
import os
import pkgutil
import re
import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click

from lab import __version__
from lab.cli import streams
from lab.errors import Interrupted, LabError, MachineError, UsageError
from lab.model.text import clean

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

MAX_MESSAGE = 4000
"""Characters of an error's line: what it quotes may be of any length."""

COMPLETE = "_LAB_COMPLETE"
"""The variable by which a shell asks for completion, as click's scripts name it."""

MODULES = tuple(module.name for module in pkgutil.iter_modules(__path__))

ABOUT = re.compile(r'^def command\(.*?^    """(.*?)("""|$)', re.DOTALL | re.MULTILINE)
"""The first line of a command's docstring, in its file."""


class Commands(click.Group):
    """The commands of this package; one is imported when it is asked for.

    None is for the help, nor for a shell that completes a command's name.

    Its interruption is an error of the lab; click's own prints an empty line.
    """

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Interrupted("interrupted") from None

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - as click's
        return list(abouts())

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(abouts().items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        commands = [
            CompletionItem(name, help=about)
            for name, about in abouts().items()
            if name.startswith(incomplete)
        ]
        return [*commands, *click.Command.shell_complete(self, ctx, incomplete)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        names = abouts()
        # Of one that is not known, click looks among all for what may have been meant.
        for name in [cmd_name] if cmd_name in names else names:
            if name not in self.commands:
                module = importlib.import_module(f"{__name__}.{name}")
                self.add_command(module.command, name)
        return super().get_command(ctx, cmd_name)


def abouts() -> dict[str, str]:
    """The commands, and in a sentence what each does; read from their files, not imported."""
    files = {name: pkgutil.get_data(__name__, f"{name}.py") or b"" for name in MODULES}
    found = {name: ABOUT.search(source.decode()) for name, source in files.items()}
    return {name: about[1] for name, about in found.items() if about}


@click.group(
    cls=Commands,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        "color": True,  # click leaves escapes alone: `streams` writes out what is not the lab's own
    },
)
@click.version_option(__version__, prog_name="lab")
@click.option(
    "--debug", is_flag=True, expose_value=False, help="Show the traceback of an error."
)  # read by `main`, which needs it where the options cannot be parsed, too
def lab() -> None:
    """A local replica of an upload service that fails as production does.

    \b
    Begin with:   lab doctor
                  lab run workers-x-pool
                  lab report latest
    """


def main() -> NoReturn:
    """Run the command line; every failure ends in one line and its exit code."""
    out, _ = streams.install()
    listen_to_signals()
    forget_other_databases()
    debug = "--debug" in sys.argv[1:]
    code = _code(debug)
    if lost := streams.lost_output(out):
        _print_error(str(lost))
        code = lost.exit_code if code is None else code
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # The interpreter, as it ends, gives the signals that Python handles back to the system.
        signal.signal(number, signal.SIG_IGN)
    sys.exit(code or 0)


def _code(debug: bool) -> int | None:
    """Run the command; its exit code, or None where it only prints."""
    try:
        if asked := os.environ.get(COMPLETE):
            return _complete(asked)
        with lab.make_context("lab", sys.argv[1:]) as context:
            code: int | None = lab.invoke(context)
            return code
    except click.exceptions.Exit as done:
        return done.exit_code or None
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except click.ClickException as error:
        return _usage(error)
    except (KeyboardInterrupt, click.Abort):
        return _fail(Interrupted("interrupted"), debug)
    except LabError as error:
        return _fail(error, debug)
    except OSError as error:
        return _fail(_system_error(error), debug, error)
    except Exception as error:
        return _fail(LabError(f"unexpected {type(error).__name__}: {error}"), debug, error)


def _complete(asked: str) -> int:
    """Print a shell's script for completion, or what completes its line; which, the shell says.

    Raises:
        UsageError: it is no shell that can be helped.
    """
    from click.shell_completion import shell_complete

    if failed := shell_complete(lab, {}, "lab", COMPLETE, asked):
        shells = ", ".join(f"{shell}_source" for shell in ("bash", "zsh", "fish"))
        raise UsageError(f"{COMPLETE}: '{asked}' is not known", f"known are: {shells}")
    return failed


def listen_to_signals() -> None:
    """Let the first SIGINT, SIGTERM or SIGHUP interrupt, and none after it: clean-up is under way.

    A SIGINT or SIGHUP that whoever started the lab has it ignore (``&``, ``nohup``) stays ignored.
    """
    asked = (number for number in (signal.SIGINT, signal.SIGHUP) if not _ignored(number))
    numbers = [signal.SIGTERM, *asked]

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for number in numbers:
            # Not SIG_IGN: a child that is started to clean up would inherit it.
            signal.signal(number, lambda _number, _frame: None)
        raise KeyboardInterrupt

    for number in numbers:
        signal.signal(number, interrupt)


def _ignored(number: signal.Signals) -> bool:
    return signal.getsignal(number) is signal.SIG_IGN


def forget_other_databases() -> None:
    """Take libpq's settings out of this process's environment: they are of the user's databases.

    What the lab says to libpq goes before them, but for ``PGSERVICE``, which cannot be denied.
    """
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]


def _system_error(error: OSError) -> LabError:
    """An error of the operating system that no room has made its own."""
    what = error.strerror or str(error)
    return MachineError(f"{error.filename}: {what}" if error.filename else what, _remedy(error))


def _remedy(error: OSError) -> str:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return "free some space on its disk" if full else "see `lab doctor`"


def _fail(error: LabError, debug: bool, cause: Exception | None = None) -> int:
    if debug:
        import traceback  # here alone: what is imported above is waited for by every command

        traceback.print_exception(cause or error)
    notes = getattr(cause or error, "__notes__", ())
    hint = [] if debug or not cause else ["`lab --debug …` shows the traceback"]
    _print_error("; ".join([str(error), *notes, *hint]))
    return error.exit_code


def _usage(error: click.ClickException) -> int:
    context = getattr(error, "ctx", None)
    where = f" - see `{context.command_path} --help`" if context else ""
    _print_error(error.format_message().rstrip(".") + where)
    return 2


def _print_error(message: str) -> None:
    line = " ".join(clean(message).split())
    click.echo(f"lab: {line if len(line) <= MAX_MESSAGE else f'{line[:MAX_MESSAGE]}...'}", err=True)
