"""A lesson as a Jupyter notebook: it asks, runs ``lab learn``, and shows what that explains."""

from __future__ import annotations

from lab.lessons.figures import rendered, sources
from lab.lessons.views import code, question, task
from lab.model.lessons import READ, LessonFolder
from lab.report.notebooks import code_cell, notebook, text_cell


def lesson_notebook(folder: LessonFolder) -> str:
    """A lesson as a notebook; its cells go on only once the answer is filled in."""
    first = next(iter(folder.lesson.prediction.choices or {}), "1.0")
    number = folder.number
    changed = next(iter(folder.lesson.may_change))
    return notebook(
        [
            text_cell(rendered(folder.texts[READ], sources(folder))),
            text_cell(question(folder)),
            code_cell(f'ANSWER = ""  # your prediction, as "{first}"'),
            code_cell(
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
            code_cell('assert ANSWER, "answer first"\ntold = learn("--answer", ANSWER, "--again")'),
            code_cell(
                'import lab\n\nrun = lab.load_run(told["run"])\n'
                "[cell] = run.summary().cells\n"
                "{name: cell.metrics.get(name) for name in"
                ' ("throughput", "p50", "p95", "error_rate", "gcs_latency")}'
            ),
            text_cell(task(folder)),
            text_cell(code(folder)),
            code_cell(
                f'CHANGE = []  # your change, as ["--set", "{changed}=…"]\n'
                'checked = learn("--check", *CHANGE) if CHANGE else None'
            ),
        ],
        f"lesson-{number}",
    )
