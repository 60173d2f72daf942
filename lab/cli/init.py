"""``lab init``: specs, faults and the schema, to begin from."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from lab import paths
from lab.cli.options import PathName, json_option, print_json
from lab.errors import MachineError, UsageError

COPIED = {
    "experiments": ("*.yaml", "schema.json"),
    "experiments/claims": ("*.yaml",),
    "faults": ("*.yaml",),
}
"""By folder, which of its files."""


@click.command()
@click.argument("folder", metavar="DIR", type=PathName())
@json_option
def command(folder: Path, as_json: bool) -> None:
    """Copy the lab's specs and faults into DIR, to begin from.

    The schema is among them, by which an editor completes and checks a spec. Nothing that is
    there is overwritten.
    """
    files = {
        folder / name / source.name: source
        for name, patterns in COPIED.items()
        for pattern in patterns
        for source in sorted(paths.data(name).glob(pattern))
    }
    if taken := [target for target in files if target.exists() or target.is_symlink()]:
        raise UsageError(f"{taken[0]} is there already", "name another folder, or move it away")
    for target, source in files.items():
        _copy(source, target)
    if as_json:
        print_json([str(target) for target in files])
        return
    for name in COPIED:
        click.echo(
            f"{folder / name}: {sum(target.parent == folder / name for target in files)} files"
        )
    go_there = "" if folder == Path() else f"cd {shlex.quote(str(folder))} && "
    click.echo(f"begin with: {go_there}lab run experiments/as-found.yaml --dry-run")


def _copy(source: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            file.write(source.read_bytes())
    except OSError as error:
        what = f"{error.filename or target}: {error.strerror}"
        raise MachineError(what, "name a folder that can be written") from error
