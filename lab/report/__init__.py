"""A stored run as text: terminal, Markdown and HTML; the lab's tables; the live line.

Everything here is a pure function of what is stored, but for `LiveLine`, which writes to
the stream that it is given.
"""

from lab.report.answers import answered
from lab.report.progress import LiveLine
from lab.report.reports import (
    Entry,
    cell_details,
    end_table,
    html_report,
    markdown_report,
    overview,
)
from lab.report.terminal import Style
from lab.report.thresholds import news

__all__ = [
    "Entry",
    "LiveLine",
    "Style",
    "answered",
    "cell_details",
    "end_table",
    "html_report",
    "markdown_report",
    "news",
    "overview",
]
