"""Ending replicas whose lab is no more, on whichever stack: nothing else is touched."""

from __future__ import annotations

from pathlib import Path

from lab.errors import MissingComponent
from lab.stack import owner
from lab.stack.compose import engine, resources
from lab.stack.owner import Owner


def end(folder: Path, mine: Owner) -> int:
    """End what is left of a replica: containers, networks, volumes, processes, its folder.

    Returns:
        How many things there were.

    Raises:
        MissingComponent: it has containers, and the engine does not answer.
        MachineError: something could not be removed.
    """
    removed = 0
    if mine.stack == "compose":
        client = engine.connect()
        try:
            removed = resources.remove(client, mine.id)
        finally:
            client.close()
    return removed + owner.end(folder, mine)


def reap() -> int:
    """End every replica whose lab is gone; how many there were.

    One with containers is left for later where the engine does not answer now.
    """
    gone = {mine.id: (folder, mine) for folder, mine in replicas() if mine.gone}
    ended = 0
    for folder, mine in gone.values():
        try:
            end(folder, mine)
        except MissingComponent:
            continue
        ended += 1
    return ended


def replicas() -> list[tuple[Path, Owner]]:
    """Every replica on this machine that this user may end; each by its folder and its owner.

    One whose folder is gone, as after a reboot, is still known by its labels on the engine.
    """
    found = {mine.id: (folder, mine) for folder, mine in owner.replicas()}
    for mine in _on_engine():
        found.setdefault(mine.id, (owner.folder_of(mine), mine))
    return list(found.values())


def _on_engine() -> list[Owner]:
    try:
        client = engine.connect()
    except MissingComponent:
        return []
    try:
        return list(resources.owners(client))
    finally:
        client.close()
