"""JUnit XML: a cell is a test case, as servers of continuous integration show them.

    held       passed             invalid, damaged      error
    broke      failure            undecided, missing    skipped

JUnit has no specification of its own: what is written is what Jenkins' schema (junit-10.xsd of its
xunit plugin) takes, which GitLab, GitHub's reporters and Azure read too. ``time`` is the real-world
seconds of the load.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime

from lab.model.load import load_of_spec
from lab.model.run import CellResult
from lab.model.text import clean_line
from lab.model.verdict import Outcome
from lab.report import format
from lab.report.exports.run import ExportedCell, ExportedRun, Format

ELEMENTS: Mapping[Outcome, str] = {
    Outcome.BROKE: "failure",
    Outcome.INVALID: "error",
    Outcome.UNDECIDED: "skipped",
}
"""What stands in the test case of a cell that did not hold."""

SHOWN = ("attempts", "throughput", "p50", "p95", "p99", "error_rate")
"""The figures that the output of a test case has."""


def written(run: ExportedRun) -> Iterator[bytes]:
    """The document."""
    name = run.info.experiment.experiment
    seconds = sum(_seconds(cell.result) for cell in run.cells)
    counts = Counter(ELEMENTS.get(cell.result.verdict, "") for cell in run.cells)
    counts += Counter({"error": len(run.damaged), "skipped": len(run.missing)})
    tests = len(run.cells) + len(run.damaged) + len(run.missing)
    told = {
        "name": name,
        "time": f"{seconds:.3f}",
        "tests": tests,
        "failures": counts["failure"],
        "errors": counts["error"],
    }
    of_suite = {**told, "skipped": counts["skipped"], **_timestamp(run)}
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f"<testsuites{_attributes(told)}>",
        f"<testsuite{_attributes(of_suite)}>",
        *_properties(run),
    ]
    yield _encoded(lines)
    for cell in run.cells:
        yield _encoded(_case(cell, name))
    for damaged in run.damaged:
        yield _encoded(_apart(damaged.id, name, "error", damaged.problem))
    for missing in run.missing:
        yield _encoded(_apart(missing, name, "skipped", "not finished"))
    yield _encoded(["</testsuite>", "</testsuites>"])


def _encoded(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _attributes(values: Mapping[str, object]) -> str:
    return "".join(f' {name}="{_escaped(clean_line(str(v)))}"' for name, v in values.items())


def _escaped(text: str) -> str:
    """Text as XML: two characters of Unicode's, which are none, it cannot hold."""
    return html.escape(text.replace("\ufffe", "?").replace("\uffff", "?"), quote=True)


def _timestamp(run: ExportedRun) -> dict[str, str]:
    """When the run began, as the schemas have it: ISO 8601, without a zone."""
    try:
        return {"timestamp": f"{datetime.fromisoformat(run.info.started):%Y-%m-%dT%H:%M:%S}"}
    except ValueError:
        return {}


def _properties(run: ExportedRun) -> list[str]:
    info = run.info
    told = {"run": info.name, "stack": info.stack, "speed": info.speed, "revision": info.git}
    told |= {f"version.{name}": version for name, version in info.versions.items()}
    told |= {f"machine.{name}": value for name, value in info.machine.items()}
    rows = [f"<property{_attributes({'name': n, 'value': v})}/>" for n, v in told.items()]
    return ["<properties>", *rows, "</properties>"]


def _seconds(result: CellResult) -> float:
    return load_of_spec(result.load).measured[1]


def _case(of: ExportedCell, classname: str) -> list[str]:
    result = of.result
    case = {"classname": classname, "name": result.id, "time": f"{_seconds(result):.3f}"}
    lines = [f"<testcase{_attributes(case)}>"]
    if element := ELEMENTS.get(result.verdict):
        lines.append(_element(element, result.reasons, _type(result)))
    figures = [
        f"{name}: {format.metric(name, result.metrics[name])}"
        for name in (format.of_main(name, result) for name in SHOWN)
        if name in result.metrics
    ]
    out = "\n".join(map(clean_line, (f"verdict: {result.verdict}", *figures)))
    return [*lines, f"<system-out>{_escaped(out)}</system-out>", "</testcase>"]


def _type(result: CellResult) -> str:
    """By what a server groups failures: the limit, or for what the cell is invalid."""
    if result.verdict is Outcome.INVALID:
        return result.invalid[0].kind if result.invalid else str(result.verdict)
    return str(result.limit.resource) if result.limit else str(result.verdict)


def _element(name: str, reasons: tuple[str, ...], kind: str) -> str:
    message = reasons[0] if reasons else "no reason is stored"
    body = "\n".join(map(clean_line, reasons))
    attributes = _attributes({"message": message, "type": kind})
    return f"<{name}{attributes}>{_escaped(body)}</{name}>"


def _apart(cell_id: str, classname: str, element: str, why: str) -> list[str]:
    """A cell of which there is no result."""
    case = _attributes({"classname": classname, "name": cell_id})
    return [f"<testcase{case}>", _element(element, (why,), element), "</testcase>"]


FORMAT = Format("a cell is a test case, for a CI server", {"junit.xml": written})
