"""``lab up``, ``status``, ``down``, ``locust``: a replica kept up by hand."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import psutil

from lab.cli.options import (
    check_writable,
    faults,
    json_option,
    print_json,
    results_option,
    say,
    settings_options,
    stack_options,
    target_option,
)
from lab.cli.wiring import AnyStack, choose, make_stack
from lab.config import parse_settings
from lab.errors import MachineError, UsageError
from lab.faults.network import Toxiproxy, base_rtt
from lab.load.upload import PATH
from lab.load.web import run_web
from lab.model.experiment import DEFAULT_FAULTS, Cell
from lab.model.knobs import Knobs, Preset
from lab.model.load import BurstLoad
from lab.model.replica import Target, contradiction, token
from lab.stack import cleanup, ownership, ports
from lab.stack.base import Replica
from lab.stack.compose.resources import down_services

RECORD = "replica.json"


@dataclass(frozen=True)
class Kept:
    """A replica that stays up: its folder, its owner, and what `up` wrote down of it."""

    folder: Path
    owner: ownership.Ownership
    record: dict[str, Any]


def kept(results: Path) -> list[Kept]:
    """The replicas that were asked to stay, of this results folder."""
    here = str(results.resolve())
    return [
        Kept(folder, mine, _recorded(folder))
        for folder, mine in cleanup.replicas()
        if mine.pid is None and mine.results == here
    ]


def _recorded(folder: Path) -> dict[str, Any]:
    """What `up` wrote down; nothing where it has not come so far, or never will."""
    try:
        return dict(json.loads((folder / RECORD).read_text()))
    except FileNotFoundError:
        return {}


def whole(results: Path) -> list[Kept]:
    """The replicas that are up, of this results folder.

    Raises:
        MachineError: there is none, or `up` is not done with one.
    """
    found = kept(results)
    if not found:
        raise MachineError("no replica is up", "`lab up` brings one up")
    if not all(each.record for each in found):
        raise MachineError(
            "a replica is being brought up, or `lab up` was killed at it", "`lab down` ends it"
        )
    return found


@click.command()
@settings_options
@stack_options
@target_option("vm", "Where the backend runs.")
@click.option("--port", type=click.IntRange(1, 65535), help="Where users upload; default: free.")
@click.option(
    "--fault",
    "names",
    multiple=True,
    help=f"A fault to arm; repeatable. Default: {', '.join(DEFAULT_FAULTS)}.",
)
@click.option("--no-faults", is_flag=True, help="Arm none.")
@results_option
@json_option
def up(
    settings: tuple[str, ...],
    preset: str | None,
    speed: float | None,
    stack: str,
    toxiproxy: str,
    target: Target,
    port: int | None,
    names: tuple[str, ...],
    no_faults: bool,
    results: Path,
    as_json: bool,
) -> None:
    """Bring a replica up and leave it.

    Prints its addresses and how to upload a file. `lab down` ends it.
    """
    if kept(results):
        raise UsageError("a replica is up already", "`lab down` ends it, `lab status` shows it")
    if names and no_faults:
        raise UsageError("--fault and --no-faults exclude each other", "leave one out")
    check_writable(results)
    cleanup.end_abandoned()
    chosen = parse_settings(settings)
    if speed and "speed" in chosen:
        raise UsageError("speed is given both as --speed and as --set speed", "keep one of them")
    chosen |= {"speed": speed} if speed else {}
    knobs = Knobs.preset(Preset(preset or "as-found")).with_settings(chosen)
    if problem := contradiction(target, knobs):
        raise UsageError(*problem)
    cell = _cell(target, knobs, () if no_faults else (names or DEFAULT_FAULTS))
    kept_up, why = make_stack(choose(stack, toxiproxy), results, toxiproxy, port, True)
    try:
        say(f"stack: {kept_up.name} ({why})")
        replica = kept_up.apply(cell)
        armed = Toxiproxy(replica.toxiproxy)
        base_s = base_rtt(armed, cell.faults, knobs, replica.round_trip)
        for fault in cell.faults:
            armed.arm(fault, knobs, base_s)
        kept_up.detach()
    except BaseException:
        kept_up.close()
        raise
    record = _record(replica, cell, kept_up)
    unfinished = kept_up.folder / f".{RECORD}"
    unfinished.write_text(json.dumps(record))
    unfinished.chmod(0o600)  # it holds passwords
    unfinished.rename(kept_up.folder / RECORD)
    print_json(record) if as_json else _show(record)


def _cell(target: Target, knobs: Knobs, names: tuple[str, ...]) -> Cell:
    known = faults()
    for name in names:
        if name not in known:
            raise UsageError(f"there is no fault '{name}'", f"known: {', '.join(known)}")
        if planned := known[name].planned:
            raise UsageError(
                f"{name} strikes {planned.part} while a load runs, and `lab up` runs none",
                "name it in a spec's faults and use `lab run`",
            )
    return Cell(
        id="up",
        axes={},
        target=target,
        knobs=knobs,
        load=BurstLoad(burst=1),
        faults=tuple(known[name] for name in dict.fromkeys(names)),
        criteria=(),
        seed=1,
    )


def _record(replica: Replica, cell: Cell, stack: AnyStack) -> dict[str, Any]:
    return {
        "stack": stack.name,
        "target": cell.target,
        "url": replica.url,
        "upload": replica.url + PATH,
        "token": token(0),
        "health": replica.backend + "/health",
        "database": replica.monitor_dsn,
        "storage": replica.storage,
        "toxiproxy": replica.toxiproxy,
        "logs": stack.logs_at,
        "faults": [fault.fault for fault in cell.faults],
        "knobs": cell.knobs.as_text(),
        "parts": {name: pids()[0] for name, pids in replica.parts.items()},
    }


def _show(record: dict[str, Any]) -> None:
    for name in ("stack", "target", "url", "health", "database", "storage", "toxiproxy", "logs"):
        click.echo(f"{name:<10} {record[name]}")
    click.echo(f"{'faults':<10} {', '.join(record['faults']) or 'none'}")
    click.echo(
        f"\nupload a file:\n  curl -H 'Authorization: Bearer {record['token']}' "
        f"-F 'file=@recording.wav;type=audio/wav' {record['upload']}"
    )


@click.command()
@results_option
@json_option
def status(results: Path, as_json: bool) -> int:
    """Show the replica that is up.

    Says which of its parts are down, if any. Exit code 3 if some are, or if there is none.
    """
    found = whole(results)
    if as_json:
        print_json([{**each.record, "down": _down(each)} for each in found])
    for each in () if as_json else found:
        _show(each.record)
        down = _down(each)
        click.echo("\n" + (f"DOWN: {', '.join(down)}" if down else "all parts are running"))
    return 3 if any(map(_down, found)) else 0


def _down(each: Kept) -> list[str]:
    compose = each.owner.stack == "compose"
    down = down_services(each.owner.id, each.record["target"]) if compose else []
    alive = {process.pid for process in ownership.processes(each.owner.id)}
    return down + [
        part
        for part, pid in each.record["parts"].items()
        if pid not in alive or psutil.Process(pid).status() == psutil.STATUS_STOPPED
    ]


@click.command()
@results_option
def down(results: Path) -> None:
    """End the replica that is up.

    Ends whatever a lab that was killed left running, too; a run that is going on is left alone.
    """
    ended = [cleanup.end(each.folder, each.owner) for each in kept(results)]
    left = cleanup.end_abandoned()
    busy = [mine for _, mine in ownership.replicas() if mine.pid and not mine.gone]
    say(f"ended {len(ended)} replica(s) of {results} and {left} left by a lab that was killed")
    if busy:
        pids = ", ".join(str(mine.pid) for mine in busy)
        say(f"left alone: the replica of a run that is going on (lab process {pids})")


@click.command()
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=8089,
    show_default=True,
    help="Where the page is served.",
)
@results_option
def locust(port: int, results: Path) -> None:
    """Open Locust's own web page against the replica that is up.

    Its users and their number are set on the page. Ctrl-C ends it.
    """
    found = whole(results)
    ports.check(port)
    say(f"Locust's page: http://127.0.0.1:{port} (Ctrl-C ends it)")
    run_web(found[0].record["url"], port)


COMMANDS = (up, status, down, locust)
