"""A spec file to an Experiment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path

from pydantic import ValidationError

from lab.config.document import Document, Loc, read_document
from lab.config.explain import nearest, validated
from lab.config.knobs import check_knobs
from lab.model.experiment import SCHEMA, Experiment
from lab.model.fault import Fault
from lab.model.load import Load, StagesLoad, varied
from lab.model.replica import STUDENTS
from lab.model.units import format_duration


def read_experiment(file: Path, faults: Mapping[str, Fault] | None = None) -> Experiment:
    """Read a spec.

    Args:
        file: the YAML file.
        faults: the faults there are, by name, to hold the spec's against; None leaves that
            to whoever expands it.

    Raises:
        SpecError: anything wrong with it, as ``file:line:column: what - remedy``.
    """
    document = read_document(file)
    _check_schema(document)
    check_knobs(document)
    experiment = validated(Experiment, document)
    _check_faults(document, experiment, faults)
    loads = []
    for path, load in _loads(document, experiment):
        _check_load(document, path, load)
        loads.append(load)
    _check_strikes(document, experiment, loads, faults or {})
    return experiment


def _check_schema(document: Document) -> None:
    schema = document.value.get("schema", SCHEMA)
    if isinstance(schema, int) and schema > SCHEMA:
        what = f"was written for a later lab (schema {schema}; this one reads {SCHEMA})"
        raise document.error(("schema",), what, "upgrade the lab")


def _check_faults(
    document: Document, experiment: Experiment, faults: Mapping[str, Fault] | None
) -> None:
    for index, name in enumerate(experiment.faults):
        path: Loc = ("faults", index)
        if name in experiment.faults[:index]:
            raise document.error(path, f"fault '{name}' stands here twice", "remove one")
        if faults is not None and name not in faults:
            raise document.error(path, f"there is no fault '{name}'", nearest(name, faults))


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
            named = next((part for part in first["loc"] if part in keys), None)
            what = f"'{named}': {first['msg']}" if named else first["msg"]
            remedy = "give keys of the form of load that `load:` has"
            raise document.error((*path, named) if named else path, what, remedy) from None


def _check_load(document: Document, path: Loc, load: Load) -> None:
    if load.peak_users > STUDENTS:
        what = f"the load may have {load.peak_users} users at once; there are {STUDENTS} students"
        raise document.error(path, what, "lower the rate or the timeout")
    if isinstance(load, StagesLoad):
        if load.measured[1] <= 0:
            remedy = "give a stage `over` or `hold`"
            raise document.error((*path, "stages"), "the stages take no time at all", remedy)
        for index, stage in enumerate(load.stages):
            if stage.over + stage.hold <= 0:
                what = f"stage {index + 1} of {len(load.stages)} takes no time"
                raise document.error((*path, "stages", index), what, "give it `over` or `hold`")
        if load.peak_users == 0:
            remedy = "give a stage `users` of 1 or more"
            raise document.error((*path, "stages"), "no stage has any users", remedy)


def _check_strikes(
    document: Document,
    experiment: Experiment,
    loads: Sequence[Load],
    faults: Mapping[str, Fault],
) -> None:
    """Each strike has to come while uploads count, and none on a part that another has struck."""
    start, end = min((load.measured for load in loads), key=lambda m: m[1] - m[0])
    named = {("faults", index): faults.get(name) for index, name in enumerate(experiment.faults)}
    strikes = [
        (path, fault.process_fault)
        for path, fault in named.items()
        if fault and fault.process_fault
    ]
    for path, strike in strikes:
        if strike.at >= end - start:
            what = f"{strike.fault} strikes {format_duration(strike.at)} into the window"
            what += f", which is {format_duration(end - start)} long"
            raise document.error(path, what, "make the window longer, or leave the fault out")
    for (_, first), (path, second) in combinations(strikes, 2):
        if first.overlaps(second):
            what = f"{first.fault} and {second.fault} strike {second.part} at the same time"
            raise document.error(path, what, "leave one out, or strike at another time")
