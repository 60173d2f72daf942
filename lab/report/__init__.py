"""A stored run as text: terminal, Markdown and HTML; the lab's tables; the live line.

Everything here is a pure function of what is stored, but for `LiveLine`, which writes to
the stream that it is given. A name is imported when it is first asked for: who prints a table
does not wait for the judge.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lab.report.answers import answered as answered
    from lab.report.claims import ledger_markdown as ledger_markdown
    from lab.report.claims import ledger_text as ledger_text
    from lab.report.compare import comparison_html as comparison_html
    from lab.report.compare import comparison_markdown as comparison_markdown
    from lab.report.compare import comparison_text as comparison_text
    from lab.report.diagnoses import diagnosis_news as diagnosis_news
    from lab.report.progress import LiveLine as LiveLine
    from lab.report.reports import Document as Document
    from lab.report.reports import Entry as Entry
    from lab.report.reports import cell_details as cell_details
    from lab.report.reports import end_table as end_table
    from lab.report.reports import html_report as html_report
    from lab.report.reports import markdown_report as markdown_report
    from lab.report.reports import overview as overview
    from lab.report.reports import step_summary as step_summary
    from lab.report.terminal import Style as Style
    from lab.report.thresholds import news as news
    from lab.report.thresholds import standings as standings

_MODULES = {
    "answered": "answers",
    "ledger_markdown": "claims",
    "ledger_text": "claims",
    **dict.fromkeys(("comparison_html", "comparison_markdown", "comparison_text"), "compare"),
    "diagnosis_news": "diagnoses",
    "LiveLine": "progress",
    "Style": "terminal",
    "news": "thresholds",
    "standings": "thresholds",
}
_OF_REPORTS = (
    *("Document", "Entry"),
    *("cell_details", "end_table", "html_report", "markdown_report", "overview", "step_summary"),
)


def __getattr__(name: str) -> Any:
    module = "reports" if name in _OF_REPORTS else _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)
