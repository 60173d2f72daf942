"""What a replica's containers have said, into the folder of a cell."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from lab.stack.compose.project import Project


def collect(project: Project, parts: Iterable[str], since: datetime, into: Path) -> None:
    """A file for each part, made with its folder; nginx has one more, of its requests."""
    into.mkdir(parents=True, exist_ok=True)
    for part in parts:
        out = project.log(part, since, stderr=False)
        err = project.log(part, since, stdout=False)
        if part == "nginx":
            (into / "nginx-access.log").write_bytes(out)
            out = b""
        (into / f"{part}.log").write_bytes(out + err)


def collect_instances(project: Project, into: Path) -> None:
    """A file for each instance on Cloud Run, by its name there."""
    for name, container in project.instances().items():
        (into / f"{name}.log").write_bytes(container.logs())
