"""The styles of a report, for pages that are no report but look like one."""

from __future__ import annotations

import re

from jinja2 import Environment, PackageLoader

_SHEET = re.compile(r"<style>(.*?)</style>", re.DOTALL)


def style_sheet() -> str:
    """The style sheet that every report has inside."""
    environment = Environment(loader=PackageLoader("lab.report"), autoescape=True)
    return "\n".join(_SHEET.findall(environment.get_template("style.html.j2").render()))
