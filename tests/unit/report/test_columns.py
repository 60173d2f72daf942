"""Which figures a report shows: of the VM, of Cloud Run, and of both beside each other."""

from __future__ import annotations

import re

import pytest

from lab.model.run import RunInfo, Summary
from lab.model.verdict import Finding
from lab.report import Style, end_table, html_report, markdown_report
from tests.fakes import sample_run as sample

CLOUDRUN = {
    "succeeded": 3.0,
    "throughput": 0.231,
    "p50": 7.48,
    "p95": 10.8,
    "error_rate": 0.94,
    "errors.no_instance": 45.0,
    "errors.instance_died": 1.0,
    "errors.request_timeout": 2.0,
    "cold_starts": 4.0,
    "queue_wait": 4.87,
    "memory_instance": 174e6,
    "oom_kills": 5.0,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Summary, RunInfo]:
    stored = sample.stored(tmp_path_factory.mktemp("results"), finished=2)
    return stored.summary(), stored.info


def shown(run: tuple[Summary, RunInfo], *targets: str) -> Summary:
    """Two cells of which the target is the axis."""
    cells = [
        cell.model_copy(
            update={
                "id": f"target={target}",
                "axes": {"target": target},
                "target": target,
                "metrics": CLOUDRUN if target == "cloudrun" else cell.metrics,
            }
        )
        for cell, target in zip(run[0].cells, targets, strict=True)
    ]
    return run[0].model_copy(update={"cells": tuple(cells), "missing": ()})


def row(text: str, of: str, between: str | None) -> list[str]:
    line = next(line for line in text.splitlines() if line.strip(" |").startswith(of))
    return [cell.strip() for cell in line.strip("|").split(between)]


def test_a_run_on_the_vm_has_no_column_of_cloud_run(run: tuple[Summary, RunInfo]) -> None:
    of = shown(run, "vm", "vm")
    for text in (
        end_table(of, run[1], "x", Style(130)),
        markdown_report(of, run[1]),
        html_report(of, run[1]),
    ):
        assert "cold" not in text
        assert "429" not in text


def test_on_cloud_run_fates_and_instances_stand_in_place_of_rate_and_connections(
    run: tuple[Summary, RunInfo],
) -> None:
    of = shown(run, "cloudrun", "cloudrun")
    text = end_table(of, run[1], "x", Style(140))
    head = next(line for line in text.splitlines() if line.startswith("verdict"))
    assert " ".join(head.split()) == (
        "verdict served 429 503 504 p50 s p95 s led by cold wait s memory OOM why"
    )
    assert " ".join(row(text, "x broke", None)).startswith(
        "x broke 3 45 1 2 7.48 10.8 no_instance 45 4 4.87 174 MB 5"
    )


@pytest.mark.parametrize("width", [60, 80, 100, 130, 200])
def test_both_targets_stand_in_one_table_at_every_width(
    run: tuple[Summary, RunInfo], width: int
) -> None:
    text = end_table(shown(run, "vm", "cloudrun"), run[1], "x", Style(width))
    assert max(map(len, text.splitlines())) <= width
    assert text.isascii()
    flat = " ".join(text.split())
    for figure in ("0.231", "7.48", "94 %", "45", "4.87", "174 MB"):
        assert figure in flat


def test_a_run_of_both_shows_the_connections_too(run: tuple[Summary, RunInfo]) -> None:
    text = end_table(shown(run, "vm", "cloudrun"), run[1], "x", Style(300))
    assert re.search(r"\bled by +pg +served\b", text)


def test_what_a_target_has_not_is_a_dash(run: tuple[Summary, RunInfo]) -> None:
    text = markdown_report(shown(run, "vm", "cloudrun"), run[1])
    heads = row(text, "target", "|")
    vm = dict(zip(heads, row(text, "vm", "|"), strict=True))
    cloudrun = dict(zip(heads, row(text, "cloudrun", "|"), strict=True))
    assert (vm["refused (429)"], vm["cold starts"], vm["memory peak"]) == ("-", "-", "-")
    assert (cloudrun["refused (429)"], cloudrun["died (503)"], cloudrun["timed out (504)"]) == (
        "45",
        "1",
        "2",
    )
    assert (cloudrun["cold starts"], cloudrun["OOM kills"]) == ("4", "5")
    assert (cloudrun["queued"], cloudrun["memory peak"]) == ("4.87 s", "174 MB")


@pytest.mark.parametrize(
    "targets", [("vm", "vm"), ("cloudrun", "cloudrun"), ("vm", "cloudrun")], ids="-".join
)
def test_every_form_shows_the_same_columns(
    run: tuple[Summary, RunInfo], targets: tuple[str, str]
) -> None:
    of = shown(run, *targets)
    matrix = html_report(of, run[1]).split('<table class="matrix">')[1].split("</thead>")[0]
    page = re.findall(r"<th[^>]*>(.*?)</th>", matrix)
    document = row(markdown_report(of, run[1]).split("\n\n| ")[1], page[0], "|")
    lines = end_table(of, run[1], "x", Style(300)).splitlines()
    terminal = next(line for line in lines if "verdict  " in line).split("  ")
    assert page == document
    assert len([head for head in terminal if head]) == len(page)


def test_the_page_has_them_too(run: tuple[Summary, RunInfo]) -> None:
    page = html_report(shown(run, "vm", "cloudrun"), run[1])
    for cell in (
        '<td class="n" data-label="refused (429)">45</td>',
        '<td class="n" data-label="refused (429)">-</td>',
        '<td class="n" data-label="memory peak">174 MB</td>',
    ):
        assert cell in page


@pytest.mark.parametrize(
    ("criterion", "metric", "value", "head", "text"),
    [
        ("wasted < 5 %", "wasted", 0.31, "wasted", "31 %"),
        ("errors.body_too_large == 0", "oversize", 0.172, "too large", "17 %"),
        ("probe_restarts == 0", "probe_restarts", 2.0, "restarts", "2"),
    ],
)
def test_a_figure_that_is_asked_for_has_a_column(
    run: tuple[Summary, RunInfo], criterion: str, metric: str, value: float, head: str, text: str
) -> None:
    of = shown(run, "vm", "cloudrun")
    assert head not in heads_of(markdown_report(of, run[1]))
    asked = Finding(criterion=criterion, outcome="missed", value=value, reason="")
    cells = [
        cell.model_copy(update={"findings": (asked,), "metrics": {metric: value}})
        for cell in of.cells
    ]
    report = markdown_report(of.model_copy(update={"cells": tuple(cells)}), run[1])
    assert dict(zip(heads_of(report), row(report, "vm", "|"), strict=True))[head] == text


def heads_of(report: str) -> list[str]:
    """The titles of a document's first table."""
    return row(report.partition("\n\n| ")[2], "target", "|")
