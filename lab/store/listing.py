"""The stored runs: all, or one by its path, by the unique prefix of its name, or the latest."""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from pathlib import Path

from lab.errors import LabError, UsageError
from lab.files import Folder, is_beside, storing
from lab.model.run import StoredRun
from lab.model.verdict import Outcome
from lab.store.runs import INFO, LATEST, RunFolder

DAMAGED = "damaged"
"""What a cell is counted as whose verdict cannot be read; `lab report` says why."""


def find(results: Path, ref: str) -> RunFolder:
    """The run that ``ref`` means: ``latest``, a name or its unique prefix, or a path.

    Raises:
        UsageError: no run, several runs, or something that is not a run folder.
        StoreError: the folder cannot be read.
    """
    if ref == LATEST:
        return _latest(results)
    known = names(results)
    if ref in known:
        return RunFolder.open(results / ref)
    if ref and _exists(Path(ref)):
        return RunFolder.open(Path(ref))
    matching = [name for name in known if ref and name.startswith(ref)]
    if len(matching) == 1:
        return RunFolder.open(results / matching[0])
    if matching:
        few = ", ".join(matching[:3]) + (", ..." if len(matching) > 3 else "")
        raise UsageError(f"'{ref}' means {len(matching)} runs: {few}", "write more of the name")
    raise UsageError(
        f"'{ref}' is neither a run in {results} nor a folder", "`lab runs` lists the runs"
    )


def names(results: Path) -> list[str]:
    """The folders that hold a ``run.json``, whatever that is: what is wrong with it is told.

    Raises:
        StoreError: the results folder cannot be read.
    """
    if not _exists(results):
        return []
    folders = [name for name, mode in Folder(results).entries().items() if stat.S_ISDIR(mode)]
    return [name for name in folders if os.path.lexists(results / name / INFO)]


def by_name(results: Path, name: str) -> RunFolder:
    """A run by its whole name, which is looked up among the others and never taken for a path.

    Raises:
        UsageError: there is none of this name, or a later lab wrote it.
        StoreError: it cannot be read, or is damaged.
    """
    if name not in names(results):
        raise UsageError(f"there is no run '{name}' in {results}", "`lab runs` lists the runs")
    return RunFolder.open(results / name)


def runs(results: Path) -> tuple[StoredRun, ...]:
    """Every stored run, oldest first; one that cannot be read is listed with its problem.

    Raises:
        StoreError: the results folder itself cannot be read.
    """
    return tuple(_glance(results / name) for name in names(results))


def of_experiment(results: Path, experiment: str) -> tuple[Path, ...]:
    """The folders of the runs of an experiment, by their names, the newest first; none is opened.

    Raises:
        StoreError: the results folder cannot be read.
    """
    form = re.compile(rf"\w+-{re.escape(experiment)}-[0-9a-f]{{8}}(?:-(\d+))?")
    named = [(name, found) for name in names(results) if (found := form.fullmatch(name))]
    named.sort(key=lambda pair: (pair[0].partition("-")[0], int(pair[1][1] or 1), pair[0]))
    return tuple(results / name for name, _ in reversed(named))


def _exists(path: Path) -> bool:
    """Whether something is there, at the end of a link too.

    Raises:
        StoreError: this user may not look, or no name may be as long.
    """
    with storing(path, "look at it"):
        return path.exists()


def _latest(results: Path) -> RunFolder:
    link = results / LATEST
    if not (_exists(results) and link.is_symlink()):
        raise UsageError(f"there is no latest run in {results}", "`lab run SPEC` makes one")
    target = link.readlink()
    if not is_beside(str(target)) or (results / target).is_symlink():
        raise UsageError(
            f"{link} leads to {target}, which is no run in {results}",
            "name another; `lab runs` lists them",
        )
    if target.name not in names(results):
        raise UsageError(
            f"the latest run, {target.name}, is not in {results} any more",
            "name another; `lab runs` lists them",
        )
    return RunFolder.open(results / target)


ANSWERS = ("found", "proven", "withdrawn", "shared", "unbroken")
"""What comes of a cell of a search, and of a diagnosis, in the order in which it is told."""


def _glance(path: Path) -> StoredRun:
    try:
        run = RunFolder.open(path)
        outcomes = _outcomes(run)
    except LabError as error:
        return StoredRun(name=path.name, problem=str(error))
    order = [str(outcome) for outcome in (*ANSWERS, *Outcome, DAMAGED)]
    return StoredRun(
        name=run.info.name,
        kind=run.info.kind,
        experiment=run.info.experiment.experiment,
        started=run.info.started,
        stack=run.info.stack,
        finished=outcomes.total(),
        cells=len(run.info.cells),
        outcomes={outcome: outcomes[outcome] for outcome in order if outcomes[outcome]},
    )


def _outcomes(run: RunFolder) -> Counter[str]:
    """How many cells came to what."""
    if run.info.kind == "threshold":
        thresholds = run.read_thresholds()
        return Counter(cell.outcome for cell in thresholds.cells) if thresholds else Counter()
    if run.info.kind == "why":
        diagnoses = run.read_diagnoses()
        return Counter(cell.outcome for cell in diagnoses.cells) if diagnoses else Counter()
    outcomes: Counter[str] = Counter()
    for cell_id in run.info.cells:
        cell = run.cell(cell_id)
        try:
            outcomes.update([str(cell.read_verdict().outcome)] if cell.finished() else [])
        except LabError:
            outcomes[DAMAGED] += 1
    return outcomes
