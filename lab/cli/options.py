"""Options that several commands share, and how data and messages are printed."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from lab import paths
from lab.errors import SpecError, StoreError, UsageError
from lab.model.replica import TARGETS, Target
from lab.model.speed import AUTO, MAX_SPEED
from lab.model.suggest import suggest
from lab.model.text import clean

if TYPE_CHECKING:  # imported where it is used: a table does not wait for the reader of specs
    from click.shell_completion import CompletionItem

    from lab.model.fault import Fault
    from lab.report import Style

Command = Callable[..., Any]

RESULTS = Path("results")
"""The folder that holds the runs, where no other is named."""

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


class Speed(Number):
    """A speed as a number, or the word for one that is chosen."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """The number, or the word; a usage error where it is neither."""
        if value == AUTO:
            return AUTO
        if isinstance(value, str) and not _DIGITS.fullmatch(value):
            self.fail(f"'{value[:40]}' is no number in decimal digits, nor {AUTO}", param, ctx)
        return super().convert(value, param, ctx)


class Percent(click.ParamType[float]):
    """A share with its unit, ``20 %``, within bounds that are shares, too."""

    name = "share"

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """The share; a usage error where it is none, or out of bounds."""
        from lab.model.units import format_share, parse_share

        try:
            share = parse_share(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if not self.low <= share <= self.high:
            bounds = f"{format_share(self.low)} to {format_share(self.high)}"
            self.fail(f"{value} is out of bounds; it must be {bounds}", param, ctx)
        return share


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


class SpecName(PathName):
    """A SPEC: a file, or the name of one of the lab's own, which a shell completes."""

    def shell_complete(self, ctx: Any, param: Any, incomplete: str) -> list[CompletionItem]:
        """The files first: a shell forgets what stands before them."""
        from click.shell_completion import CompletionItem

        files = super().shell_complete(ctx, param, incomplete)
        names = filter(lambda name: name.startswith(incomplete), own_specs())
        return [*files, *map(CompletionItem, names)]


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
        default=RESULTS,
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


def speed_option(kind: click.ParamType[Any], more: str = "") -> Callable[[Command], Command]:
    """``--speed``."""
    text = "Divide every delay and duration by this; figures stay in real-world time."
    return click.option("--speed", type=kind, help=text + more)


def paced_options(command: Command) -> Command:
    """``--preset``, ``--set``, ``--speed``, which may be chosen, and ``--most-speed``."""
    more = f" {AUTO}, the default: for each cell the highest that stays true on this machine."
    return settings_options(speed_option(Speed(1, MAX_SPEED), more)(max_speed_option(command)))


def settings_options(command: Command) -> Command:
    """``--preset`` and ``--set``."""
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
        type=Number(1, MAX_SPEED),
        help="Run no cell at a higher speed than this, whatever its spec says.",
    )(command)


def retries_option(command: Command) -> Command:
    """``--retries``."""
    from lab.plan.attempts import MAX_RETRIES, RETRIES

    return click.option(
        "--retries",
        type=Whole(0, MAX_RETRIES),
        default=RETRIES,
        show_default=True,
        metavar="N",
        envvar="REPLICA_LAB_RETRIES",
        help="Measure a cell that something disturbed again, up to so often; 0: not at all.",
    )(command)


def measuring_options(command: Command) -> Command:
    """All that says how a command measures, and where: `paced_options`, `stack_options`,
    ``--retries``, ``--results`` and ``--json``, in this order."""
    for option in (json_option, results_option, retries_option, stack_options, paced_options):
        command = option(command)
    return command


def own_specs() -> dict[str, Path]:
    """The files of the lab's own specs, by name.

    Raises:
        MissingComponent: their folder is not there.
    """
    return {file.stem: file for file in sorted(paths.data("experiments").glob("*.yaml"))}


def find_spec(given: Path) -> Path:
    """The file that a SPEC means: that file, or the lab's own spec of that name.

    A file here goes before the lab's own of its name, with or without ``.yaml``; that is said.

    Raises:
        SpecError: neither is there; with the nearest name of the lab's own.
    """
    shipped = own_specs()
    if given.parent != Path() or given.suffix == ".yaml":
        if given.stem in shipped and not given.exists():
            raise SpecError("no such file", f"the lab's own is `{given.stem}`", str(given))
        return given  # that another is not there is said by who reads it, with the nearest file
    here = next(filter(Path.is_file, (given, Path(f"{given}.yaml"))), None)
    if here and given.name in shipped:
        print_message(f"spec: {here} of this folder, not the lab's own of that name")
    found = here or shipped.get(given.name) or given
    if not found.exists():
        remedy = suggest(given.name, shipped)
        raise SpecError("neither a file nor a spec of the lab", remedy, str(given))
    return found


def known_faults() -> dict[str, Fault]:
    """Every fault of the lab, and those under ``faults/`` of this folder, by name.

    One of this folder goes before the lab's own of its name; where they differ, that is said.

    Raises:
        MissingComponent: the lab's own folder is not there.
        SpecError: a file is wrong.
    """
    from lab.config import read_faults

    faults, here = read_faults(paths.data("faults")), Path("faults")
    own = read_faults(here) if here.is_dir() and not here.samefile(paths.data("faults")) else {}
    for name in (name for name in own if faults.get(name, own[name]) != own[name]):
        print_message(f"fault: {here / name}.yaml of this folder, not the lab's own of that name")
    return faults | own


def style() -> Style:
    """How text looks on standard output: 40 to 160 columns wide, whatever COLUMNS says."""
    from lab.report import Style

    width, height = shutil.get_terminal_size((100, 24))
    return Style.of(sys.stdout, max(40, min(width, 160)), os.environ, height)


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
