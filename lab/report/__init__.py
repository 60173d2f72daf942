"""A stored run as text: terminal, Markdown, HTML and JSON; the lab's tables; the live line.

Everything here is a pure function of what is stored, but for `LiveLine`, which writes to
the stream that it is given.
"""

from lab.report.details import cell_details
from lab.report.html import html_report
from lab.report.markdown import markdown_report
from lab.report.progress import LiveLine
from lab.report.style import Style
from lab.report.terminal import end_table

__all__ = ["LiveLine", "Style", "cell_details", "end_table", "html_report", "markdown_report"]
