"""The fault files to Faults."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lab.config.document import Document, read_document
from lab.config.explain import validated
from lab.errors import SpecError
from lab.model.fault import Fault
from lab.model.suggest import suggest

OF_PROXY = ("down", "toxics")
OF_PART = ("strike", "at", "for")


def read_fault(file: Path) -> Fault:
    """Read one fault file.

    Raises:
        SpecError: anything wrong with it, as ``file:line:column: what - remedy``; also a
            name that is not the file's.
    """
    document = read_document(file)
    fault = validated(Fault, document)
    if fault.fault != file.stem:
        what = f"the fault is called '{fault.fault}', the file '{file.stem}'"
        raise document.error(("fault",), what, f"write 'fault: {file.stem}', or rename the file")
    if fault.proxy and fault.part:
        what = "'proxy' and 'part' cannot both be: a fault has one place"
        raise document.error(("part",), what, "make it two faults", at_key=True)
    if fault.proxy:
        _check_proxy(document, fault)
    elif fault.part:
        _check_process_fault(document, fault)
    else:
        remedy = "give it a proxy with toxics or `down: true`, or a part with strike, at and for"
        raise document.error((), "the fault has no place", remedy)
    return fault


def fault_problem(name: str, known: Iterable[str]) -> tuple[str, str] | None:
    """What is wrong with a fault's name, and the remedy; None if nothing is."""
    return None if name in known else (f"there is no fault '{name}'", suggest(name, known))


def read_faults(folder: Path) -> dict[str, Fault]:
    """Read every ``*.yaml`` of a folder; by name, in the order of names.

    Raises:
        SpecError: no such folder, or the first file that is wrong.
    """
    if not folder.is_dir():
        raise SpecError("no such folder", "faults are read from it, one a file", str(folder))
    return {file.stem: read_fault(file) for file in sorted(folder.glob("*.yaml"))}


def _check_proxy(document: Document, fault: Fault) -> None:
    _refuse(document, OF_PART, "a proxy", "give it toxics or `down: true`")
    if fault.down and fault.toxics:
        what = "'down' and 'toxics' cannot both be: nothing passes a proxy that is down"
        raise document.error(("down",), what, "keep one of the two", at_key=True)
    if not fault.down and not fault.toxics:
        raise document.error((), "the fault does nothing", "give it toxics, or `down: true`")


def _check_process_fault(document: Document, fault: Fault) -> None:
    _refuse(document, OF_PROXY, "a part", "give it strike, at and for")
    for key in OF_PART:
        if key not in document.value:
            raise document.error((), f"a fault of a part has no '{key}'", "add it")
    if fault.lasts == 0 and fault.action != "restart":
        what = f"a {fault.action} that lasts no time leaves no trace"
        raise document.error(("for",), what, "give it some, as 5 s; a restart alone may take none")
    if (fault.part, fault.action) == ("postgres", "kill"):
        # Its synchronous_commit is off, because the write takes its time from the distance.
        what = "a killed postgres forgets commits that it has acknowledged"
        raise document.error(("strike",), what, "restart, stop or pause it")


def _refuse(document: Document, keys: tuple[str, ...], place: str, remedy: str) -> None:
    """Refuse the keys of the other form."""
    for key in keys:
        if key in document.value:
            what = f"'{key}' is not a key of a fault of {place}"
            raise document.error((key,), what, remedy, at_key=True)
