"""The stored runs: all, or one by its path, by the unique prefix of its name, or the latest."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from lab.errors import LabError, UsageError
from lab.model.run import StoredRun
from lab.model.verdict import Outcome
from lab.store.files import storing
from lab.store.runs import INFO, LATEST, RunFolder


def find(results: Path, ref: str) -> RunFolder:
    """The run that ``ref`` means: ``latest``, a name or its unique prefix, or a path.

    Raises:
        UsageError: no run, several runs, or something that is not a run folder.
        StoreError: the folder cannot be read.
    """
    if ref == LATEST:
        return _latest(results)
    names = _names(results)
    if ref in names:
        return RunFolder.open(results / ref)
    if ref and Path(ref).exists():
        return RunFolder.open(Path(ref))
    matching = [name for name in names if ref and name.startswith(ref)]
    if len(matching) == 1:
        return RunFolder.open(results / matching[0])
    if matching:
        few = ", ".join(matching[:3]) + (", ..." if len(matching) > 3 else "")
        raise UsageError(f"'{ref}' means {len(matching)} runs: {few}", "write more of the name")
    raise UsageError(
        f"'{ref}' is neither a run in {results} nor a folder", "`lab runs` lists the runs"
    )


def runs(results: Path) -> tuple[StoredRun, ...]:
    """Every stored run, oldest first; one that cannot be read is listed with its problem.

    Raises:
        StoreError: the results folder itself cannot be read.
    """
    return tuple(_glance(results / name) for name in _names(results))


def _names(results: Path) -> list[str]:
    with storing(results, "list its runs"):
        if not results.exists():
            return []
        entries = [entry for entry in results.iterdir() if not entry.is_symlink()]
        return sorted(entry.name for entry in entries if (entry / INFO).is_file())


def _latest(results: Path) -> RunFolder:
    link = results / LATEST
    if not link.is_symlink():
        raise UsageError(f"there is no latest run in {results}", "`lab run SPEC` makes one")
    target = results / link.readlink()
    if not (target / INFO).is_file():
        raise UsageError(
            f"the latest run, {target.name}, is not in {results} any more",
            "name another; `lab runs` lists them",
        )
    return RunFolder.open(target)


def _glance(path: Path) -> StoredRun:
    try:
        run = RunFolder.open(path)
        outcomes = _outcomes(run)
    except LabError as error:
        return StoredRun(name=path.name, problem=str(error))
    order = [str(outcome) for outcome in ("found", *Outcome)]
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
    cells = (run.cell(cell_id) for cell_id in run.info.cells)
    return Counter(str(cell.read_verdict().outcome) for cell in cells if cell.finished())
