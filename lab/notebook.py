"""What ``import lab`` offers a notebook: to measure a spec, and to read what is stored.

    import lab

    run = lab.run_experiment("workers-x-pool", settings={"db_cap": 50})
    for cell in run.summary().cells:
        print(cell.id, cell.verdict, cell.metrics.get("p95"))

Durations are real-world seconds. An error is a `lab.errors.LabError`, its message one line
with its remedy.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import click

from lab import store
from lab.cli import forget_other_databases, session
from lab.cli.run import command, measure
from lab.errors import UsageError
from lab.model.replica import Target
from lab.store import RunFolder


def load_run(run: str | Path = "latest", results: str | Path = "results") -> RunFolder:
    """A stored run; nothing is started.

    Its `RunFolder.summary` has a verdict, reasons and metrics for each finished cell;
    ``run.cell(id).read_observation()`` every upload and every reading.

    Args:
        run: ``latest``, a run's name or its unique prefix, or the path of its folder.
        results: the folder that holds the runs.

    Raises:
        UsageError: no run, or several, are meant.
        StoreError: it cannot be read, or is damaged.
    """
    return store.find(Path(results), str(run))


def run_experiment(
    spec: str | Path,
    *,
    settings: Mapping[str, object] | None = None,
    preset: Literal["as-found", "recommended"] | None = None,
    speed: float | Literal["auto"] | None = None,
    users: int | None = None,
    target: Target | None = None,
    only: Sequence[str] = (),
    retries: int | None = None,
    stack: Literal["auto", "compose", "embedded"] | None = None,
    toxiproxy: Literal["auto", "real", "embedded"] | None = None,
    results: str | Path = "results",
) -> RunFolder:
    """Measure every cell of a spec, as ``lab run`` does; progress is on standard error.

    The run is stored as it goes, with its report; the replica is ended whatever happens. While it
    runs, libpq's variables (``PGHOST``) are not in this process's environment.

    Args:
        spec: a file, or the name of one of the lab's own specs.
        settings: knobs in place of the spec's, values as a spec writes them: ``"10 s"``, 4.
        preset: in place of the spec's.
        speed: in place of the spec's; divides every delay and duration. ``auto``: for each cell
            the highest that stays true on this machine.
        users: in place of the spec's users, or burst.
        target: in place of the spec's.
        only: patterns of the ids of the cells that are measured; none: all.
        retries: how often a cell that something disturbed is measured again; None: as `lab run`.
        stack: how the replica runs; None: what REPLICA_LAB_STACK says, else auto.
        toxiproxy: the real server, or the lab's own; None: auto.
        results: the folder that the run is stored in.

    Raises:
        SpecError: the spec, or a setting, is wrong.
        UsageError: another argument is.
        MachineError: something is missing on this machine.
        Interrupted: by Ctrl-C, or the kernel's interrupt; what is finished is stored.
    """
    options = {
        "preset": preset,
        "speed": speed,
        "users": users,
        "target": target,
        "retries": retries,
        "stack": stack,
        "toxiproxy": toxiproxy,
        "results": results,
    }
    words = [f"--{name}={value}" for name, value in options.items() if value is not None]
    words += [f"--set={name}={value}" for name, value in (settings or {}).items()]
    words += [f"--only={pattern}" for pattern in only]
    arguments = ("run", str(spec), *words)
    try:
        given = command.make_context("lab run", [*words, "--", str(spec)]).params
    except click.UsageError as error:
        raise UsageError(error.format_message()) from None
    overrides = session.Overrides(
        **{name: given[name] for name in ("settings", "preset", "speed", "users", "target", "only")}
    )
    [plan] = session.plan("run", given["specs"], overrides, None)
    planned = [replace(plan, arguments=arguments)]
    choice = session.which_stack(planned, given["stack"], given["toxiproxy"], None)
    with _without_other_databases():
        [report] = measure(
            planned, choice, given["toxiproxy"], given["results"], given["only"], given["retries"]
        )
    return report.run


@contextmanager
def _without_other_databases() -> Iterator[None]:
    """Keep libpq's settings, which are of the notebook's databases, from the lab meanwhile."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("PG")}
    forget_other_databases()
    try:
        yield
    finally:
        os.environ.update(kept)
