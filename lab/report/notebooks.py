"""A stored run as a Jupyter notebook, and what any notebook of the lab's is made of.

The document is of format 4.5 (nbformat), written as plain JSON, so that no package is needed to
make one. It loads the run with ``lab.load_run``; nothing is measured anew.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

NotebookCell = dict[str, Any]


def run_notebook(run: str, title: str) -> str:
    """A stored run as a notebook.

    Args:
        run: its folder, or its name, as ``lab.load_run`` takes it.
        title: what it is called.
    """
    return notebook(
        [
            text_cell(f"# {title}\n\nA stored run of the replica lab; nothing is measured anew."),
            code_cell(f"import lab\n\nrun = lab.load_run({run!r})\nsummary = run.summary()"),
            code_cell(
                "{cell.id: (str(cell.verdict), *cell.reasons[:1]) for cell in summary.cells}"
            ),
            code_cell(
                'SHOWN = ("attempts", "throughput", "p50", "p95", "error_rate")\n'
                "{cell.id: {name: cell.metrics.get(name) for name in SHOWN}"
                " for cell in summary.cells}"
            ),
            code_cell(
                "# every upload and every reading of a cell\n"
                "seen = run.cell(summary.cells[0].id).read_observation()"
                " if summary.cells else None\n"
                "len(seen.samples) if seen else 0"
            ),
        ],
        title,
    )


def notebook(cells: list[NotebookCell], name: str) -> str:
    """The notebook of these cells; the ids follow from their place, so it is the same each time."""
    for number, cell in enumerate(cells):
        cell["id"] = hashlib.sha256(f"{name}/{number}".encode()).hexdigest()[:12]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    document = {
        "cells": cells,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def text_cell(source: str) -> NotebookCell:
    """Markdown."""
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def code_cell(source: str) -> NotebookCell:
    """Python, not run yet."""
    return {
        "cell_type": "code",
        "metadata": {},
        "source": source,
        "execution_count": None,
        "outputs": [],
    }
