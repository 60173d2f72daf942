"""The fault files to Faults."""

from __future__ import annotations

from pathlib import Path

from lab.errors import SpecError
from lab.model.fault import Fault
from lab.spec.document import read_document
from lab.spec.explain import validated


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
    if fault.down and fault.toxics:
        what = "'down' and 'toxics' cannot both be: nothing passes a proxy that is down"
        raise document.error(("down",), what, "keep one of the two", at_key=True)
    if not fault.down and not fault.toxics:
        raise document.error((), "the fault does nothing", "give it toxics, or `down: true`")
    return fault


def read_faults(folder: Path) -> dict[str, Fault]:
    """Read every ``*.yaml`` of a folder; by name, in the order of names.

    Raises:
        SpecError: no such folder, or the first file that is wrong.
    """
    if not folder.is_dir():
        raise SpecError("no such folder", "faults are read from it, one a file", str(folder))
    return {file.stem: read_fault(file) for file in sorted(folder.glob("*.yaml"))}
