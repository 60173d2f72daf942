"""A spec file to an Experiment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from pathlib import Path

from pydantic import ValidationError

from lab.config.document import Document, Loc, read_document
from lab.config.explain import validated
from lab.config.fault import fault_problem
from lab.config.knobs import check_knobs
from lab.model.criterion import Criterion
from lab.model.experiment import SCHEMA, Experiment, load_problem, unasked
from lab.model.fault import Fault
from lab.model.load import Load, OneWindow, varied
from lab.model.physics import STATISTICAL
from lab.model.units import format_duration


def read_experiment(file: Path, faults: Mapping[str, Fault]) -> Experiment:
    """Read a spec.

    Args:
        file: the YAML file.
        faults: the faults there are, by name.

    Raises:
        SpecError: anything wrong with it, as ``file:line:column: what - remedy``.
    """
    document = read_document(file)
    _check_schema(document)
    check_knobs(document)
    experiment = validated(Experiment, document)
    _check_faults(document, experiment, faults)
    _check_criteria(document, experiment)
    loads = dict(_loads(document, experiment))
    for path, load in loads.items():
        if problem := load_problem(load):
            inner, what, remedy = problem
            raise document.error((*path, *inner), what, remedy)
    _check_asked(document, experiment, loads)
    _check_early_end(document, experiment)
    _check_process_faults(document, experiment, loads.values(), faults)
    return experiment


def _check_schema(document: Document) -> None:
    schema = document.value.get("schema", SCHEMA)
    if isinstance(schema, int) and schema > SCHEMA:
        what = f"was written for a later lab (schema {schema}; this one reads {SCHEMA})"
        raise document.error(("schema",), what, "upgrade the lab")


def _check_faults(document: Document, experiment: Experiment, faults: Mapping[str, Fault]) -> None:
    for index, name in enumerate(experiment.faults):
        path: Loc = ("faults", index)
        if name in experiment.faults[:index]:
            raise document.error(path, f"fault '{name}' stands here twice", "remove one")
        if problem := fault_problem(name, faults):
            raise document.error(path, *problem)


def _check_criteria(document: Document, experiment: Experiment) -> None:
    for index, criterion in enumerate(experiment.criteria):
        if criterion in experiment.criteria[:index]:
            what = f"criterion '{criterion}' stands here twice"
            raise document.error(("criteria", index), what, "remove one")
        if criterion.relative and not experiment.baseline:
            what = f"criterion '{criterion}': the spec names no baseline"
            remedy = "name one of its cells, as 'baseline: {workers: 1}'"
            raise document.error(("criteria", index), what, remedy)
    if all(criterion.relative for criterion in experiment.criteria):
        what = "every criterion is relative, so the baseline itself is held against nothing"
        raise document.error(("criteria",), what, "add one with a bound of its own, as p95 < 10 s")


def _check_asked(document: Document, experiment: Experiment, loads: Mapping[Loc, Load]) -> None:
    """Refuse a criterion on what a load does not ask for, at the criterion, or where it is one
    that a spec has by default, at the load."""
    for index, criterion in enumerate(experiment.criteria):
        for path, load in loads.items():
            if problem := unasked(criterion, load) or _unshown(criterion, load):
                given = "criteria" in document.value
                raise document.error(("criteria", index) if given else path, *problem)


def _unshown(criterion: Criterion, load: Load) -> tuple[str, str] | None:
    """Why no trial under a load can decide a relative criterion, and the remedy; None: one can."""
    of_window = criterion.metric not in STATISTICAL or isinstance(load, OneWindow)
    if of_window or not criterion.relative:
        return None
    what = f"a load of kind {load.kind} has no window that says how well {criterion.name} is known"
    return f"criterion '{criterion}': {what}", "give the load users or a rate"


def _check_early_end(document: Document, experiment: Experiment) -> None:
    if experiment.stop_when_decided and not isinstance(experiment.load, OneWindow):
        what = f"a load of kind {experiment.load.kind} has no window that could end early"
        raise document.error(
            ("stop_when_decided",),
            f"'stop_when_decided': {what}",
            "leave it out, or give the load users or a rate",
        )


def _loads(document: Document, experiment: Experiment) -> Iterator[tuple[Loc, Load]]:
    """Every load that is offered, and where it stands: the spec's, and those of its axis."""
    yield ("load",), experiment.load
    axis = experiment.matrix.get("load", {})
    for label, keys in axis.items() if isinstance(axis, dict) else ():
        path: Loc = ("matrix", "load", label)
        try:
            yield path, varied(experiment.load, keys)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = next((part for part in first["loc"] if part in keys), None)
            message, _, cure = first["msg"].removeprefix("Value error, ").partition("; ")
            what = f"'{key}': {message}" if key else message
            remedy = cure or "give keys of the form of load that `load:` has"
            raise document.error((*path, key) if key else path, what, remedy) from None


def _check_process_faults(
    document: Document,
    experiment: Experiment,
    loads: Iterable[Load],
    faults: Mapping[str, Fault],
) -> None:
    """A process fault has to come while uploads count, and no two on one part at the same time."""
    start, end = min((load.measured for load in loads), key=lambda m: m[1] - m[0])
    planned = [
        (("faults", index), fault)
        for index, name in enumerate(experiment.faults)
        if (fault := faults[name].process_fault)
    ]
    for path, fault in planned:
        if fault.at >= end - start:
            what = f"{fault.fault} comes {format_duration(fault.at)} into the window"
            what += f", which is {format_duration(end - start)} long"
            raise document.error(path, what, "make the window longer, or leave the fault out")
    for (_, first), (path, second) in combinations(planned, 2):
        if first.overlaps(second):
            what = f"{first.fault} and {second.fault} hit {second.part} at the same time"
            raise document.error(path, what, "leave one out, or give it another time")
