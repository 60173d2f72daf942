"""A browser, and pages of stored runs in it.

It is the Chromium that is on PATH; without one, or without Playwright, a test is skipped.
LAB_REQUIRE_CHROMIUM=1 lets it fail instead.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from lab.report import html_report
from lab.store import RunFolder
from tests.fakes import pictured_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def _missing(why: str) -> NoReturn:
    if os.environ.get("LAB_REQUIRE_CHROMIUM") == "1":
        pytest.fail(why)
    pytest.skip(why)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, without a window; while it is there no test of this process can run an event loop,
    so it ends with its file."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _missing("Playwright is not installed: make setup")
    program = shutil.which("chromium")
    if program is None:
        _missing("there is no chromium on PATH: apt-get install chromium fonts-dejavu-core")
    with sync_playwright() as playwright:
        # Its sandbox needs rights that root, or a container, has not; pages here are our own.
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A matrix of twelve cells, each with everything that a picture is made of."""
    return pictured_run.stored(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="session")
def staged(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Two cells whose load goes up in stages."""
    chosen = pictured_run.cells(12)[:2]
    return pictured_run.stored(tmp_path_factory.mktemp("staged"), chosen, staged=True)


def page_of(stored: RunFolder) -> Path:
    """The run's page, as a file."""
    path = stored.path / "report.html"
    path.write_text(html_report(stored.summary(), stored.info), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def matrix(run: RunFolder) -> Path:
    """The page of the matrix."""
    return page_of(run)


@pytest.fixture(scope="session")
def stages(staged: RunFolder) -> Path:
    """The page of the load in stages."""
    return page_of(staged)
