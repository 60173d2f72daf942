"""Ends replicas whose lab is gone, on either stack, and touches nothing else.

``python -m lab.stack.cleanup FOLDER`` is a replica's guardian: it waits for the lab to end,
then cleans up. Its standard input is a pipe that only the lab holds. The pipe closes when the
lab ends, however it ends; no signal, no timer and no polling is needed.
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import psutil

from lab.errors import LabError, MachineError, MissingComponent
from lab.stack import files, gateway, ownership
from lab.stack.compose import engine, resources
from lab.stack.ownership import Ownership

GONE_WITHIN_S = 5.0


def end(folder: Path, mine: Ownership) -> int:
    """End what is left of a replica: processes, containers, networks, volumes, its folder.

    Processes come first: a `docker compose` among them, or a gateway, would make more of what
    is removed. A gateway's instances may be frozen, and die only when they are swept up.

    Returns:
        How many things there were.

    Raises:
        MissingComponent: it has containers, and the engine does not answer.
        MachineError: something could not be removed.
    """
    killed = ownership.kill(mine.id)
    ended = len(killed)
    logs = folder / gateway.LOGS
    if logs.is_dir() and files.is_own_folder(folder):
        _sweep(killed, logs)
    psutil.wait_procs(killed, timeout=GONE_WITHIN_S)
    if mine.stack == "compose":
        client = engine.connect()
        try:
            ended += resources.remove(client, mine.id)
        finally:
            client.close()
    ownership.remove(folder, mine)
    return ended


def _sweep(killed: list[psutil.Process], logs: Path) -> None:
    """Sweep until all killed processes are gone: a gateway may take a moment to die."""
    deadline = time.monotonic() + GONE_WITHIN_S
    while True:
        gateway.sweep(logs)
        _, killed = psutil.wait_procs(killed, timeout=0.1)
        if not killed or time.monotonic() > deadline:
            return


def end_abandoned() -> int:
    """End every replica whose lab is gone, and return how many there were.

    A replica of containers is left for later if the engine does not answer now.
    """
    ownership.clear_unfinished()
    gone = {mine.id: (folder, mine) for folder, mine in replicas() if mine.gone}
    ended = 0
    for folder, mine in gone.values():
        try:
            end(folder, mine)
        except MissingComponent:
            continue
        ended += 1
    return ended


def replicas() -> list[tuple[Path, Ownership]]:
    """Folder and ownership of every replica on this machine that this user may end.

    A replica whose folder is gone, as after a reboot, is still known by labels on the engine.
    """
    known = {mine.id: (folder, mine) for folder, mine in ownership.replicas()}
    for mine in _on_engine():
        known.setdefault(mine.id, (ownership.folder_of(mine), mine))
    return list(known.values())


def _on_engine() -> list[Ownership]:
    """The replicas that the engine knows; none if it does not answer."""
    try:
        client = engine.connect()
    except MissingComponent:
        return []
    try:
        return list(resources.ownerships(client))
    except MachineError:
        return []
    finally:
        client.close()


def main(folder: Path) -> None:
    """Wait, then end what is left of the replica in ``folder``."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        mine = ownership.read(folder)
    except (OSError, ValueError):
        return  # it has been removed
    sys.stdin.buffer.read()
    try:
        end(folder, mine)
    except LabError as error:
        sys.exit(f"lab: {error}")  # the next lab ends what is left


if __name__ == "__main__":
    main(Path(sys.argv[1]))
