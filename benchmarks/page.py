"""How long a run's page takes, and how large it is: 12 cells and 100, beside the same as text.

    page        pictures, tables and figures, as one HTML file
    markdown    the same without pictures

Both of the same stored run, in turn; the median of each. How much more a cell costs on a page of
100 than on one of 12 tells whether a page grows with its cells alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from lab.model.run import RunInfo, Summary
from lab.report import html_report, markdown_report
from tests.fakes import pictured_run

PAGES = {12: (90, 600_000, 2.0), 100: (300, 4_000_000, 10.0)}
"""By number of cells: bins of a series, and what a page may have of bytes and take of seconds."""

ROUNDS = 3

Figures = dict[str, float]


def timed(render: Callable[[Summary, RunInfo], str], summary: Summary, info: RunInfo) -> float:
    """Seconds of one rendering."""
    begun = time.perf_counter()
    render(summary, info)
    return time.perf_counter() - begun


def measure(count: int, bins: int, folder: Path) -> Figures:
    """Bytes of the page, and the seconds of both, of a run of so many cells."""
    stored = pictured_run.stored(folder, pictured_run.cells(count), bins)
    summary, info = stored.summary(), stored.info
    size = len(html_report(summary, info).encode())
    pages, texts = [], []
    for _ in range(ROUNDS):
        pages.append(timed(html_report, summary, info))
        texts.append(timed(markdown_report, summary, info))
    return {"bytes": size, "page_s": median(pages), "markdown_s": median(texts)}


def told(count: int, found: Figures) -> str:
    """A line of one page."""
    _, most_bytes, most_s = PAGES[count]
    ratio = found["page_s"] / found["markdown_s"]
    return (
        f"{count:4} cells  {found['bytes'] / 1000:6.0f} KB of {most_bytes / 1000:.0f}"
        f"  {found['page_s']:6.2f} s of {most_s:g}  {ratio:5.1f} x markdown"
    )


def main() -> int:
    """Measure both pages and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="the figures as one JSON document")
    arguments = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for count, (bins, *_) in PAGES.items():
            found[count] = measure(count, bins, Path(folder) / str(count))
    few, many = (found[count]["page_s"] / count for count in (12, 100))
    if arguments.json:
        print(json.dumps({"pages": found, "a_cell_of_100_beside_one_of_12": many / few}))
    else:
        print("\n".join(told(count, figures) for count, figures in found.items()))
        print(f"a cell of 100, beside one of 12: {many / few:.2f} x as long")
    return 0


if __name__ == "__main__":
    sys.exit(main())
