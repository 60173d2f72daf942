"""A lesson, or a stored run, as a Jupyter notebook: it measures, or loads, and shows the figures.

The document is of format 4.5 (nbformat), written as plain JSON, so that no package is needed to
make one. A lesson's notebook asks, runs ``lab learn`` and shows what it explains; a run's loads it
with ``lab.load_run``.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from lab.lessons.figures import rendered, sources
from lab.lessons.views import code, question, task
from lab.model.lessons import READ, LessonFolder

Cell = dict[str, Any]


def lesson_notebook(folder: LessonFolder) -> str:
    """A lesson as a notebook; its cells go on only once the answer is filled in."""
    first = next(iter(folder.lesson.prediction.choices or {}), "1.0")
    number = folder.number
    changed = next(iter(folder.lesson.may_change))
    return _document(
        [
            _text(rendered(folder.texts[READ], sources(folder))),
            _text(question(folder)),
            _code(f'ANSWER = ""  # your prediction, as "{first}"'),
            _code(
                "import json\nimport subprocess\nimport sys\n\n"
                "from IPython.display import Markdown, display\n\n\n"
                "def learn(*words):\n"
                '    """Run `lab learn` and show what it says; progress is on standard error."""\n'
                '    lab = [sys.executable, "-m", "lab", "learn"]\n'
                f'    command = [*lab, "{number}", "--json", *words]\n'
                "    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)\n"
                "    if not done.stdout:\n"
                '        raise SystemExit(f"lab learn ended with {done.returncode}")\n'
                "    told = json.loads(done.stdout)\n"
                '    display(Markdown("\\n\\n".join(part["markdown"] for part in told["parts"])))\n'
                "    return told"
            ),
            _code('assert ANSWER, "answer first"\ntold = learn("--answer", ANSWER, "--again")'),
            _code(
                'import lab\n\nrun = lab.load_run(told["run"])\n'
                "[cell] = run.summary().cells\n"
                "{name: cell.metrics.get(name) for name in"
                ' ("throughput", "p50", "p95", "error_rate", "gcs_latency")}'
            ),
            _text(task(folder)),
            _text(code(folder)),
            _code(
                f'CHANGE = []  # your change, as ["--set", "{changed}=…"]\n'
                'checked = learn("--check", *CHANGE) if CHANGE else None'
            ),
        ],
        f"lesson-{number}",
    )


def run_notebook(path: str, title: str) -> str:
    """A stored run as a notebook.

    Args:
        path: the run's folder.
        title: what it is called.
    """
    return _document(
        [
            _text(f"# {title}\n\nA stored run of the replica lab; nothing is measured anew."),
            _code(f"import lab\n\nrun = lab.load_run({path!r})\nsummary = run.summary()"),
            _code("{cell.id: (str(cell.verdict), *cell.reasons[:1]) for cell in summary.cells}"),
            _code(
                'SHOWN = ("attempts", "throughput", "p50", "p95", "error_rate")\n'
                "{cell.id: {name: cell.metrics.get(name) for name in SHOWN}"
                " for cell in summary.cells}"
            ),
            _code(
                "# every upload and every reading of a cell\n"
                "seen = run.cell(summary.cells[0].id).read_observation()"
                " if summary.cells else None\n"
                "len(seen.samples) if seen else 0"
            ),
        ],
        title,
    )


def _document(cells: list[Cell], name: str) -> str:
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


def _text(source: str) -> Cell:
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def _code(source: str) -> Cell:
    return {
        "cell_type": "code",
        "metadata": {},
        "source": source,
        "execution_count": None,
        "outputs": [],
    }
