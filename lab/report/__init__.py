"""A stored run as text: terminal, Markdown, HTML and JSON; the lab's tables; the live line.

Everything here is a pure function of what is stored, but for `LiveLine`, which writes to
the stream that it is given.
"""

from lab.report.answers import answered
from lab.report.details import cell_details
from lab.report.html import html_report, thresholds_html
from lab.report.markdown import markdown_report, thresholds_markdown
from lab.report.overview import Entry, overview
from lab.report.progress import LiveLine
from lab.report.style import Style
from lab.report.terminal import end_table
from lab.report.thresholds import news, sentence, threshold_details, thresholds_text

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
    "sentence",
    "threshold_details",
    "thresholds_html",
    "thresholds_markdown",
    "thresholds_text",
]
