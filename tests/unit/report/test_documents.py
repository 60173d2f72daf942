from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from lab.model.run import RunInfo, Summary, as_json
from lab.report import html_report, markdown_report
from lab.report.vendor import UPLOT, text_of
from lab.store import RunFolder
from tests.fakes import sample_run as sample

HOSTILE = '<script>alert(1)</script> | *a* `b` & "c"'

RENDER = """
import sys
from pathlib import Path
from lab.report import Style, cell_details, end_table, html_report, markdown_report
from lab.store import find
run = find(Path(sys.argv[1]), "latest")
summary, info = run.summary(), run.info
text = [end_table(summary, info, "results", Style(100, True)), html_report(summary, info)]
text += [markdown_report(summary, info), *(cell_details(c, Style(80)) for c in summary.cells)]
sys.stdout.buffer.write("\\0".join(text).encode())
"""


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return sample.stored(tmp_path_factory.mktemp("results"))


class Page(HTMLParser):
    """Collects the tags, links and targets of a page, and checks that tags close in order."""

    VOID = frozenset({"meta", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: set[str] = set()
        self.ids: set[str] = set()
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "href":
                self.links.add(value or "")
            if name == "id":
                self.ids.add(value or "")
            if name in ("src", "srcset", "action") or name.startswith("on"):
                self.loads.append(name)

    def handle_startendtag(self, tag: str, _attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def without_vendored(text: str) -> str:
    """A page without what others wrote, which may name its home."""
    return text.replace(text_of(UPLOT, "uPlot.iife.min.js"), "").replace("http-equiv", "")


def test_the_page_is_whole_and_its_links_lead_somewhere(stored: RunFolder) -> None:
    page = Page(html_report(stored.summary(), stored.info))
    assert page.open == []
    assert page.tags.count("details") == 12 + page.tags.count("figure") + 1  # and the meanings
    targets = {link.removeprefix("#") for link in page.links}
    assert targets == {f"cell-{number}" for number in range(1, 13)}
    assert targets <= page.ids


def test_the_page_needs_no_network(stored: RunFolder) -> None:
    text = html_report(stored.summary(), stored.info)
    page = Page(text)
    assert page.loads == []
    assert not {"link", "img", "iframe"} & set(page.tags)
    assert page.tags.count("script") == 1  # the figures: there is nothing over time to zoom
    assert set(re.findall(r"url\((.)", text)) == {"#"}
    assert "@import" not in text
    assert "http" not in without_vendored(text)
    assert "default-src &#39;none&#39;; script-src &#39;none&#39;" in text


def _hostile(stored: RunFolder) -> tuple[Summary, RunInfo]:
    summary = stored.summary()
    cell = summary.cells[0].model_copy(
        update={"id": HOSTILE, "reasons": (HOSTILE,), "axes": {HOSTILE: HOSTILE}}
    )
    changed = summary.model_copy(update={"cells": (cell,), "about": HOSTILE, "missing": (HOSTILE,)})
    return changed, stored.info.model_copy(update={"spec_file": HOSTILE, "git": HOSTILE})


def test_text_from_outside_is_escaped_in_html(stored: RunFolder) -> None:
    text = html_report(*_hostile(stored))
    assert "<script>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert Page(text).open == []


def test_text_from_outside_is_escaped_in_markdown(stored: RunFolder) -> None:
    text = markdown_report(*_hostile(stored))
    assert "<script" not in text.replace("\\<", "")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    matrix = rows[:3]
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in matrix}) == 1


def test_a_strip_is_to_one_scale_and_stays_inside(stored: RunFolder) -> None:
    text = html_report(stored.summary(), stored.info)
    found = re.findall(r'class="range" x="([\d.]+)" y="4" width="([\d.]+)"', text)
    assert len(found) == 12
    ends = [float(x) + float(width) for x, width in found]
    assert max(ends) == pytest.approx(120, abs=0.2)
    assert len(set(re.findall(r'class="mark" x="([\d.]+)"', text))) == 1


def test_the_page_of_a_run_without_cells(stored: RunFolder) -> None:
    ids = stored.info.cells
    empty = stored.summary().model_copy(update={"cells": (), "missing": ids})
    assert "12 not finished" in html_report(empty, stored.info)
    assert "12 cells: 12 not finished" in markdown_report(empty, stored.info)


def test_markdown_holds_every_cell_and_metric(stored: RunFolder) -> None:
    text = markdown_report(stored.summary(), stored.info)
    plain = text.replace("\\", "")
    for cell in stored.summary().cells:
        assert f"## {cell.id}: {cell.verdict}" in plain
    assert "| pg_connections | 25 | peak of the application's backends |" in plain
    assert not re.search(r"\n{3}", text)


def test_a_stored_run_renders_byte_for_byte_the_same(stored: RunFolder) -> None:
    def rendered(**environment: str) -> bytes:
        given = {"PYTHONPATH": os.pathsep.join(sys.path), "PATH": os.environ["PATH"], **environment}
        command = [sys.executable, "-c", RENDER, str(stored.path.parent)]
        return subprocess.run(command, env=given, check=True, capture_output=True).stdout

    first = rendered(PYTHONHASHSEED="1", COLUMNS="40", TZ="UTC")
    second = rendered(PYTHONHASHSEED="2", NO_COLOR="1", TZ="Asia/Tokyo", LC_ALL="C", TERM="dumb")
    assert first == second
    assert first.count(b"\0") == 14


def test_json_is_the_summary_file_exactly(stored: RunFolder) -> None:
    assert as_json(stored.summary()) == (stored.path / "summary.json").read_text()


def test_reports_are_rendered_from_what_is_stored(stored: RunFolder) -> None:
    copy = RunFolder.open(stored.path)
    first = html_report(stored.summary(), stored.info)
    assert html_report(sample.read_summary(copy), copy.info) == first
